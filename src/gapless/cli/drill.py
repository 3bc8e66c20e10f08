"""``gapless drill``: prove a promise against the running stack."""

from __future__ import annotations

from typing import Any

import click

from gapless import errors
from gapless.cli import out
from gapless.cli.session import Session, duration


@click.command()
@click.argument("name", required=False)
@click.option("--requests", type=click.IntRange(min=1), metavar="N", help="At least so many.")
@click.option(
    "--seconds", type=duration, metavar="TIME", help="Begin no new round after this long."
)
@click.option("--path", "paths", multiple=True, metavar="PATH", help="Fast GET path. Repeatable.")
@click.option("--post", multiple=True, metavar="PATH", help="POST path that is safe. Repeatable.")
@click.option("--slow", metavar="PATH", help="A GET path that takes a while and must finish.")
@click.option(
    "--clients",
    type=click.IntRange(min=10),
    metavar="N",
    help="Drill connections: so many instead of all that the machine can hold.",
)
@click.option("--strict", is_flag=True, help="Judge times too: p99 at most doubled.")
@click.option(
    "--points",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Drill controller: kills during deploys; 0: one at every step.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Drills that strike again and again (singleton: 100, crash: 10, hang: 3): how often.",
)
@click.pass_obj
def drill(session: Session, /, name: str | None, **given: Any) -> int:
    """Prove a promise against the running stack; without NAME: list what can be proved.

    Requests go to this stack's own edge and nowhere else; what a drill changes it puts back.
    Exit: 0 held, 1 not held, 2 nothing here to prove it on.
    """
    from gapless import stackfile
    from gapless.drills import base, run

    loaded = stackfile.load(session.file, session.overlay)
    target = base.Target(session.file, session.overlay, loaded.stack)
    if name is None:
        return _list(session, target)
    run.find(name)
    options = base.Options(
        requests=given["requests"],
        seconds=given["seconds"],
        paths=tuple(_path("--path", one) for one in given["paths"]),
        post=tuple(_path("--post", one) for one in given["post"]),
        slow=_path("--slow", given["slow"]) if given["slow"] else None,
        strict=given["strict"],
        clients=given["clients"],
        points=given["points"],
        rounds=given["rounds"],
    )
    if target.production and not session.yes:
        question = f"{session.stack_id} is production. Disturb it under load to prove {name}?"
        click.confirm(question, abort=True, err=True)
    outcome = run.perform(
        name, target, options, session.paths, lambda t: out.progress(out.clean(t))
    )
    if session.json:
        out.as_json(outcome.as_json())
    else:
        for line in report(outcome):
            out.data(out.clean(line))
    return 0 if outcome.held else 1


def _path(option: str, given: str) -> str:
    from gapless.model import units

    try:
        return units.parse_path(given)
    except ValueError as error:
        raise errors.UsageError(f"{option}: {error}") from None


def _list(session: Session, target: Any) -> int:
    from gapless.drills import run
    from gapless.drills.state import State

    entries = run.listing(target, State.of_status(session.client.get("/v1/status")))
    if session.json:
        fields = ("name", "promise", "subject", "missing")
        out.as_json([{field: getattr(one, field) for field in fields} for one in entries])
        return 0
    rows = [(one.name, one.promise, one.subject or f"none: {one.missing}") for one in entries]
    out.data(out.table(("DRILL", "PROMISE", "SUBJECT"), rows))
    return 0


def report(outcome: Any) -> list[str]:
    """The verdict for people."""
    if said := outcome.detail.get("said"):
        return [*said, *_verdict(outcome)]
    traffic, bound = outcome.traffic, outcome.bound
    unknown = f", {traffic.unknown:,} unknown" if traffic.unknown else ""
    lines = []
    if traffic.requests:
        lines.append(f"{traffic.failed:,} of {traffic.requests:,} requests failed{unknown}")
    if traffic.reused_failed:
        lines.append(f"  {traffic.reused_failed:,} of them on a reused connection before any byte")
    lines.append(f"{traffic.handovers:,} handovers in {traffic.seconds:.0f} s")
    if bound["per_request"] is None and bound["per_handover"] is not None:
        lines.append(
            f"so with 95 % confidence fewer than 1 in {1 / bound['per_handover']:,.1f} fail"
        )
    if bound["per_request"] is not None:
        at_most = [f"1 in {1 / bound['per_request']:,.0f} requests"]
        if bound["per_handover"] is not None:
            at_most.append(f"1 in {1 / bound['per_handover']:,.1f} handovers")
        lines.append(f"so with 95 % confidence fewer than {' and '.join(at_most)} fail")
    if traffic.p99 is not None and traffic.baseline_p99 is not None:
        lines.append(
            f"p50 {traffic.p50:.1f} ms, p99 {traffic.p99:.1f} ms; "
            f"p99 before {traffic.baseline_p99:.1f} ms (fast routes, open loop)"
        )
    if traffic.slow_begun:
        lines.append(f"slow requests: {traffic.slow_done} of {traffic.slow_begun} finished")
    sockets = outcome.detail.get("sockets") or {}
    if sockets.get("total"):
        lines.append(
            "{total} sockets: {moved} moved, {draining} still draining, "
            "{dropped} dropped without notice".format(**sockets)
        )
    for fault in outcome.detail.get("faults") or ():
        bad = sum(fault["failed"].values())
        lines.append(
            f"{fault['mode']}: exit {fault['exit']} after {fault['seconds']} s, "
            f"{bad} of {fault['requests']:,} failed: {fault['message']}"
        )
    lines += outcome.detail.get("told") or ()
    failures = (outcome.detail.get("failures") or ())[:5]
    lines += ["  {method} {path}: {kind}: {text} ({phase})".format(**one) for one in failures]
    return [*lines, *_verdict(outcome)]


def _verdict(outcome: Any) -> list[str]:
    verdict = "held" if outcome.held else "NOT HELD"
    return [f"{outcome.drill}: {verdict}", *(f"  {reason}" for reason in outcome.reasons)]


COMMAND = drill
