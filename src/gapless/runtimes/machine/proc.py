"""What /proc says: identity of a process, members of a session, use of cpu and memory."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gapless.runtimes.base import Usage

TICKS = os.sysconf("SC_CLK_TCK")
_STILL = {b"T": "stopped", b"t": "stopped", b"Z": "zombie", b"X": "zombie"}
"""States of ``/proc/PID/stat`` in which a process does nothing and will not by itself."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of ``/proc/PID/stat``. ``start`` and ``cpu`` in clock ticks (``TICKS`` a second)."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    cpu: int
    """Own and waited-for children's, user and system."""
    start: int
    """Since boot; with the pid it names a process for as long as the machine is up."""
    threads: int = 1

    @property
    def dead(self) -> bool:
        """A zombie serves nobody, whoever forgot to reap it.

        Unless only its first thread has ended: then the others work on under a zombie's name.
        """
        return self.state in "ZXx" and self.threads <= 1


def _read(path: str) -> bytes:
    """A short file of /proc; b"": it is gone. Plain calls: this is done by the hundred."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, 4096)
    except OSError:
        return b""
    finally:
        os.close(handle)


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The name stands in brackets and may itself hold brackets and blanks: cut at the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu=sum(int(fields[n]) for n in (11, 12, 13, 14)),
        start=int(fields[19]),
        threads=int(fields[17]),
    )


def standstill(leaders: Mapping[str, int]) -> dict[str, str]:
    """Which of them (id to pid) stand still, and how. Sleeping is not standing still."""
    found = {}
    for id, pid in leaders.items():
        text = _read(f"/proc/{pid}/stat")
        place = text.rfind(b")") + 2
        if word := _STILL.get(text[place : place + 1]):
            found[id] = word
    return found


def children(pid: int) -> list[int]:
    """Of its main thread, the eldest first; none where the kernel does not tell."""
    return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]


def in_group(pid: int, name: str) -> bool:
    """Whether it runs here, in a control group that is named so (a container's id is)."""
    return name.encode() in _read(f"/proc/{pid}/cgroup")


def inner(pid: int) -> int | None:
    """The number by which it knows itself: another one in a container. None: it is gone."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return None


def scan(without: Collection[int] = ()) -> list[Stat]:
    """Every process that we can see, but for these pids."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208  # hot
    return [found for pid in pids.difference(without) if (found := stat(pid)) is not None]


@cache
def boot() -> str:
    """Names this boot of the machine and our view of its pids (a container has its own)."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116  # a magic link


def marked(pid: int, mark: str) -> bool:
    """Whether the environment a process was started with holds ``NAME=value``."""
    name, _, value = mark.partition("=")
    return variable(pid, name) == value


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with; None: absent, or hidden."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    begin = name.encode() + b"="
    for line in environment.split(b"\0"):
        if line.startswith(begin):
            return line[len(begin) :].decode(errors="replace")
    return None


def owner(pid: int) -> int | None:
    """The uid of a process; None when it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116  # hot
    except OSError:
        return None


def usage(leaders: Mapping[str, int], processes: Iterable[Stat]) -> dict[str, Usage]:
    """Use by id of the leaders given (id to pid), each with its session and its descendants.

    ``processes`` is a fresh ``scan``, which may lack strangers.

    Memory is the leader's resident set plus what its descendants hold alone: shared buffers
    and the pages of libraries are not counted once for every child.
    """
    everyone = {found.pid: found for found in processes}
    result = {}
    for id, family in families(leaders, everyone.values()).items():
        ticks = sum(everyone[pid].cpu for pid in family)
        memory = sum(_memory(pid, whole=pid == leaders[id]) for pid in family)
        result[id] = Usage(cpu_seconds=ticks / TICKS, memory=memory)
    return result


def families(leaders: Mapping[str, int], processes: Iterable[Stat]) -> dict[str, set[int]]:
    """By id of the leaders that live: the pids of each one's session and of its descendants."""
    pids: set[int] = set()
    children: dict[int, list[int]] = defaultdict(list)
    sessions: dict[int, list[int]] = defaultdict(list)
    for found in processes:
        pids.add(found.pid)
        children[found.parent].append(found.pid)
        sessions[found.session].append(found.pid)
    return {
        id: _family([leader, *sessions[leader]], children)
        for id, leader in leaders.items()
        if leader in pids
    }


def _family(roots: Iterable[int], children: Mapping[int, list[int]]) -> set[int]:
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in seen:
            seen.add(pid)
            todo.extend(children.get(pid, ()))
    return seen


def _memory(pid: int, *, whole: bool) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    if not fields:
        return 0
    resident, shared = int(fields[1]), int(fields[2])
    return PAGE * (resident if whole else max(0, resident - shared))
