"""Who is where, over all replicas, in Redis.

One sorted set a place: members ``who + NUL + connection``, score = last sign of life by the clock
of Redis. A replica renews its own every ``beat`` seconds; what was not renewed for ``gone`` seconds
no longer counts, so the people of a replica that was killed fade out without anybody cleaning up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

log = logging.getLogger(__name__)

CHUNK = 1000
"""Members renewed by one command, so that none keeps Redis busy for long."""

_NOW = "local t = redis.call('time') local now = t[1] + t[2] / 1000000 "

_RENEW = (
    _NOW
    + """
for n = 2, #ARGV do redis.call('zadd', KEYS[1], now, ARGV[n]) end
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[1])
redis.call('expire', KEYS[1], math.ceil(2 * ARGV[1]))
return 0"""
)
_ALIVE = _NOW + "return redis.call('zrangebyscore', KEYS[1], now - ARGV[1], '+inf')"


class Presence:
    """``client``: of ``redis.asyncio``; ``prefix``: of the keys. A connection is in one place."""

    def __init__(
        self, client: Any, prefix: str = "presence", beat: float = 10.0, gone: float = 30.0
    ) -> None:
        if not 0 < beat < gone:
            raise ValueError("presence: beat must be above 0 and below gone")
        self._redis, self._prefix = client, prefix
        self._beat, self._gone = beat, gone
        self._mine: dict[str, tuple[str, str]] = {}

    async def enter(self, connection: str, place: str, who: str) -> None:
        """The connection is in this place now, and in no other."""
        await self.leave(connection)
        self._mine[connection] = (place, who)
        await self._renew(place, [_member(who, connection)])

    async def leave(self, connection: str) -> str | None:
        """Returns the place it was in."""
        place, who = self._mine.pop(connection, (None, ""))
        if place is not None:
            await self._redis.zrem(self._key(place), _member(who, connection))
        return place

    async def there(self, place: str) -> list[str]:
        """Names without repetition, in alphabetical order."""
        alive = await self._redis.eval(_ALIVE, 1, self._key(place), self._gone)
        texts = (one.decode() if isinstance(one, bytes) else str(one) for one in alive)
        return sorted({text.rpartition("\0")[0] for text in texts})

    async def renew(self) -> None:
        """A sign of life for everybody here; forgets those who gave none for long."""
        places: dict[str, list[str]] = defaultdict(list)
        for connection, (place, who) in self._mine.items():
            places[place].append(_member(who, connection))
        for place, members in places.items():
            for first in range(0, len(members), CHUNK):
                await self._renew(place, members[first : first + CHUNK])

    async def keep(self) -> None:
        """Renew for ever; a store that is away for a while is no reason to stop."""
        while True:
            await asyncio.sleep(self._beat)
            try:
                await self.renew()
            except Exception as error:  # of whichever client it is
                log.warning("presence: %s", str(error) or type(error).__name__)

    async def close(self) -> None:
        """Everybody here leaves."""
        for connection in list(self._mine):
            await self.leave(connection)

    async def _renew(self, place: str, members: list[str]) -> None:
        await self._redis.eval(_RENEW, 1, self._key(place), self._gone, *members)

    def _key(self, place: str) -> str:
        return f"{self._prefix}:{place}"


def _member(who: str, connection: str) -> str:
    return f"{who}\0{connection}"
