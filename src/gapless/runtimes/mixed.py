"""Programs that have an image in containers, the others as processes of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Literal, Protocol

from gapless.model.process import Address, Bridge, Process, Signal
from gapless.runtimes import base


class Machine(base.Runtime, base.SeesStandstill, base.Confines, Protocol):
    """What both sides are: runtimes of this machine, with log files in the same place."""

    def identity_uid(self, name: str) -> int | None: ...
    def shared_group(self) -> int | None: ...


class Processes(Machine, Protocol):
    """The side that also looks after the log files."""

    def flooded(self, limit: int) -> bool: ...
    def rotate(self, limit: int, keep: int, also: Set[str] = ...) -> Sequence[str]: ...
    def close(self) -> None: ...


class Containers(Machine, base.Asks, base.Bridges, base.ShowsHealth, Protocol):
    """The side whose programs have images."""

    def known(self) -> frozenset[str]: ...
    async def close(self) -> None: ...


class MixedRuntime:
    """Implements ``runtimes.base.Runtime`` over two others of one stack.

    An id belongs to the side that was asked to start it, or that a look found it on.
    """

    def __init__(self, processes: Processes, containers: Containers) -> None:
        self.processes = processes
        self.containers = containers
        self._packed: set[str] = set()
        self._last: Machine = processes

    def _side(self, id: str) -> Machine:
        return self.containers if id in self._packed else self.processes

    async def start(self, process: Process) -> base.Found:
        """See ``Runtime.start``."""
        if process.image is not None:
            self._packed.add(process.id)
        self._last = self._side(process.id)
        return await self._last.start(process)

    async def look(self) -> Sequence[base.Found]:
        """See ``Runtime.look``. Raises RuntimeFault where either side cannot tell."""
        plain, packed = await asyncio.gather(self.processes.look(), self.containers.look())
        self._packed |= {found.id for found in packed}
        return sorted((*plain, *packed), key=lambda found: found.id)

    async def signal(self, id: str, signal: Signal | None) -> None:
        """See ``Runtime.signal``."""
        await self._side(id).signal(id, signal)

    async def forget(self, id: str) -> None:
        """See ``Runtime.forget``."""
        await self._side(id).forget(id)
        self._packed.discard(id)

    async def background(self, id: str, on: bool) -> None:
        """See ``Runtime.background``."""
        await self._side(id).background(id, on)

    async def usage(self, ids: Sequence[str]) -> Mapping[str, base.Usage]:
        """See ``Runtime.usage``."""
        plain, packed = self._split(ids)
        return {**await self.processes.usage(plain), **await self.containers.usage(packed)}

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``SeesStandstill.standstill``."""
        plain, packed = self._split(ids)
        found = await self.processes.standstill(plain)
        return {**found, **await self.containers.standstill(packed)}

    def _split(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        return (
            [id for id in ids if id not in self._packed],
            [id for id in ids if id in self._packed],
        )

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``."""
        found: asyncio.Queue[str] = asyncio.Queue()

        async def listen(side: Machine) -> None:
            async for id in side.ended():
                found.put_nowait(id)

        listening = [asyncio.create_task(listen(s)) for s in (self.processes, self.containers)]
        try:
            while True:
                yield await found.get()
        finally:
            for task in listening:
                task.cancel()

    def address(self, id: str, kind: Literal["socket", "port"]) -> Address:
        """See ``Runtime.address``. A port of the machine; one of a container is its image's."""
        return self.processes.address(id, kind)

    async def ask(self, id: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        """See ``Asks.ask``: only containers are somewhere else."""
        return await self.containers.ask(id, argv, limit)

    def show_health(self, ready: Mapping[str, bool]) -> None:
        """See ``ShowsHealth.show_health``."""
        self.containers.show_health(ready)

    @property
    def bridge(self) -> Bridge | None:
        """See ``Bridges.bridge``."""
        return self.containers.bridge

    async def open_bridge(self) -> None:
        """See ``Bridges.open_bridge``."""
        await self.containers.open_bridge()

    async def close_bridge(self) -> None:
        """See ``Bridges.close_bridge``."""
        await self.containers.close_bridge()

    def unconfined(self) -> str:
        """See ``Confines.unconfined``."""
        return self._last.unconfined()

    def log(self, id: str) -> Path:
        """See ``Runtime.log``."""
        return self.processes.log(id)

    def identity_uid(self, name: str) -> int | None:
        """The same on both sides."""
        return self.processes.identity_uid(name)

    def shared_group(self) -> int | None:
        """The same on both sides."""
        return self.processes.shared_group()

    def flooded(self, limit: int) -> bool:
        """Whether any log takes more room than ``limit`` bytes; quick."""
        return self.processes.flooded(limit)

    def rotate(self, limit: int, keep: int) -> Sequence[str]:
        """Bound the logs of both sides; blocking. Raises EnvironmentFault."""
        return self.processes.rotate(limit, keep, also=self.containers.known())

    async def close(self) -> None:
        """Stop watching. Everything goes on; another instance may adopt it."""
        self.processes.close()
        await self.containers.close()
