"""Who is in which room, over all replicas.

One sorted set a room: members ``user + NUL + connection``, score = last sign of life. A replica
renews its own every ``BEAT`` seconds; what was not renewed for ``GONE`` seconds no longer counts,
so the people of a replica that was killed fade out without anybody cleaning up after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import redis.asyncio
from redis.exceptions import RedisError

BEAT = 10.0
GONE = 30.0


class Presence:
    """``clock`` gives unix seconds; all machines are expected to agree within a few of them."""

    def __init__(self, client: redis.asyncio.Redis, clock: Callable[[], float] = time.time) -> None:
        self._redis = client
        self._clock = clock
        self._mine: dict[str, tuple[str, str]] = {}

    async def enter(self, connection: str, room: str, user: str) -> None:
        """The connection is in this room now, and in no other."""
        await self.leave(connection)
        self._mine[connection] = (room, user)
        await self._redis.zadd(_key(room), {_member(user, connection): self._clock()})

    async def leave(self, connection: str) -> str | None:
        """Returns the room it was in."""
        room, user = self._mine.pop(connection, (None, ""))
        if room is not None:
            await self._redis.zrem(_key(room), _member(user, connection))
        return room

    async def users(self, room: str) -> list[str]:
        """Names without repetition, in alphabetical order."""
        alive = await self._redis.zrangebyscore(_key(room), self._clock() - GONE, "+inf")
        return sorted({str(member).partition("\0")[0] for member in alive})

    async def renew(self) -> None:
        """A sign of life for everybody here; forgets those who gave none for long."""
        now = self._clock()
        async with self._redis.pipeline(transaction=False) as pipe:
            for connection, (room, user) in list(self._mine.items()):
                pipe.zadd(_key(room), {_member(user, connection): now})
                pipe.zremrangebyscore(_key(room), "-inf", now - GONE)
                pipe.expire(_key(room), int(2 * GONE))
            await pipe.execute()

    async def keep(self) -> None:
        """Renew for ever; a store that is away for a while is no reason to stop."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self.renew()
            except (RedisError, OSError):
                continue


def _key(room: str) -> str:
    return f"chat:presence:{room}"


def _member(user: str, connection: str) -> str:
    return f"{user}\0{connection}"
