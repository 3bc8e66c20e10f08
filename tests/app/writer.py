"""A process that leads when it may, and writes its token as fast as it can while it does.

Arguments: URL, name of the lease, its ttl, flags ("-unchecked": believe instead of checking).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import asyncpg  # type: ignore[import-untyped]

from gapless.app.lease import Lease, Lost
from gapless.app.lease_postgres import Asyncpg


async def write(pool: asyncpg.Pool, lease: Lease, token: int, checked: bool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        if checked:
            await lease.check(connection)
        # Time to be paused in, between looking and acting.
        await asyncio.sleep(0.02)
        await connection.execute(
            "insert into written (token, pid) values ($1, $2)", token, os.getpid()
        )


async def main(url: str, name: str, ttl: float, flags: str) -> None:
    async with (
        asyncpg.create_pool(url, min_size=0, max_size=4) as pool,
        Lease(name, Asyncpg(pool), ttl) as lease,
    ):
        while True:
            token = await lease.wait()
            # Postgres ends the session of whoever was paused within a transaction.
            ended = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
            with contextlib.suppress(Lost, OSError, *ended):
                await write(pool, lease, token, "-unchecked" not in flags)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
