"""A long operation as it happens: plain lines, or a live table on a terminal.

Hanging up does not stop the operation, so Ctrl-C detaches and says how to end it for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import click

from gapless import errors
from gapless.cli import out, render
from gapless.cli.session import Session

Event = Mapping[str, Any]
POLL = 0.5
"""Seconds between two looks at the status for a live table."""


@dataclasses.dataclass(frozen=True)
class End:
    """How it ended."""

    exit: int
    message: str = ""
    hint: str | None = None
    log: tuple[str, ...] = ()
    """Last lines of the log of what failed."""
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Screen(Protocol):
    """Where events are shown."""

    def line(self, text: str) -> None:
        """One more line, kept on the screen."""


class Plain:
    """Lines on stderr."""

    def line(self, text: str) -> None:
        out.progress(text)


class Table:
    """Lines that scroll by above a table of the stack, on stderr."""

    def __init__(self, look: Callable[[], Any]) -> None:
        import rich.console
        import rich.live

        self._look = look
        self._drawn: Any = ""
        self._next = 0.0
        self.console = rich.console.Console(stderr=True, highlight=False)
        self.live = rich.live.Live(
            console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _render(self) -> Any:
        if time.monotonic() >= self._next:
            self._drawn = self._look() or self._drawn
            self._next = time.monotonic() + POLL
        return self._drawn


def stack_table(session: Session) -> Any:
    """The status as a rich table; None while no controller answers."""
    import rich.console
    import rich.text

    try:
        status = session.client.get("/v1/status", timeout=2.0)
    except errors.GaplessError:
        return None
    now = time.time()
    drawn = [
        rich.text.Text(out.clean(render.headline(status))),
        out.rich_table(render.REPLICA_HEADS, render.replica_rows(status, now)),
    ]
    if rows := render.data_rows(status):
        drawn.append(out.rich_table(render.DATA_HEADS, rows))
    drawn += [rich.text.Text(out.clean(line)) for line in render.troubles(status)]
    return rich.console.Group(*drawn)


@contextlib.contextmanager
def screen(session: Session, *, live: bool) -> Iterator[Screen]:
    """A live table where it was asked for and stderr is a terminal, else plain lines."""
    if not live or session.json or not out.colourful(sys.stderr):
        yield Plain()
        return
    table = Table(lambda: stack_table(session))
    with table.live:
        yield table


def show(event: Event, where: Screen, seen: dict[str, str]) -> None:
    """One event as a line. ``seen`` keeps the last progress, so that only changes are shown."""
    match event.get("event"):
        case "build":
            where.line(f"build | {out.clean(event.get('line', ''))}")
        case "step":
            # Numbered as they were done, from 1, wherever the controller has got to.
            seen["steps"] = str(int(seen.get("steps", "0")) + 1)
            where.line(render.step({**event, "n": seen["steps"]}))
        case "note":
            where.line(f"note: {out.clean(event.get('text', ''))}")
        case "output":
            click.echo(event.get("text", ""), nl=False)
        case "progress":
            text = f"{event.get('phase') or 'running'}: {render.counts(event.get('services', {}))}"
            if seen.get("progress") != text:
                seen["progress"] = text
                where.line(out.clean(text).removesuffix(": "))
        case _:
            pass


def out_lines(text: str) -> str:
    """Several lines, each cleaned."""
    return "\n".join(out.clean(line) for line in text.splitlines())


def follow(
    session: Session,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    live: bool = False,
    abort: str | None = None,
) -> End:
    """Begin an operation and show it to its end.

    ``abort`` is the command that undoes it, said when the user detaches. Raises WorkFailed when
    ``--timeout`` is over first, NoController when nobody answers or the controller goes away.
    """
    seen: dict[str, str] = {}
    try:
        with screen(session, live=live) as where:
            asked = {"actor": who(), **(body or {})}
            events = session.client.stream(path, asked, timeout=session.timeout)
            last: Event = {}
            for last in events:
                show(last, where, seen)
            return _end(last)
    except KeyboardInterrupt:
        out.progress("detached: what was begun goes on" + (f"; {abort} undoes it" if abort else ""))
        raise SystemExit(130) from None


def who() -> str:
    """The user that asks, for the history; behind sudo also the one who became root."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{name} ({behind})" if behind and behind != name else name


def _end(event: Event) -> End:
    return End(
        exit=int(event.get("exit", 1)),
        message=str(event.get("message") or ""),
        hint=event.get("hint"),
        log=tuple(str(line) for line in event.get("log") or ()),
        result=event.get("result") or {},
    )


def live_release(end: End, verb: str) -> str:
    """``deployed: r12 has the traffic``."""
    release = end.result.get("release")
    return verb if release is None else f"{verb}: r{release} has the traffic"


def finish(session: Session, end: End, done: str = "") -> int:
    """Show how it ended; the exit code. ``done`` is said where the controller says nothing."""
    if session.json:
        ending = {"exit_code": end.exit, "message": end.message, "hint": end.hint}
        if end.log:
            ending["log"] = list(end.log)
        out.as_json({**ending, **end.result})
        return end.exit
    if end.exit == 0:
        if text := (out_lines(end.message) or done):
            out.data(text)
    else:
        out.progress(out_lines(end.message) or "it failed, and no reason was given")
        for line in end.log:
            out.progress(f"    | {out.clean(line)}")
    if end.hint:
        out.progress(f"hint: {end.hint}")
    counted = end.exit == 0 or end.result.get("requests")
    if counted and (verdict := render.verdict(end.result)):
        out.data(verdict)
    return end.exit


def run(session: Session, path: str, body: Mapping[str, Any] | None = None, **how: Any) -> int:
    """Follow and finish; the exit code."""
    done = how.pop("done", "")
    return finish(session, follow(session, path, body, **how), done)
