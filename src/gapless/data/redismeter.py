"""One connection to Redis, kept between measurements of queues."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from gapless.data import redisline, redisqueue, resp
from gapless.data.base import PROBE_SECONDS
from gapless.errors import DataFault


class Meter:
    """Tells how deep queues are; see ``data.base.Backlog``. ``name``: the store, for messages.

    A connection apart from the one that probes use: a long queue must not look like a slow store.
    """

    def __init__(self, name: str, target: resp.Target) -> None:
        self._name = name
        self._target = target
        self._open: resp.Connection | None = None
        self._turn = asyncio.Lock()

    async def backlog(self, queue: str) -> int:
        """Tasks that are not done. Raises DataFault."""
        return (await self.depth(queue)).total

    async def depth(self, queue: str) -> redisqueue.Depth:
        """What waits and what was taken, apart. Raises DataFault."""
        place = f"{self._name}: queue {queue}"
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._turn:
                try:
                    return await self._measure(queue)
                except redisline.BROKEN:
                    # The kept one broke: perhaps the server was restarted meanwhile.
                    self._drop()
                    return await self._measure(queue)
        except TimeoutError:
            self._drop()
            raise DataFault(f"{place}: no answer within {PROBE_SECONDS:g} s") from None
        except (*redisline.BROKEN, resp.ReplyError) as error:
            self._drop()
            raise DataFault(f"{place}: {redisline.reason(error)}") from None
        except DataFault as fault:
            raise DataFault(f"{self._name}: {fault.message}", hint=fault.hint) from None

    async def close(self) -> None:
        """Hang up. The next measurement connects anew."""
        self._drop()

    async def _measure(self, queue: str) -> redisqueue.Depth:
        if self._open is None or self._open.loop is not asyncio.get_running_loop():
            self._open = await resp.Connection.open(self._target)
        try:
            return await redisqueue.depth(self._open, queue, datetime.now(UTC))
        except asyncio.CancelledError:
            self._drop()  # half an answer may be on its way
            raise

    def _drop(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()
