"""A store that somebody else runs: the same attributes, taken from its URL, and a probe."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from gapless.data import base, pgclient, redisline, redismeter, resp
from gapless.errors import DataFault
from gapless.model.process import Bridge

_SCHEMES = {"postgres": ("postgresql", "postgres"), "redis": ("redis", "rediss", "valkey")}
_PORTS = {"postgres": 5432, "redis": 6379}


class External:
    """See ``data.base.Store`` for the methods. No message ever holds the URL: it has secrets."""

    def __init__(self, name: str, type: str, url: str) -> None:
        """Raises DataFault when the URL cannot be understood."""
        self.name = name
        self._type = type
        self._url = url
        if type not in _SCHEMES:
            raise DataFault(f"{name}: {type} cannot be external")
        self._parts, self._port = _parse(name, type, url)
        self._meter: redismeter.Meter | None = None
        self._line = self._connect()

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        parts = self._parts
        shared = {
            "url": self._url,
            "host": parts.hostname or "",
            "port": str(self._port),
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.lstrip("/")),
        }
        if self._type == "postgres":
            return {**shared, "pool_url": self._url, "replica_url": self._url}
        user, database = shared["user"] or "default", shared["database"] or "0"
        return {**shared, "user": user, "database": database}

    def created(self) -> bool:
        return True

    async def create(self) -> None:
        pass

    def process(self, bridge: Bridge | None = None) -> None:
        return None

    async def probe(self) -> str:
        return await self._line.ask()

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        raise DataFault(
            f"{self.name}: is external; gapless runs no shell for it",
            hint="use the client of its provider",
        )

    async def pending(self) -> tuple[base.Pending, ...]:
        return ()

    async def apply(self, *, stopped: bool = False) -> tuple[base.Pending, ...]:
        return ()

    def explain(self, log: str) -> str:
        return ""

    async def backlog(self, queue: str) -> int:
        """See ``data.base.Backlog``."""
        if self._meter is None:
            raise DataFault(f"{self.name}: {self._type} holds no queues")
        return await self._meter.backlog(queue)

    async def close(self) -> None:
        await self._line.close()
        if self._meter is not None:
            await self._meter.close()

    def _connect(self) -> pgclient.Line | redisline.Line:
        parts = self._parts
        if self._type == "postgres":
            # "postgresql+asyncpg" and the like are for the application's library.
            plain = urlunsplit(("postgresql", *parts[1:]))
            return pgclient.Line(dsn=plain)
        password = None if parts.password is None else unquote(parts.password)
        user = unquote(parts.username or "") or None
        number = parts.path.strip("/")
        target = resp.Target(
            host=parts.hostname or "",
            port=self._port,
            password=password,
            user=user,
            tls=parts.scheme == "rediss",
            database=int(number) if number.isascii() and number.isdigit() else 0,
        )
        self._meter = redismeter.Meter(self.name, target)
        return redisline.Line(target)


def _parse(name: str, type: str, url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise DataFault(f"{name}: its url cannot be understood") from None
    if parts.scheme.partition("+")[0] not in _SCHEMES[type]:
        wanted = " or ".join(f"{scheme}://" for scheme in _SCHEMES[type])
        raise DataFault(f"{name}: its url must begin with {wanted}")
    if not parts.hostname:
        raise DataFault(f"{name}: its url names no host")
    return parts, port or _PORTS[type]
