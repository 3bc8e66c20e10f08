"""Questions and orders to the workers of one HAProxy, and what their answers mean."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gapless import errors
from gapless.edge import config as conf
from gapless.edge import files, sums, talk, wire
from gapless.observed import EdgeServer

OLD_SECONDS = 0.3
OLD_ATTEMPTS = 5
LISTING_SECONDS = 2.0
"""An old worker may have thousands of sessions to list."""
AT_ONCE = 6
"""Exchanges at a time: HAProxy lets ten in, and refuses what comes while as many wait."""
BATCH_BYTES = 12_000
"""HAProxy reads a line of commands into one buffer of 16 KiB."""


class Asking:
    """``run`` holds the sockets, of the present worker and of the master."""

    def __init__(self, run: Path, stack: str) -> None:
        self.run = place(run)
        self.stack = stack
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._looking: asyncio.Task[list[wire.Seen]] | None = None
        self._next: asyncio.Task[list[wire.Seen]] | None = None
        self._through: dict[int, Path] = {}
        """The masters of workers that the present master does not know."""

    async def seen(self) -> Mapping[str, EdgeServer]:
        """The present worker's servers by name. Changes nothing: for those who only measure.

        Raises EdgeRefused.
        """
        return {one.server.name: one.server for one in await self._servers()}

    async def worker(self) -> int | None:
        """The pid of the present worker: another one after a reload. Raises EdgeRefused."""
        return (await self._known_workers()).current

    async def pids(self) -> tuple[int, ...]:
        """The master's, and those of its workers, the present one first. Raises EdgeRefused."""
        workers = await self._known_workers()
        now = () if workers.current is None else (workers.current,)
        return (workers.master, *now, *workers.old)

    def _put(self, path: Path, text: str) -> None:
        """Write what its next worker reads: for the group of a folder of its own, which is another
        account's; else for us alone. Raises EnvironmentFault."""
        other = self.run.name == conf.FOLDER and os.geteuid() == 0
        files.write(path, text, self.run.stat().st_gid if other else None)

    @property
    def _master(self) -> Path:
        return self.run / conf.MASTER_SOCKET

    @property
    def _stats(self) -> Path:
        return self.run / conf.STATS_SOCKET

    def _info(self, answer: str) -> wire.Info:
        try:
            info = wire.info(answer)
        except ValueError as error:
            raise talk.refused(wire.INFO, str(error)) from None
        if info.stack != self.stack:
            raise talk.refused(wire.INFO, f"it serves the stack {info.stack}, not {self.stack}")
        return info

    async def _servers(self) -> list[wire.Seen]:
        """As it is from now on: those who ask during one look share the next.

        Many members that enter together would otherwise read the whole table for each of them.
        """
        if self._next is None or self._next.get_loop() is not asyncio.get_running_loop():
            self._next = asyncio.create_task(self._look_for_servers(self._looking))
            self._next.add_done_callback(_heard)
        # Shielded: one that gives up must not take the answer away from the others.
        return await asyncio.shield(self._next)

    async def _look_for_servers(
        self, before: asyncio.Task[list[wire.Seen]] | None
    ) -> list[wire.Seen]:
        if before is not None and before.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({before})
        self._looking, self._next = self._next, None
        return wire.servers(await self._answer([wire.SERVERS]))

    async def _old_servers(self, pid: int) -> list[wire.Seen]:
        answer = await self._through_master(pid, wire.SERVERS)
        return wire.servers(answer) if wire.TABLE in answer else []

    async def _workers(self) -> wire.Workers:
        async with self._turns:
            answer = await talk.exchange(self._master, f"{wire.WORKERS};quit\n")
        try:
            return await self._with_elders(wire.workers(answer))
        except ValueError as error:
            raise talk.refused(wire.WORKERS, str(error)) from None

    async def _with_elders(self, workers: wire.Workers) -> wire.Workers:
        """And the workers of those that it has taken over from: old ones like its own."""
        old = dict.fromkeys(workers.old)
        through = {}
        for path in self.run.glob(conf.ELDERS.format("*")):
            try:
                async with self._turns:
                    answer = await talk.exchange(path, f"{wire.WORKERS};quit\n")
                elder = wire.workers(answer)
            except (talk.SilentError, ValueError):
                path.unlink(missing_ok=True)
                continue
            if elder.master != workers.master:  # else its successor is not there yet
                pids = [pid for pid in (elder.current, *elder.old) if pid is not None]
                through.update(dict.fromkeys(pids, path))
                old.update(dict.fromkeys(pids))
        self._through = through
        return replace(workers, old=tuple(old))

    async def _known_workers(self) -> wire.Workers:
        try:
            return await self._workers()
        except talk.SilentError as silent:
            raise talk.refused(wire.WORKERS, str(silent)) from None

    async def _through_master(self, pid: int, *orders: str, patience: float = OLD_SECONDS) -> str:
        """Ask an old worker. One that ends just then is never heard of again: nothing is left."""
        line = wire.line(orders, worker=pid)
        for _ in range(OLD_ATTEMPTS):
            try:
                async with self._turns:
                    master = self._through.get(pid, self._master)
                    return await talk.exchange(master, line, patience)
            except errors.EdgeRefused:
                if pid not in (await self._known_workers()).old:
                    return ""
            except talk.SilentError as silent:
                if pid in self._through:
                    return ""
                raise talk.refused(line.strip(), str(silent)) from None
        raise talk.refused(line.strip(), "an old worker does not answer")

    async def _order(self, orders: list[str]) -> None:
        """Commands that answer nothing when they succeed; anything else is a refusal."""
        for batch in sums.batches(orders, BATCH_BYTES):
            if problems := wire.refusals(await self._answer(batch)):
                raise talk.refused("; ".join(batch), "; ".join(problems))

    async def _answer(self, orders: Sequence[str]) -> str:
        try:
            return await self._ask(orders)
        except talk.SilentError as silent:
            raise talk.refused("; ".join(orders), str(silent)) from None

    async def _ask(self, orders: Sequence[str]) -> str:
        async with self._turns:
            return await talk.exchange(self._stats, wire.line(orders))


def place(run: Path) -> Path:
    """Where the edge of a stack with that run directory has its sockets: one that runs in a
    container has a folder of its own."""
    inner = run / conf.FOLDER
    return inner if inner.is_dir() else run


def _heard(look: asyncio.Task[list[wire.Seen]]) -> None:
    """A fault is told to whoever asked; when they all have given up, to nobody."""
    if not look.cancelled():
        look.exception()
