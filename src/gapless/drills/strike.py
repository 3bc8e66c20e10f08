"""One process struck down, paused or woken: held by a pidfd, so never another of its number."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence

from gapless import errors
from gapless.drills.stage import Stage
from gapless.runtimes.machine import proc

SECOND = 60.0
"""Seconds after which a second controller that has not ended is one that runs."""


class Struck:
    """Processes of one replica (``id`` is their SERVER_ID), kept in hand from before the blow."""

    def __init__(self, id: str, pids: Sequence[int]) -> None:
        self.id = id
        self._handles: list[int] = []
        for pid in pids:
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                self._handles.append(handle)
                # After it was opened: the number cannot have been given again since.
                if proc.variable(pid, "SERVER_ID") != id:
                    os.close(self._handles.pop())
        if not self._handles:
            raise errors.WorkFailed(f"{id}: no process of it was found")

    def send(self, number: signal.Signals) -> None:
        """To all that are left."""
        for handle in self._handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)

    @property
    def gone(self) -> bool:
        """Whether all of them have ended."""
        poll = select.poll()
        for handle in self._handles:
            poll.register(handle, select.POLLIN)
        return len(poll.poll(0)) == len(self._handles)

    def close(self) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles = []


def found(id: str, own: Collection[int]) -> list[int]:
    """The pids here of processes of a replica that know themselves by those: in a container the
    numbers are its own."""
    return [
        one.pid
        for one in proc.scan()
        if proc.variable(one.pid, "SERVER_ID") == id and proc.inner(one.pid) in own
    ]


@contextlib.contextmanager
def held(id: str, pids: Sequence[int]) -> Iterator[Struck]:
    """Struck processes; whoever is paused at the end is woken. Raises WorkFailed."""
    struck = Struck(id, pids)
    try:
        yield struck
    finally:
        struck.send(signal.SIGCONT)
        struck.close()


@contextlib.contextmanager
def paused_controller(stage: Stage) -> Iterator[None]:
    """The controller stands still meanwhile."""
    pid = int(stage.client.get("/v1/ping")["pid"])
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGCONT)
        os.close(handle)


def second_controller(stage: Stage) -> str:
    """Try to start another controller; "" when it was refused, else what happened."""
    argv = [sys.executable, "-P", "-m", "gapless.engine.main"]
    argv += ["--file", str(stage.target.file), "--stack", stage.paths.stack]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=SECOND, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return "a second controller ran beside the first"
    if done.returncode == errors.Locked.exit_code and "lock" in done.stderr:
        return ""
    return f"a second controller was not refused by the lock: {done.stderr.strip()[-200:]}"
