"""A runtime without a machine: the same contract as the real ones, at once and in memory.

A ``Machine`` is the world: it holds the programs and outlives every ``FakeRuntime`` that looks at
it, so a second one adopts what the first one started. What a program does is a ``Program``.
"""

from __future__ import annotations

import asyncio
import itertools
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Address, Exit, Process, Signal
from gapless.runtimes.base import Found, Usage

KILLED = Exit(signal=9)
OBEYED = Exit(signal=15)
LITTLE = Usage(cpu_seconds=0.0, memory=1 << 20)


@dataclass(frozen=True, slots=True)
class Program:
    """How a program behaves. ``ends``: at once, so; ``on_term`` None: it does not listen."""

    ends: Exit | None = None
    on_term: Exit | None = OBEYED
    output: str = ""
    usage: Usage = LITTLE


@dataclass(slots=True)
class _Running:
    process: Process
    program: Program
    pid: int
    started_at: float
    owner: FakeRuntime
    exit: Exit | None = None
    paused: bool = False
    pending: Exit | None = None


@dataclass(slots=True)
class Machine:
    """Programs by ``argv[0]``; any other is ``default``, or missing where that is None.

    ``clock`` gives seconds of CLOCK_BOOTTIME. ``started`` counts all starts ever.
    """

    programs: Mapping[str, Program] = field(default_factory=dict)
    default: Program | None = field(default_factory=Program)
    clock: Callable[[], float] = lambda: 0.0
    started: int = 0
    running: dict[tuple[str, str], _Running] = field(default_factory=dict)
    watchers: dict[str, list[asyncio.Queue[str]]] = field(default_factory=dict)
    handed: dict[int, tuple[str, str]] = field(default_factory=dict)
    _pids: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    def end(self, stack: str, id: str, exit: Exit = KILLED) -> None:
        """It ends now, by itself or by an accident. Dead already: nothing."""
        running = self.running[stack, id]
        if running.exit is None:
            running.exit = exit
            for queue in self.watchers.get(stack, ()):
                queue.put_nowait(id)

    def pause(self, stack: str, id: str) -> None:
        """As by SIGSTOP: it answers to KILL only, until ``resume``."""
        self.running[stack, id].paused = True

    def resume(self, stack: str, id: str) -> None:
        """As by SIGCONT: a TERM that came meanwhile takes effect."""
        running = self.running[stack, id]
        running.paused = False
        if running.pending is not None:
            self.end(stack, id, running.pending)


class FakeRuntime:
    """Implements ``runtimes.base.Runtime`` on a ``Machine``. ``folder`` is for logs and sockets."""

    def __init__(self, machine: Machine, stack: str, folder: Path) -> None:
        self.machine = machine
        self.stack = stack
        self.folder = folder
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        machine.watchers.setdefault(stack, []).append(self._ended)

    async def start(self, process: Process) -> Found:
        """See ``Runtime.start``."""
        running = self._get(process.id)
        if running is not None and running.exit is None:
            return self._found(running)
        if running is not None and process.record_exit:
            raise RuntimeFault(f"{process.id}: has run already ({running.exit})")
        program = self.machine.programs.get(process.argv[0], self.machine.default)
        if program is None:
            raise RuntimeFault(
                f"{process.id}: cannot run {process.argv[0]}: No such file or directory"
            )
        path = self.log(process.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(program.output)
        running = _Running(
            process, program, next(self.machine._pids), self.machine.clock(), owner=self
        )
        self.machine.started += 1
        self.machine.running[self.stack, process.id] = running
        if program.ends is not None:
            self.machine.end(self.stack, process.id, program.ends)
        return self._found(running)

    async def look(self) -> Sequence[Found]:
        """See ``Runtime.look``."""
        ours = sorted(key for key in self.machine.running if key[0] == self.stack)
        return [self._found(self.machine.running[key]) for key in ours]

    async def signal(self, id: str, signal: Signal | None) -> None:
        """See ``Runtime.signal``. Nobody here ends of HUP."""
        running = self._get(id)
        if running is None or running.exit is not None or signal == "HUP":
            return
        if signal == "KILL":
            self.machine.end(self.stack, id, KILLED)
        elif running.program.on_term is not None and running.paused:
            running.pending = running.program.on_term
        elif running.program.on_term is not None:
            self.machine.end(self.stack, id, running.program.on_term)

    async def background(self, id: str, on: bool) -> None:
        """See ``Runtime.background``; nothing here is slow."""

    async def forget(self, id: str) -> None:
        """See ``Runtime.forget``."""
        running = self._get(id)
        if running is None:
            return
        if running.exit is None:
            raise RuntimeFault(f"{id}: is alive and cannot be forgotten")
        del self.machine.running[self.stack, id]
        for port in [p for p, o in self.machine.handed.items() if o == (self.stack, id)]:
            del self.machine.handed[port]

    async def usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        """See ``Runtime.usage``."""
        return {
            id: running.program.usage
            for id in ids
            if (running := self._get(id)) is not None and running.exit is None
        }

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``SeesStandstill.standstill``."""
        return {
            id: "stopped"
            for id in ids
            if (running := self._get(id)) is not None and running.exit is None and running.paused
        }

    def address(self, id: str, kind: Literal["socket", "port"]) -> Address:
        """See ``Runtime.address``."""
        if kind == "socket":
            path = str(self.folder / "s" / id)
            if len(path.encode()) > 107:
                raise EnvironmentFault(f"{path}: too long for a Unix socket")
            return Address(socket=path)
        port = next(n for n in itertools.count(20_000) if n not in self.machine.handed)
        self.machine.handed[port] = (self.stack, id)
        return Address(host="127.0.0.1", port=port)

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``."""
        while True:
            yield await self._ended.get()

    def log(self, id: str) -> Path:
        """See ``Runtime.log``."""
        return self.folder / "logs" / f"{urllib.parse.quote(id, safe='@')}.log"

    def identity_uid(self, name: str) -> int | None:
        """Nobody is anybody else here."""
        return None

    def shared_group(self) -> int | None:
        """Nobody needs one here."""
        return None

    def rotate(self, limit: int, keep: int) -> Sequence[str]:
        """Logs here stay small."""
        return []

    def close(self) -> None:
        """Stop watching; the programs go on."""
        self.machine.watchers[self.stack].remove(self._ended)

    def _get(self, id: str) -> _Running | None:
        return self.machine.running.get((self.stack, id))

    def _found(self, running: _Running) -> Found:
        exit = running.exit
        seen = running.owner is self or running.process.record_exit
        return Found(
            id=running.process.id,
            alive=exit is None,
            started_at=running.started_at,
            labels=dict(running.process.labels),
            pid=running.pid if exit is None else None,
            address=running.process.address,
            exit=exit if exit is None or seen else Exit(),
        )
