"""Commands that change a running stack. Each is one request; the controller plans and does it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from gapless import errors
from gapless.cli import follow, out, render
from gapless.cli.session import Session, duration

_COUNT = re.compile(r"([a-z][a-z0-9-]*)=(\d+|auto)", re.ASCII)
_MOST = 1000
ABORT = "gapless abort"


def parse_counts(words: tuple[str, ...]) -> dict[str, int | None]:
    """``("web=5", "worker=auto")`` to numbers; auto: None. Raises UsageError."""
    counts: dict[str, int | None] = {}
    for word in words:
        found = _COUNT.fullmatch(word)
        if not found:
            raise errors.UsageError(
                f'scale: "{out.clean(word)}" is not SERVICE=NUMBER', hint="gapless scale web=5"
            )
        count = None if found[2] == "auto" else int(found[2])
        if count is not None and count > _MOST:
            raise errors.UsageError(f"scale: {word}: at most {_MOST} replicas of a service")
        if found[1] in counts:
            raise errors.UsageError(f'scale: "{found[1]}" is named twice')
        counts[found[1]] = count
    return counts


def parse_release(word: str | None) -> int | None:
    """``12`` or ``r12`` to 12. Raises UsageError."""
    if word is None:
        return None
    if not re.fullmatch(r"r?\d{1,9}", word, re.ASCII):
        raise errors.UsageError(
            f'"{out.clean(word)}" is not a release such as 12 or r12', hint="gapless releases"
        )
    return int(word.removeprefix("r"))


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--wait", is_flag=True, help="Return only when the old replicas are gone.")
@click.option("--force", is_flag=True, help="Also with unchanged code, or nothing ready.")
@click.option("--surge", type=click.Choice(["all"]), help="Start all new replicas at once.")
@click.pass_obj
def deploy(
    session: Session, services: tuple[str, ...], wait: bool, force: bool, surge: str | None
) -> int:
    """Release the present code of all services, or of those named.

    Old replicas serve until new ones are ready and were watched; whatever goes wrong, the old ones
    go on serving (exit 4). Ends with what clients felt. Ctrl-C detaches.
    """
    body = session.body(services=list(services), force=force, surge_all=surge == "all", wait=wait)
    same_place(session)
    end = follow.follow(session, "/v1/deploy", body, live=True, abort=ABORT)
    return follow.finish(session, end, follow.live_release(end, "deployed"))


@click.command()
@click.pass_obj
def build(session: Session) -> int:
    """Make a release of the present code without deploying it."""
    same_place(session)
    end = follow.follow(session, "/v1/build", session.body())
    release = end.result.get("release")
    return follow.finish(session, end, f"built r{release}" if release else "built")


def same_place(session: Session) -> None:
    """Ask before code of another folder goes into a stack that runs under the same name.

    Raises UsageError where nobody can be asked, Refused on a no, NoController.
    """
    other = Path(session.client.get("/v1/ping", timeout=session.timeout or 10.0)["config_file"])
    if other != session.file and other.exists():
        out.ask(
            f"{session.stack_id} runs from {other}. Go on with {session.file}?", yes=session.yes
        )


@click.command()
@click.argument("release", required=False)
@click.option("--wait", is_flag=True, help="Return only when the old replicas are gone.")
@click.pass_obj
def rollback(session: Session, release: str | None, wait: bool) -> int:
    """Back to the release before, or to RELEASE (12 or r12). No release job runs."""
    body: dict[str, Any] = {"release": parse_release(release), "wait": wait, "yes": session.yes}
    end = _rollback(session, body)
    if (question := end.result.get("ask")) and sys.stdin.isatty() and not session.json:
        out.progress(follow.out_lines(end.message))
        out.ask(str(question), yes=session.yes)
        end = _rollback(session, body | {"yes": True})
    return follow.finish(session, end, follow.live_release(end, "rolled back"))


def _rollback(session: Session, body: dict[str, Any]) -> follow.End:
    return follow.follow(session, "/v1/rollback", body, live=True, abort=ABORT)


@click.command()
@click.pass_obj
def abort(session: Session) -> int:
    """Undo the deploy under way; the old state goes on serving."""
    return follow.run(session, "/v1/abort", live=True, done="aborted")


@click.command()
@click.argument("counts", nargs=-1, required=True, metavar="SERVICE=NUMBER...")
@click.pass_obj
def scale(session: Session, counts: tuple[str, ...]) -> int:
    """Set the number of replicas by hand, until the next deploy: gapless scale web=5.

    web=auto gives it back to the file, and to its load where the file says scale.
    """
    wanted = parse_counts(counts)
    text = ", ".join(f"{n}={'auto' if c is None else c}" for n, c in wanted.items())
    return follow.run(session, "/v1/scale", {"counts": wanted}, live=True, done=f"scaled {text}")


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--wait", is_flag=True, help="Return only when the old replicas are gone.")
@click.pass_obj
def restart(session: Session, services: tuple[str, ...], wait: bool) -> int:
    """Replace all replicas of a service (or of all), as gaplessly as a deploy.

    restart edge has another worker of the load balancer take over.
    """
    body = {"services": list(services), "wait": wait}
    done = f"restarted {', '.join(services) or 'all services'}"
    return follow.run(session, "/v1/restart", body, live=True, abort=ABORT, done=done)


def _named(verb: str, done: str, help: str) -> click.Command:
    @click.command(verb, help=help)
    @click.argument("services", nargs=-1, metavar="[SERVICE]...")
    @click.pass_obj
    def command(session: Session, services: tuple[str, ...]) -> int:
        names = ", ".join(services) or "all services"
        body = {"services": list(services)}
        return follow.run(session, f"/v1/{verb}", body, live=True, done=f"{done} {names}")

    return command


stop = _named("stop", "stopped", "Stop a service (or all) until start or the next deploy.")
start = _named("start", "started", "Start what was stopped.")


@click.command()
@click.argument("state", type=click.Choice(["on", "off", "hold"]))
@click.argument("time", required=False, metavar="[TIME]")
@click.pass_obj
def maintenance(session: Session, state: str, time: str | None) -> int:
    """Answer 503 with the maintenance page to all but allowed addresses, or stop doing so.

    hold 10s keeps requests waiting at the edge instead, through a short stop; they go on when
    the time is over, or at once with off.
    """
    body = maintenance_body(state, *([] if time is None else [time]))
    end = follow.follow(session, "/v1/maintenance", body)
    done = f"maintenance: {state}"
    if state == "hold":
        under_way = end.result.get("in_flight") or 0
        done = f"holding requests for {time}; {under_way} let through before are under way"
    return follow.finish(session, end, done)


def maintenance_body(state: str, *time: str) -> dict[str, Any]:
    """``("hold", "10s")``, ``("on",)``. Raises UsageError."""
    if state != "hold" and not time:
        return {"on": state == "on"}
    if state != "hold" or len(time) != 1:
        raise errors.UsageError("maintenance: say on, off, or hold and for how long: hold 10s")
    try:
        return {"hold": duration(time[0])}
    except click.BadParameter as fault:
        raise errors.UsageError(f"maintenance hold: {fault.message}") from None


@click.command()
@click.argument("what", nargs=-1, metavar="[COMMAND [ARGUMENT]...]")
@click.pass_obj
def plan(session: Session, what: tuple[str, ...]) -> int:
    """What a command would change, and why, a line a step. Nothing is done.

    Where nothing runs yet it shows the first up, without a controller.

    Without an argument: a deploy. Others: gapless plan scale web=5, gapless plan rollback 11.
    """
    verb, *rest = what or ("deploy",)
    body = plan_body(session, verb, tuple(rest))
    try:
        session.client.get("/v1/ping")  # one that hangs is told from one that thinks
        answer = session.client.post("/v1/plan", body, timeout=session.timeout or 120.0)
    except errors.NoController:
        answer = _without_controller(session, body)
    if session.json:
        out.as_json(answer)
        return 0
    out.data(follow.out_lines(answer.get("text") or "nothing to do"))
    for note in answer.get("notes", ()):
        out.data(f"note: {out.clean(note)}")
    if totals := render.totals(answer.get("totals") or {}):
        out.data(totals)
    return 0


def _without_controller(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    from gapless.engine import dryrun

    return asyncio.run(dryrun.plan(session.file, session.overlay, body))


def plan_body(session: Session, verb: str, rest: tuple[str, ...]) -> dict[str, Any]:
    """The body that the command itself would send. Raises UsageError for what has no plan."""
    match verb:
        case "deploy":
            more: dict[str, Any] = {"services": list(rest), "force": False, "surge_all": False}
        case "up" | "down" if not rest:
            more = {}
        case "rollback" if len(rest) <= 1:
            more = {"release": parse_release(rest[0] if rest else None), "yes": True}
        case "scale" if rest:
            more = {"counts": parse_counts(rest)}
        case "restart" | "stop" | "start":
            more = {"services": list(rest)}
        case "maintenance" if rest and rest[0] in ("on", "off", "hold"):
            more = maintenance_body(*rest)
        case _:
            raise errors.UsageError(
                f'nothing can be planned for "{out.clean(" ".join((verb, *rest)))}"',
                hint="gapless plan deploy|up|down|rollback|scale|restart|stop|start|maintenance",
            )
    return session.body(what=verb, **more)
