"""Questions and orders to the workers of one HAProxy, and what their answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gapless import errors
from gapless.edge import config as conf
from gapless.edge import sums, talk, wire

OLD_SECONDS = 0.3
OLD_ATTEMPTS = 5
LISTING_SECONDS = 2.0
"""An old worker may have thousands of sessions to list."""
BATCH_BYTES = 12_000
"""HAProxy reads a line of commands into one buffer of 16 KiB."""


class Asking:
    """``run`` holds the sockets, of the present worker and of the master."""

    def __init__(self, run: Path, stack: str) -> None:
        self.run = run
        self.stack = stack

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
        return wire.servers(await self._answer([wire.SERVERS]))

    async def _old_servers(self, pid: int) -> list[wire.Seen]:
        answer = await self._through_master(pid, wire.SERVERS)
        return wire.servers(answer) if wire.TABLE in answer else []

    async def _workers(self) -> wire.Workers:
        answer = await talk.exchange(self._master, f"{wire.WORKERS};quit\n")
        try:
            return wire.workers(answer)
        except ValueError as error:
            raise talk.refused(wire.WORKERS, str(error)) from None

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
                return await talk.exchange(self._master, line, patience)
            except errors.EdgeRefused:
                if pid not in (await self._known_workers()).old:
                    return ""
            except talk.SilentError as silent:
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
        return await talk.exchange(self._stats, wire.line(orders))
