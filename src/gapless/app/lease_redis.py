"""Leases in Redis: good advice, and no proof.

Redis counts the time and hands out tokens that grow. But what the leader writes is elsewhere, so
nothing can be checked within the write, and a failover of Redis may forget a lease that was given
moments ago. Use it where two leaders for a moment do no harm; else hand ``lease.token`` to whatever
is written to and let *that* refuse a smaller one than it has seen, or keep the lease in Postgres.
"""

from __future__ import annotations

from typing import Any, NoReturn

# Both keys in braces: they belong to one node of a cluster.
_ACQUIRE = """
if redis.call('set', KEYS[1], '', 'nx', 'px', ARGV[2]) then
  local token = redis.call('incr', KEYS[2])
  redis.call('set', KEYS[1], token .. ' ' .. ARGV[1], 'px', ARGV[2])
  return token
end
return false"""

_IF_OURS = """
local held = redis.call('get', KEYS[1])
if held and string.match(held, '^%d+') == ARGV[1] then return redis.call({}) end
return 0"""
_RENEW = _IF_OURS.format("'pexpire', KEYS[1], ARGV[2]")
_RELEASE = _IF_OURS.format("'del', KEYS[1]")


def _keys(name: str) -> tuple[str, str]:
    return f"{{gapless:lease:{name}}}", f"{{gapless:lease:{name}}}:token"


def _milliseconds(ttl: float) -> int:
    return max(1, round(ttl * 1000))


def _cannot_check() -> NoReturn:
    raise TypeError("a lease in Redis cannot be checked within a write; keep it in Postgres")


class Redis:
    """``client``: of ``redis.asyncio`` (or ``valkey.asyncio``)."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""
        words = (*_keys(name), holder, _milliseconds(ttl))
        token: int | None = await self._client.eval(_ACQUIRE, 2, *words)
        return token

    async def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""
        words = (_keys(name)[0], token, _milliseconds(ttl))
        return bool(await self._client.eval(_RENEW, 1, *words))

    async def release(self, name: str, token: int) -> None:
        """Free for the next."""
        await self._client.eval(_RELEASE, 1, _keys(name)[0], token)

    async def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """Raises TypeError: there is no such thing here."""
        _cannot_check()


class BlockingRedis:
    """``client``: of ``redis`` (or ``valkey``)."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""
        words = (*_keys(name), holder, _milliseconds(ttl))
        token: int | None = self._client.eval(_ACQUIRE, 2, *words)
        return token

    def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""
        return bool(self._client.eval(_RENEW, 1, _keys(name)[0], token, _milliseconds(ttl)))

    def release(self, name: str, token: int) -> None:
        """Free for the next."""
        self._client.eval(_RELEASE, 1, _keys(name)[0], token)

    def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """Raises TypeError: there is no such thing here."""
        _cannot_check()
