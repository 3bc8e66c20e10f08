"""The process runtime: starts programs, finds them again after its own death, ends them.

Invariants: a program runs only after its record is durable; what is signalled is the very process
that was recorded (pid, start time and boot, held by a pidfd), never whoever has its number now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gapless.errors import RuntimeFault
from gapless.model.process import Address, Exit, Process, Signal, Stop
from gapless.runtimes.base import Found, Usage
from gapless.runtimes.machine import accounts, addresses, files, logs, proc
from gapless.runtimes.process import cgroups, lost, priority, records, sessions, spawn

EDGE = "edge"
"""The identity of the load balancer: the only one that may connect to the services' sockets."""

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")
"""What a program inherits of the controller's environment; everything else it must be given."""

KILLED = Exit(signal=signal.SIGKILL)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MEET_EVERY = 10
"""Passes over /proc, of which one reads every process anew: a stranger's pid may be one of ours."""
YOUNG = 10.0
"""Seconds of life before a process that is nobody's counts as a stranger."""


@dataclass(frozen=True, slots=True)
class _Start:
    """A start under way. ``at``: seconds of CLOCK_BOOTTIME."""

    process: Process
    task: asyncio.Task[Found]
    at: float


@dataclass(slots=True)
class _Entry:
    """A recorded program. ``handle``: its pidfd; None when it was gone before we looked."""

    record: records.Record
    handle: int | None
    ended: bool = False
    exit: Exit | None = None
    killed: bool = False
    seen: set[sessions.Known] = field(default_factory=set)


class ProcessRuntime:
    """Runs the programs of one stack; implements ``runtimes.base.Runtime``.

    ``state`` holds records, logs and homes and survives a reboot; ``run`` holds sockets.
    One instance at a time: the holder of the stack's lock.
    """

    def __init__(self, state: Path, run: Path, stack: str) -> None:
        self.state = state
        self.stack = stack
        self.logs = logs.Logs(state / "logs")
        self._records = records.Records(state, stack)
        self._accounts = accounts.Accounts(state, stack)
        self._groups = cgroups.Cgroups(stack)
        self._addresses = addresses.Addresses(run, stack, lambda: self.identity_uid(EDGE))
        self._entries: dict[str, _Entry] = {}
        self._starting: dict[str, _Start] = {}
        self._strangers: frozenset[int] = frozenset()
        """Pids of processes that are none of ours, as of the last pass that read all."""
        self._passes = 0
        self._searched = False
        self._searching = asyncio.Lock()
        self._ended: asyncio.Queue[str] = asyncio.Queue()

    # -- starting -------------------------------------------------------------------------

    async def start(self, process: Process) -> Found:
        """See ``Runtime.start``. A dead program of that id is replaced; a job that ended is not:
        it must be forgotten first, for a second run is somebody's decision.

        Cancelled, the start goes on: the next ``start`` or ``look`` finds it.
        """
        start = self._starting.get(process.id)
        if start is None:
            task = asyncio.create_task(self._start(process))
            start = _Start(process, task, time.clock_gettime(time.CLOCK_BOOTTIME))
            self._starting[process.id] = start
            task.add_done_callback(lambda _: self._starting.pop(process.id, None))
        return await asyncio.shield(start.task)

    async def _start(self, process: Process) -> Found:
        files.file_name(process.id)
        self._adopt_all()
        if (entry := self._entries.get(process.id)) is not None:
            found = self._found(entry)
            if found.alive:
                return found
            if process.record_exit:
                raise RuntimeFault(
                    f"{process.id}: has run already ({found.exit})",
                    hint="forget it before it is run again",
                )
            await asyncio.to_thread(self._bury, entry)
        record = await asyncio.to_thread(self._spawn, process)
        self._drop(process.id)
        return self._found(self._adopt(record))

    def _spawn(self, process: Process) -> records.Record:
        self._records.make()
        self.logs.make()
        uid = None if process.identity is None else self.identity_uid(process.identity)
        shared = None if uid is None else self.shared_group()
        place = spawn.Place(
            log=self.log(process.log or process.id),
            uid=uid,
            groups=() if shared is None else (shared,),
            base=self._base(process.identity, uid),
            prepare=lambda: self._addresses.prepare(process.address, uid),
            confine=lambda pid: self._confine(process, pid),
        )
        return spawn.spawn(process, place, self._records)

    def _confine(self, process: Process, pid: int) -> None:
        if process.memory_limit is not None or process.cpu_limit is not None:
            self._groups.confine(process.id, pid, process.memory_limit, process.cpu_limit)

    def unconfined(self) -> str:
        """See ``Confines.unconfined``."""
        return self._groups.fault

    def _base(self, identity: str | None, uid: int | None) -> dict[str, str]:
        base = {name: os.environ[name] for name in KEPT if name in os.environ}
        base.setdefault("PATH", DEFAULT_PATH)
        base.setdefault("LANG", "C.UTF-8")
        if identity is not None and uid is not None:
            home, temporary = self._accounts.home(identity, uid)
            base |= {"HOME": str(home), "TMPDIR": str(temporary)}
            base |= {"USER": identity, "LOGNAME": identity}
        return base

    def identity_uid(self, name: str) -> int | None:
        """The uid (and gid) that an identity has as root, for the owner of its directories.

        None when we are not root. Raises EnvironmentFault when none is free.
        """
        return self._accounts.uid(name)

    def shared_group(self) -> int | None:
        """The gid that every program of the stack has beside its own, for what they share.

        None when we are not root. Raises EnvironmentFault when none is free.
        """
        return self._accounts.uid(accounts.SHARED)

    # -- looking --------------------------------------------------------------------------

    async def look(self) -> Sequence[Found]:
        """See ``Runtime.look``; sorted by id. The first look adopts what an earlier one started,
        also where its record is lost (``lost``).
        """
        if not self._searched:
            async with self._searching:
                if not self._searched:
                    await asyncio.to_thread(lost.recover, self._records, self._accounts.owned())
                    self._searched = True
        self._adopt_all()
        begun = [_begun(start) for id, start in self._starting.items() if id not in self._entries]
        found = [self._found(entry) for entry in self._entries.values()]
        return sorted((*found, *begun), key=lambda one: one.id)

    def _adopt_all(self) -> None:
        fresh = [name for name in self._records.names() if name not in self._entries]
        adopted = [
            self._adopt(record)
            for name in fresh
            if name not in self._starting and (record := self._records.load(name)) is not None
        ]
        if adopted:
            self._remember(proc.scan())
        self._note_ends()

    def _note_ends(self) -> None:
        """See who has ended, before the loop tells: one question for all of them."""
        living = {e.handle: id for id, e in self._entries.items() if e.handle and not e.ended}
        poll = select.poll()
        for handle in living:
            poll.register(handle, select.POLLIN)  # readable once it has ended, reaped or not
        for handle, _ in poll.poll(0):
            self._on_end(living[handle])

    def _adopt(self, record: records.Record) -> _Entry:
        entry = _Entry(record, _open(record))
        self._entries[record.id] = entry
        self._addresses.keep(record.id, record.listens())
        if entry.handle is None:
            self._settle(entry)
        else:
            loop = asyncio.get_running_loop()
            loop.add_reader(entry.handle, self._on_end, record.id)
        return entry

    def _found(self, entry: _Entry) -> Found:
        record = entry.record
        return Found(
            id=record.id,
            alive=not entry.ended,
            # Times of another boot mean nothing on this one's clock.
            started_at=record.start / proc.TICKS if record.boot == proc.boot() else 0.0,
            labels=dict(record.labels),
            pid=None if entry.ended else record.pid,
            address=record.listens(),
            exit=entry.exit,
        )

    def _on_end(self, id: str) -> None:
        entry = self._entries.get(id)
        if entry is None or entry.ended or entry.handle is None:
            return
        asyncio.get_running_loop().remove_reader(entry.handle)
        self._settle(entry)
        self._ended.put_nowait(id)

    def _settle(self, entry: _Entry) -> None:
        """It is dead: how did it end? The corpse is kept, as it keeps the session's number ours."""
        entry.ended = True
        entry.exit = Exit()
        if entry.handle is not None and (seen := _wait(entry.handle)) is not None:
            entry.exit = seen
        elif entry.killed:
            entry.exit = KILLED
        if not entry.killed and entry.exit == KILLED and self._groups.ran_out(entry.record.id):
            entry.exit = replace(KILLED, out_of_memory=True)
        if entry.record.record_exit and (written := self._records.exit(entry.record.id)):
            entry.exit = written

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``. One consumer; ends that happened before the first look are in
        what ``look`` says, not here.
        """
        self._adopt_all()
        while True:
            yield await self._ended.get()

    async def usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        """See ``Runtime.usage``. Costs one pass over /proc, however many ids; most of them over
        the pids alone: to read what the kernel says of the machine's other processes, again and
        again, would cost more than all else that an idle controller does.
        """
        self._adopt_all()
        leaders = {
            id: entry.record.pid
            for id in ids
            if (entry := self._entries.get(id)) is not None and self._found(entry).alive
        }
        self._passes += 1
        if self._passes % MEET_EVERY == 0:
            self._strangers = frozenset()
        known = self._strangers.difference(leaders.values())
        everyone = await asyncio.to_thread(proc.scan, known)
        self._remember(everyone)
        if not self._strangers:
            self._strangers = self._not_ours(leaders, everyone)
        return await asyncio.to_thread(proc.usage, leaders, everyone)

    def _not_ours(
        self, leaders: Mapping[str, int], everyone: Sequence[proc.Stat]
    ) -> frozenset[int]:
        """Who is in nobody's family, and will not be: nobody enters another's session, and orphans
        go to their own ancestors. The youngest may be one that is just being started.
        """
        ours = {pid for entry in self._entries.values() for pid, _ in entry.seen}
        ours.update(*proc.families(leaders, everyone).values())
        young = (time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG) * proc.TICKS
        return frozenset(each.pid for each in everyone if each.start < young) - ours

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``SeesStandstill.standstill``. Costs one read of /proc for each id."""
        leaders = {
            id: entry.record.pid
            for id in ids
            if (entry := self._entries.get(id)) is not None and not entry.ended
        }
        # Not in a thread: to change threads costs more than these few reads.
        return proc.standstill(leaders)

    def _remember(self, everyone: Sequence[proc.Stat]) -> None:
        census = sessions.Census(everyone)
        for entry in self._entries.values():
            if not entry.ended:
                family = sessions.members(entry.record, census, entry.seen, marked=False)
                entry.seen = {(found.pid, found.start) for found in family}

    # -- ending ---------------------------------------------------------------------------

    async def signal(self, id: str, signal: Signal | None) -> None:
        """See ``Runtime.signal``. KILL goes to its whole session, the others to the program."""
        self._adopt_all()
        entry = self._entries.get(id)
        if entry is None or not self._found(entry).alive or entry.handle is None:
            return
        if signal == "KILL":
            entry.killed = True
            await asyncio.to_thread(sessions.kill, entry.record, entry.seen)
        else:
            _send(entry.handle, signal or "TERM")

    async def background(self, id: str, on: bool) -> None:
        """See ``Runtime.background``."""
        self._adopt_all()
        entry = self._entries.get(id)
        if entry is not None and self._found(entry).alive:
            jobs = entry.record.record_exit
            await asyncio.to_thread(priority.give_way, entry.record.pid, on, idle=not jobs)

    async def forget(self, id: str) -> None:
        """See ``Runtime.forget``. What a dead program left running is killed, all of it.

        On return none of its processes is left, in its session or out of it (``sessions``); this
        is what a successor that must be alone waits for.
        """
        self._adopt_all()
        entry = self._entries.get(id)
        if entry is None:
            return
        if self._found(entry).alive:
            raise RuntimeFault(f"{id}: is alive and cannot be forgotten", hint="end it first")
        await asyncio.to_thread(self._bury, entry)
        self._drop(id)

    def _bury(self, entry: _Entry) -> None:
        id = entry.record.id
        if not sessions.kill(entry.record, entry.seen, wait=True):
            raise RuntimeFault(
                f"{id}: processes that it left behind cannot be killed",
                hint="they sleep in the kernel; is a disk or network file system hanging?",
            )
        if entry.handle is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, entry.handle, os.WEXITED | os.WNOHANG)
        self._groups.remove(id)
        self._records.drop(id)
        self._addresses.give_back(id, entry.record.listens())

    def _drop(self, id: str) -> None:
        entry = self._entries.pop(id, None)
        if entry is not None and entry.handle is not None:
            if not entry.ended:
                # Whoever is given its number next, a client maybe, would never be heard.
                asyncio.get_running_loop().remove_reader(entry.handle)
            os.close(entry.handle)
            entry.handle = None

    def close(self) -> None:
        """Stop watching. The programs go on; another instance may adopt them."""
        for id in list(self._entries):
            self._drop(id)

    # -- places ---------------------------------------------------------------------------

    def address(self, id: str, kind: Literal["socket", "port"]) -> Address:
        """See ``Runtime.address``. The socket's directory is made when the program starts."""
        if kind == "socket":
            return self._addresses.fresh_socket(id)
        self._adopt_all()
        return self._addresses.fresh_port(id)

    def log(self, id: str) -> Path:
        """See ``Runtime.log``. After a rotation it begins with a hole: ``logs.open_at_start``."""
        return self.logs.path(id)

    def flooded(self, limit: int) -> bool:
        """Whether any log takes more room than ``limit`` bytes; quick."""
        return self.logs.flooded(limit)

    def rotate(self, limit: int, keep: int, also: Set[str] = frozenset()) -> Sequence[str]:
        """Bound the logs: each to about ``limit`` bytes live and ``keep`` old parts of as much.

        Blocking; call it in a thread, now and then. Returns the ids whose log was cut. Logs of
        programs that are forgotten stay until they are the oldest of more than
        ``logs.FORGOTTEN``; ``also``: programs that another runtime knows. Raises EnvironmentFault.
        """
        return self.logs.rotate(limit, keep, known=frozenset(self._entries) | also)


def _begun(start: _Start) -> Found:
    """One whose start takes long: nobody may take it for absent and start another."""
    process = start.process
    return Found(process.id, True, start.at, dict(process.labels), address=process.address)


def _open(record: records.Record) -> int | None:
    """A pidfd of the very process that was recorded, or None."""
    if record.boot != proc.boot():
        return None
    try:
        handle = os.pidfd_open(record.pid)
    except OSError:
        return None
    # The descriptor first, the look second: were the pid reused in between, the look would show it.
    found = proc.stat(record.pid)
    if found is None or found.start != record.start:
        os.close(handle)
        return None
    return handle


def _wait(handle: int) -> Exit | None:
    """How our own child ended (it stays a zombie); None for somebody else's."""
    try:
        ended = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return Exit(code=ended.si_status)
    return Exit(signal=ended.si_status)


def _send(handle: int, name: Stop) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.Signals[f"SIG{name}"])
