"""All processes of one program: its session. Found and killed so that nothing foreign is hit.

A pid, also as the number of a session, is not reused while anything is left in the session.
So while the leader is there (alive, or dead and not reaped) membership is certain. Once it is
gone, only those are ours that were seen before, or that carry the mark of this very start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable

from gapless.runtimes.process import proc
from gapless.runtimes.process.records import Record

Known = tuple[int, int]
"""pid and start time: a process that was seen in the session while its leader was there."""

PATIENCE = 2.0
"""Seconds for killed processes to be gone; longer means sleep in the kernel."""


def members(
    record: Record, everyone: Iterable[proc.Stat], seen: Collection[Known] = ()
) -> list[proc.Stat]:
    """The living processes of its session, the leader among them."""
    if record.boot != proc.boot():
        return []
    session = [found for found in everyone if found.session == record.pid]
    leader = next((found for found in session if found.pid == record.pid), None)
    living = [found for found in session if not found.dead]
    if leader is not None:
        return living if leader.start == record.start else []
    return [
        found
        for found in living
        if (found.pid, found.start) in seen or proc.marked(found.pid, record.mark)
    ]


def kill(record: Record, seen: Collection[Known] = (), *, wait: bool = False) -> bool:
    """KILL to all members, again while new ones appear; with ``wait`` until none is left.

    Returns whether (with ``wait``) all are gone. Stopped programs die as well.
    """
    until = time.monotonic() + PATIENCE
    done: set[Known] = set()
    while True:
        left = members(record, proc.scan(), seen)
        fresh = [found for found in left if (found.pid, found.start) not in done]
        for found in fresh:
            _kill_one(found)
            done.add((found.pid, found.start))
        if not left or (not fresh and not wait):
            return True
        if time.monotonic() > until:
            return False
        if not fresh:
            time.sleep(0.005)


def _kill_one(found: proc.Stat) -> None:
    try:
        handle = os.pidfd_open(found.pid)
    except OSError:
        return
    try:
        # The descriptor is of whoever has the pid now; only then is it looked at again.
        now = proc.stat(found.pid)
        if now is not None and (now.start, now.session) == (found.start, found.session):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
