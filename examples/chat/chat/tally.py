"""How many people are in each room, written down every few seconds by one replica: the leader.

Any replica may lead. ``check``, within the transaction that writes, keeps a leader of yesterday,
who was paused and does not know, from writing what it counted then.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg
from redis.exceptions import RedisError

from chat.store import Store
from gapless.app.lease import Lease, Lost
from gapless.app.lease_postgres import Asyncpg
from gapless.app.presence import Presence

EVERY = 5.0
log = logging.getLogger(__name__)


class Tally:
    """Shown on the health pages by its name."""

    name = "tally"

    def __init__(self, store: Store, presence: Presence) -> None:
        self._store, self._presence = store, presence
        self._lease: Lease | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica writes."""
        return self._lease is not None and self._lease.leading

    async def keep(self) -> None:
        """Lead whenever it is our turn, for ever. The store must be open."""
        async with Lease(self.name, Asyncpg(self._store.pool)) as lease:
            self._lease = lease
            await lease.lead(lambda: self._count(lease))

    async def _count(self, lease: Lease) -> None:
        while True:
            try:
                await self._write(lease)
            except (Lost, RedisError, asyncpg.PostgresError, OSError) as error:
                log.info("not counted: %s", error)  # what is away comes back
            await asyncio.sleep(EVERY)

    async def _write(self, lease: Lease) -> None:
        rooms = await self._store.rooms()
        people = {room: len(await self._presence.there(room)) for room in rooms}
        async with self._store.pool.acquire() as connection, connection.transaction():
            await lease.check(connection)
            await self._store.count_people(connection, people)
