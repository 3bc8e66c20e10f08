"""``up``, ``down``, ``wait``: the controller's own beginning and end."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TextIO

import click

from gapless import errors
from gapless.cli import change, follow, out, render, upgrade
from gapless.cli.session import Session
from gapless.engine import client, offline, target
from gapless.runtimes.process import records

BOOT = 30.0
"""Seconds that a controller may take to answer."""
ENDING = 10.0
"""Seconds that a controller may take to end once the stack is down."""


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return when everything is ready.")
@click.pass_obj
def up(session: Session, detach: bool) -> int:
    """Start the controller (if none runs) and the stack; stay with a live table, or detach.

    Code is never changed by it: what was last wanted starts again, and what runs is adopted.
    Ctrl-C leaves the table, not the stack: gapless down stops that.
    """
    target.of(session.paths, session.target)
    if session.client.alive():
        change.same_place(session)
        if upgrade.take_over(session):
            start_controller(session)
    else:
        start_controller(session)
    body = session.body()
    end = follow.follow(session, "/v1/up", body, live=True, abort="gapless down")
    url = end.result.get("url")
    code = follow.finish(session, end, f"{session.stack_id} is up" + (f" at {url}" if url else ""))
    if code == 0 and not detach and not session.json:
        stay(session)
    return code


def stay(session: Session) -> None:
    """Watch until Ctrl-C: a live table, or a line for each change of state."""
    try:
        with follow.screen(session, live=True) as where:
            where.line("Ctrl-C leaves; the stack goes on (gapless down stops it)")
            last: dict[str, str] = {}
            while True:
                status = session.client.get("/v1/status")
                if isinstance(where, follow.Plain):
                    last = _changes(status, last, where)
                time.sleep(1.0)
    except KeyboardInterrupt:
        out.progress("detached: the stack goes on; gapless ps shows it, gapless down stops it")


def _changes(status: render.Answer, last: dict[str, str], where: follow.Screen) -> dict[str, str]:
    now = {
        str(replica["id"]): str(replica["state"])
        for service in status.get("services", ())
        for replica in service.get("replicas", ())
    }
    for name in sorted(now.keys() | last.keys()):
        if now.get(name) != last.get(name):
            where.line(out.clean(f"{name}: {now.get(name, 'gone')}"))
    return now


def controller_command(session: Session) -> list[str]:
    """What runs as the controller.

    ``-P`` keeps the folder we are in off the module path: a ``secrets.py`` in the user's project
    must not become the controller's.
    """
    command = [sys.executable, "-P", "-m", "gapless.engine.main", "--file", str(session.file)]
    command += ["--stack", session.stack_id]
    command += ["--for", session.overlay] if session.overlay else []
    return command + (["--target", session.target] if session.target else [])


def start_controller(session: Session) -> None:
    """Start it in a session of its own and return once it answers.

    One that somebody else starts meanwhile is as good; one that is about to end is waited for.
    Raises what it said when it ended before that, EnvironmentFault when it stays silent, Locked
    when another one holds the lock and does not answer.
    """
    session.paths.make()
    deadline = time.monotonic() + (session.timeout or BOOT)
    patience = time.monotonic() + min(session.timeout or ENDING, ENDING)
    while not _answers(session, patience):
        ended = _start(session, deadline)
        if ended is None:
            return
        if ended.detail.get("code") != errors.Locked.exit_code or not _other(session):
            raise ended


def _answers(session: Session, patience: float) -> bool:
    """Whether another one answers; waited for while it holds the lock. Raises Locked."""
    while holder := _other(session):
        if session.client.alive():
            return True
        if time.monotonic() > patience:
            raise errors.Locked(
                f"{session.stack_id}: the controller ({holder}) does not answer",
                hint=client.hang_hint(holder),
            )
        time.sleep(0.05)
    return False


def _other(session: Session) -> str:
    """Who holds the lock; "" when nobody does."""
    held = offline.lock(session.paths)
    return str(held["holder"]) or "somebody" if held["held"] else ""


def _start(session: Session, deadline: float) -> ControllerEnded | None:
    """One attempt; None when a controller answers."""
    from gapless.cli import install

    if install.started(session):
        if session.client.alive():
            return None
        raise errors.EnvironmentFault(
            f"{session.stack_id}: systemd has started the controller and it does not answer",
            hint=f"journalctl -u gapless-{session.stack_id}",
        )
    log = session.paths.logs / "controller.log"
    with _opened(log) as stream:
        begun = stream.seek(0, os.SEEK_END)
        child = _spawn(session, stream)
    while not session.client.alive():
        if child.poll() is not None and not session.client.alive():
            return _ended(session, child.returncode, log, begun)
        if time.monotonic() > deadline:
            raise errors.EnvironmentFault(
                f"{session.stack_id}: the controller (pid {child.pid}) does not answer",
                hint=f"its output is in {log}",
            )
        time.sleep(0.02)
    # It outlives us; without this Python would complain that nobody waited for it.
    child.returncode = child.returncode or 0
    return None


def _opened(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(mode=0o700, exist_ok=True)
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
    except OSError as error:
        raise errors.EnvironmentFault(
            f"{error.filename or log}: cannot be used: {error.strerror}",
            hint="gapless must be able to write there; GAPLESS_STATE chooses another place",
        ) from None


def _spawn(session: Session, stream: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            controller_command(session),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd="/",
            # Not one of the programs of a stack within which somebody types this.
            env={**os.environ, records.MARK: f"controller/{session.stack_id}"},
            start_new_session=True,
        )
    except OSError as error:
        raise errors.EnvironmentFault(
            f"the controller cannot be started: {error.strerror}"
        ) from None


class ControllerEnded(errors.GaplessError):
    """The controller ended at once; the exit code is its own."""

    def __init__(self, message: str, hint: str | None, code: int) -> None:
        super().__init__(message, hint=hint, code=code)
        self._code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # per instance: the controller's
        return self._code


def _ended(session: Session, code: int, log: Path, begun: int) -> ControllerEnded:
    with log.open("rb") as stream:
        stream.seek(begun)
        said = stream.read().decode("utf-8", "replace").strip()
    hint: str | None = f"its output is in {log}"
    if "Traceback (most recent call last)" in said:
        said = f"{session.stack_id}: the controller failed: {said.splitlines()[-1]}"
    lines = [out.clean(line) for line in said.splitlines()][-20:]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    text = "\n".join(line for line in lines if not line.startswith("hint: "))
    if text and not text.startswith(f"{session.stack_id}: the controller failed"):
        hint = None  # it said what there is to say
    if not text and os.statvfs(log.parent).f_bavail == 0:
        return ControllerEnded(
            f"{log.parent}: no space left on the disk",
            "free some space, then run the command again; what runs is untouched",
            errors.EnvironmentFault.exit_code,
        )
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return ControllerEnded(
        text or f"{session.stack_id}: the controller ended at once ({how}) and said nothing",
        hints[-1] if hints else hint,
        code if code in (1, 2, 3, 4) else 1,
    )


@click.command()
@click.option("--data", "erase", is_flag=True, help="Remove the data too. Asks first.")
@click.pass_obj
def down(session: Session, erase: bool) -> int:
    """Stop everything and the controller. Data, releases and secrets are kept."""
    if erase:
        out.ask(f"{session.stack_id}: remove all data for good?", yes=session.yes)
    end = follow.End(0)
    if session.client.alive() or _left_behind(session, erase):
        end = follow.follow(session, "/v1/down", {"data": erase}, live=True)
    removed = erase and end.exit == 0 and remove_data(session)
    if removed:
        end = dataclasses.replace(end, result={**end.result, "data_removed": True})
    done = f"{session.stack_id} is down" + (", its data is removed" if removed else "")
    return follow.finish(session, end, done)


def _left_behind(session: Session, erase: bool) -> bool:
    """Whether a dead controller left anything to stop; then another one is started to do it."""
    if offline.anything_runs(offline.status(session.paths)):
        start_controller(session)
        return True
    if not erase:
        raise errors.NoController(f"{session.stack_id}: nothing runs", hint="gapless up -d")
    return False


def remove_data(session: Session) -> bool:
    """Remove the stores' files, as the one writer; False when there are none.

    They are moved aside first: a removal that is cut short never leaves half a database in place.
    Raises Locked when a controller goes on running, EnvironmentFault when they cannot be removed.
    """
    from gapless.engine import lock

    paths = session.paths
    if not paths.data.exists():
        return False
    with _last_word(session, lambda: lock.take(paths)):
        aside = paths.state / f".removed-{os.getpid()}-{time.time_ns()}"
        try:
            paths.data.rename(aside)
            shutil.rmtree(aside)
        except OSError as error:
            raise errors.EnvironmentFault(
                f"{error.filename or paths.data}: cannot be removed: {error.strerror}"
            ) from None
    return True


def _last_word(session: Session, take: Callable[[], TextIO]) -> TextIO:
    deadline = time.monotonic() + (session.timeout or ENDING)
    while True:
        try:
            return take()
        except errors.Locked:
            # The controller has said that it is down, and is about to end.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@click.command()
@click.option("--keep", type=click.IntRange(0), default=0, help="Also keep the newest N of them.")
@click.pass_obj
def prune(session: Session, keep: int) -> int:
    """Remove releases that nothing needs, with their files, environments and images.

    What runs (or up would start) and what rollback goes back to stays, and everything that is not
    this stack's. A deploy does the same, down to what keep in the file says.
    """
    if session.client.alive():
        end = follow.follow(session, "/v1/prune", {"keep": keep})
    else:
        from gapless.engine import idle

        gone, kept = idle.prune(session.paths, keep) if session.paths.state.exists() else ([], [])
        end = follow.End(0, result={"removed": list(gone), "kept": list(kept)})
    removed, left = (
        ", ".join(f"r{number}" for number in end.result.get(which, ())) or "nothing"
        for which in ("removed", "kept")
    )
    return follow.finish(session, end, f"removed {removed}; kept {left}")


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.pass_obj
def wait(session: Session, services: tuple[str, ...]) -> int:
    """Block until all services (or those named) are ready; --timeout bounds it."""
    return follow.run(session, "/v1/wait", {"services": list(services)}, done="ready")
