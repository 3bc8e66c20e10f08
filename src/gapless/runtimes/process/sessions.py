"""All processes of one program, found and killed so that nothing foreign is hit.

They are its session, whoever carries the mark of this very start in his environment (a daemon that
left the session, a worker whose leader has died), and the children of all those. Not another
program of ours, though: a stack that a program has brought up for itself has marks of its own.

A pid, also as the number of a session, is not reused while anything is left in the session.
So while the leader is there (alive, or dead and not reaped) membership is certain. Once it is
gone, only those of the session are ours that were seen before, or that carry the mark.

Nobody finds a process that has left the session, wiped its environment *and* lost its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterable

from gapless.runtimes.machine import proc
from gapless.runtimes.process.records import MARK, Record

Known = tuple[int, int]
"""pid and start time: a process that was seen in the session while its leader was there."""

PATIENCE = 2.0
"""Seconds for killed processes to be gone; longer means sleep in the kernel."""


class Census:
    """Who is there, from one scan, in the orders that families are looked up by."""

    def __init__(self, everyone: Iterable[proc.Stat]) -> None:
        self.by_pid = {each.pid: each for each in everyone}
        self.children: dict[int, list[int]] = defaultdict(list)
        self.sessions: dict[int, list[int]] = defaultdict(list)
        for each in self.by_pid.values():
            self.children[each.parent].append(each.pid)
            self.sessions[each.session].append(each.pid)


def members(
    record: Record, census: Census, seen: Collection[Known] = (), *, marked: bool = True
) -> list[proc.Stat]:
    """The living processes of the program, the leader first, the others by pid.

    ``marked`` False: without those that only their mark tells; quick, for many programs at once.
    """
    if record.boot != proc.boot():
        return []
    found = census.by_pid
    roots = {pid for pid, start in seen if pid in found and found[pid].start == start}
    leader = found.get(record.pid)
    if leader is not None and leader.start == record.start:
        roots.update(census.sessions[record.pid])
    if marked:
        roots.update(pid for pid in found if proc.marked(pid, record.mark))
    family = sorted(_descent(record, roots, census), key=lambda pid: (pid != record.pid, pid))
    return [found[pid] for pid in family if not found[pid].dead]


def _descent(record: Record, roots: set[int], census: Census) -> set[int]:
    """The roots and their children's children, without other programs of ours."""
    family, todo = set(roots), list(roots)
    while todo:
        for pid in census.children.get(todo.pop(), ()):
            if pid not in family and _may_be_ours(pid, record):
                family.add(pid)
                todo.append(pid)
    return family


def _may_be_ours(pid: int, record: Record) -> bool:
    mark = proc.variable(pid, MARK)
    return mark is None or f"{MARK}={mark}" == record.mark


def kill(record: Record, seen: Collection[Known] = (), *, wait: bool = False) -> bool:
    """KILL to all members, again while new ones appear; with ``wait`` until none is left.

    Returns whether (with ``wait``) all are gone. Stopped programs die as well. Gone is who two
    looks in a row did not find: one that forks while we look may be missed by the first.
    """
    until = time.monotonic() + PATIENCE
    done: set[Known] = set()
    empty = 0
    while True:
        left = members(record, Census(proc.scan()), seen)
        fresh = [found for found in left if (found.pid, found.start) not in done]
        for found in fresh:
            _kill_one(found)
            done.add((found.pid, found.start))
        empty = 0 if left else empty + 1
        if empty == 2 or (not fresh and not wait):
            return True
        if time.monotonic() > until:
            return False
        if left and not fresh:
            time.sleep(0.005)


def _kill_one(found: proc.Stat) -> None:
    try:
        handle = os.pidfd_open(found.pid)
    except OSError:
        return
    try:
        # The descriptor is of whoever has the pid now; only then is it looked at again.
        now = proc.stat(found.pid)
        if now is not None and now.start == found.start:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
