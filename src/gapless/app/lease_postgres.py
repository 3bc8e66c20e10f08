"""Leases in a table of Postgres, where they are worth most: beside what the leader writes.

Locks do the rest. A checked write holds a share of the row's *key*; a new leader changes the key,
so he has to wait for that write to end; renewing leaves the key alone and waits for nobody. A
writer that is paused within its transaction would keep everybody waiting: so the check has the
server end sessions that idle in it for longer than the lease lasts, and with them their writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

TABLE = """\
create table if not exists gapless_lease (
  name    text primary key,
  token   bigint not null,
  holder  text not null,
  expires timestamptz not null,
  unique (name, token)
)"""
"""For a migration, where the application itself may not create tables."""

# Behind a lock of its own: two that create the same table at once get in each other's way.
CREATE = f"""\
do $$ begin
  if to_regclass('gapless_lease') is null then
    perform pg_advisory_xact_lock(7104963172);
    {TABLE};
  end if;
end $$"""

# The conflict alone would do, but locks the row, and so waits for the leader's writes each time.
ACQUIRE = """\
insert into gapless_lease as l (name, token, holder, expires)
select {0}, 1, {1}, clock_timestamp() + {2} * interval '1 second'
where not exists (select from gapless_lease where name = {0} and expires > clock_timestamp())
on conflict (name) do update
set token = l.token + 1, holder = excluded.holder,
    expires = clock_timestamp() + {2} * interval '1 second'
where l.expires <= clock_timestamp()
returning token"""

RENEW = """\
update gapless_lease set expires = clock_timestamp() + {2} * interval '1 second'
where name = {0} and token = {1} and expires > clock_timestamp() returning token"""

RELEASE = """\
update gapless_lease set expires = '-infinity' where name = {0} and token = {1} returning token"""

CHECK = """\
select set_config('idle_in_transaction_session_timeout', {2}, true) from gapless_lease
where name = {0} and token = {1} and expires > clock_timestamp() for key share"""


class Asyncpg:
    """``source``: a pool of asyncpg, or a connection that nobody else uses.

    ``create``: make the table when it is missing.
    """

    def __init__(self, source: Any, create: bool = True) -> None:
        self._source, self._create = source, create

    async def _ask(self, sql: str, *values: Any) -> Any:
        if self._create:
            await self._source.execute(CREATE)
            self._create = False
        return await self._source.fetchval(_asyncpg(sql), *values)

    async def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""
        token: int | None = await self._ask(ACQUIRE, name, holder, ttl)
        return token

    async def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""
        return await self._ask(RENEW, name, token, ttl) is not None

    async def release(self, name: str, token: int) -> None:
        """Free for the next."""
        await self._ask(RELEASE, name, token)

    async def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """``connection``: of asyncpg. Raises ValueError outside of a transaction."""
        if not connection.is_in_transaction():
            raise ValueError("a lease is checked within the transaction of the write")
        found = await connection.fetchval(_asyncpg(CHECK), name, token, _milliseconds(ttl))
        return found is not None


class AsyncPsycopg:
    """``connect``: makes a ``psycopg.AsyncConnection`` when awaited."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], create: bool = True) -> None:
        self._connect, self._create = connect, create
        self._connection: Any = None

    async def _ask(self, sql: str, *values: Any) -> Any:
        if self._connection is None:
            self._connection = await self._connect()
        try:
            if self._create:
                await self._connection.execute(CREATE)
                self._create = False
            cursor = await self._connection.execute(*_dbapi(sql, *values))
            row = await cursor.fetchone()
            await self._connection.commit()
        except BaseException:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):
                await connection.close()
            raise
        return row and row[0]

    async def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""
        token: int | None = await self._ask(ACQUIRE, name, holder, ttl)
        return token

    async def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""
        return await self._ask(RENEW, name, token, ttl) is not None

    async def release(self, name: str, token: int) -> None:
        """Free for the next."""
        await self._ask(RELEASE, name, token)

    async def close(self) -> None:
        """Close the connection it made."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """``connection``: of psycopg, or a cursor of it, within a transaction."""
        cursor = await connection.execute(*_dbapi(CHECK, name, token, _milliseconds(ttl)))
        return await cursor.fetchone() is not None


class DbApi:
    """``connect``: makes a connection (psycopg, psycopg2) that the lease keeps for itself."""

    def __init__(self, connect: Callable[[], Any], create: bool = True) -> None:
        self._connect, self._create = connect, create
        self._connection: Any = None

    def _ask(self, sql: str, *values: Any) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        try:
            cursor = self._connection.cursor()
            if self._create:
                cursor.execute(CREATE)
                self._create = False
            cursor.execute(*_dbapi(sql, *values))
            row = cursor.fetchone()
            self._connection.commit()
        except BaseException:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):
                connection.close()
            raise
        return row and row[0]

    def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""
        token: int | None = self._ask(ACQUIRE, name, holder, ttl)
        return token

    def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""
        return self._ask(RENEW, name, token, ttl) is not None

    def release(self, name: str, token: int) -> None:
        """Free for the next."""
        self._ask(RELEASE, name, token)

    def close(self) -> None:
        """Close the connection it made."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """``connection``: or a cursor (Django's, too), within a transaction."""
        cursor = connection if hasattr(connection, "fetchone") else connection.cursor()
        cursor.execute(*_dbapi(CHECK, name, token, _milliseconds(ttl)))
        return cursor.fetchone() is not None


def _asyncpg(sql: str) -> str:
    return sql.format("$1", "$2", "$3")


def _dbapi(sql: str, *values: Any) -> tuple[str, dict[str, Any]]:
    names = ("one", "two", "three")
    return sql.format(*(f"%({name})s" for name in names)), dict(zip(names, values, strict=False))


def _milliseconds(ttl: float) -> str:
    return str(max(1, round(ttl * 1000)))
