"""Commands that only look. With a dead controller they look for themselves and say so."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import click

from gapless import __version__, errors
from gapless.cli import out, render
from gapless.cli.session import Session


def status(session: Session) -> dict[str, Any]:
    """The stack's status, from the controller or, when none answers, from what lies around."""

    def look() -> Any:
        from gapless.engine import offline

        return offline.status(session.paths)

    try:
        answer: dict[str, Any] = ask(session, "/v1/status", look)
    except errors.GaplessError as fault:
        if fault.detail.get("error") != errors.Damaged.__name__:
            raise
        # The controller cannot make sense of its state, and what runs can be seen all the same.
        out.progress(fault.message)
        answer = {**look(), "controller": "running"}
    return answer


def ask(session: Session, path: str, otherwise: Callable[[], Any]) -> Any:
    """An answer of the controller, or what ``otherwise`` finds when none answers."""
    try:
        return session.client.get(path, timeout=session.timeout or 10.0)
    except errors.NoController:
        return otherwise()


@click.command()
@click.pass_obj
def ps(session: Session) -> None:
    """State of each replica, store and the edge."""
    answer = status(session)
    if session.json:
        out.as_json(answer)
        return
    out.data(out.clean(render.headline(answer)))
    if rows := render.replica_rows(answer, time.time()):
        out.data("")
        out.show_table(render.REPLICA_HEADS, rows)
    if stores := render.data_rows(answer):
        out.data("")
        out.show_table(render.DATA_HEADS, stores)
    if jobs := render.job_rows(answer):
        out.data("")
        out.show_table(render.JOB_HEADS, jobs)
    if reasons := [*render.loads(answer), *render.troubles(answer)]:
        out.data("")
        for line in reasons:
            out.data(out.clean(line))
    if answer.get("controller") == "dead":
        out.progress(f"hint: {_why_dead(session)}")


def _why_dead(session: Session) -> str:
    from gapless.engine import client, offline

    held = offline.lock(session.paths)
    if held["held"]:
        holder = str(held["holder"])
        return f"the controller ({holder}) does not answer; {client.hang_hint(holder)}"
    return "gapless up -d starts the controller; it adopts what runs"


@click.command()
@click.argument("name")
@click.pass_obj
def describe(session: Session, name: str) -> None:
    """One replica, service, store or the edge in full."""
    from urllib.parse import quote

    answer = ask(
        session,
        f"/v1/describe?id={quote(name, safe='')}",
        lambda: find(status(session), name),
    )
    if session.json:
        out.as_json(answer)
        return
    for line in render.tree(answer):
        out.data(line)


def find(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of a status by its name. Raises UsageError, with the nearest name that exists."""
    parts: dict[str, dict[str, Any]] = {"edge": answer.get("edge") or {}}
    for service in answer.get("services", ()):
        parts[service["name"]] = service
        for replica in service.get("replicas", ()):
            parts[replica["id"]] = replica
            parts.setdefault(replica["id"].partition("@")[0], replica)
    parts |= {node["name"]: node for node in answer.get("data", ())}
    if name not in parts:
        from gapless.cli.main import unknown

        raise unknown("such thing:", name, [*parts])
    return parts[name]


@click.command()
@click.option("--once", is_flag=True, help="One look, also on a terminal.")
@click.pass_obj
def top(session: Session, once: bool) -> None:
    """Use of cpu and memory of each replica, and the traffic of the last ten seconds.

    On a terminal it goes on until Ctrl-C.
    """
    if session.json or once or not out.colourful():
        answer = _top(session)
        if session.json:
            out.as_json(answer)
        else:
            out.show_table(TOP_HEADS, _top_rows(answer))
            if rows := render.traffic_rows(answer.get("traffic") or {}):
                out.data("")
                out.show_table(render.TRAFFIC_HEADS, rows)
            if line := _backlogs(answer):
                out.data(line)
        return
    import rich.console
    import rich.live

    try:
        with rich.live.Live(console=rich.console.Console(), auto_refresh=False) as live:
            while True:
                answer = _top(session)
                table = out.rich_table(TOP_HEADS, _top_rows(answer))
                table.caption = _backlogs(answer)
                live.update(_with_traffic(table, answer), refresh=True)
                time.sleep(1.0)
    except KeyboardInterrupt:
        return


def _with_traffic(table: Any, answer: dict[str, Any]) -> Any:
    import rich.console

    rows = render.traffic_rows(answer.get("traffic") or {})
    return rich.console.Group(table, out.rich_table(render.TRAFFIC_HEADS, rows)) if rows else table


TOP_HEADS = ("ID", "SERVICE", "CPU", "MEMORY")


def _top(session: Session) -> dict[str, Any]:
    def look() -> Any:
        from gapless.engine import offline

        return {"at": time.time(), "rows": offline.usage(session.paths, 0.5)}

    answer: dict[str, Any] = ask(session, "/v1/top", look)
    return answer


def _backlogs(answer: dict[str, Any]) -> str:
    """The queues that services follow, in one line."""
    found = (answer.get("backlogs") or {}).items()
    return ", ".join(f"{name}: {render.tasks(count)}" for name, count in found)


def _top_rows(answer: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = sorted(answer.get("rows", ()), key=lambda row: -(row.get("cpu") or 0))
    return [
        (
            str(row["id"]),
            str(row.get("service") or "-"),
            render.cores(row.get("cpu")),
            render.size(row.get("memory")),
        )
        for row in rows
    ]


@click.command()
@click.pass_obj
def metrics(session: Session) -> None:
    """State and counters as Prometheus reads them, for its textfile collector, say.

    With --json: a list of samples, each with name, labels and value.
    """
    from gapless.sight.metrics import Report

    seen = Report(status(session), ask(session, "/v1/counters", dict))
    if session.json:
        found = [one for family in seen.collect() for one in family.samples]
        out.as_json([{"name": s.name, "labels": s.labels, "value": s.value} for s in found])
        return
    out.data(seen.page().rstrip("\n"))


@click.command()
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.pass_obj
def history(session: Session, limit: int) -> None:
    """Who changed what, when and why; newest last."""
    from gapless.engine import offline

    answer = ask(
        session, f"/v1/history?limit={limit}", lambda: offline.history(session.paths, limit)
    )
    if session.json:
        out.as_json(answer)
        return
    if not answer:
        out.progress("nothing has happened yet")
        return
    rows = [
        (render.clock(e.get("at")), e.get("actor"), e.get("what"), e.get("cause"), e.get("outcome"))
        for e in answer
    ]
    out.show_table(
        ("WHEN", "WHO", "WHAT", "WHY", "OUTCOME"),
        [tuple("-" if cell in (None, "") else str(cell) for cell in row) for row in rows],
    )


@click.command()
@click.pass_obj
def releases(session: Session) -> None:
    """What is kept, and what rollback would go to."""
    from gapless.engine import offline

    answer = ask(session, "/v1/releases", lambda: offline.releases(session.paths))
    if session.json:
        out.as_json(answer)
        return
    if not answer:
        out.progress("no release yet; gapless deploy makes one")
        return
    rows = [
        (
            str(entry["release"]),
            str(entry.get("state") or "-"),
            render.clock(entry.get("created_at")),
            str(entry.get("by") or "-"),
            _services(entry.get("services")),
            str(entry.get("source") or "-")[:12],
        )
        for entry in answer
    ]
    out.show_table(("RELEASE", "STATE", "MADE", "BY", "SERVICES", "SOURCE"), rows)


def _services(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}@r{release}" for name, release in value.items()) or "-"
    return ", ".join(map(str, value or ())) or "-"


@click.command()
@click.argument("action", type=click.Choice(["status"]), default="status")
@click.pass_obj
def lock(session: Session, action: str) -> None:
    """Who may write: the holder of the stack's one lock."""
    from gapless.engine import offline

    answer = offline.lock(session.paths)
    if session.json:
        out.as_json(answer)
    elif answer["held"]:
        out.data(f"{session.stack_id}: held by {out.clean(answer['holder'] or 'somebody')}")
    else:
        out.data(f"{session.stack_id}: free")


@click.command()
@click.pass_obj
def version(session: Session) -> None:
    """Version of gapless, and of the controller where one answers."""
    controller = None
    with contextlib.suppress(errors.GaplessError):
        controller = session.client.get("/v1/ping", timeout=2.0).get("version")
    if session.json:
        out.as_json({"version": __version__, "controller": controller})
        return
    out.data(f"gapless {__version__}")
    if controller and controller != __version__:
        out.data(f"controller {controller} (restart it with: gapless up -d)")
