"""Replicas of which one leads and writes: ``python leader_app.py FOLDER``.

All try for a ``gapless.app`` lease in the PostgreSQL of ``DATABASE_URL``; who has it writes its
token until a write is refused, each checked within. What happens is told in ``FOLDER/leaders``:

    TOKEN ID PID SECONDS WORD

WORD is ``leads``, or ``late`` when a write of a leader of yesterday was not accepted.
``--tally`` prints what the table holds, in the order of the writes: ``TOKEN:HOW-MANY`` of each run.

It runs with a copy of ``gapless.app`` and of asyncpg beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from gapless.app.lease import Lease, Lost
from gapless.app.lease_postgres import Asyncpg

NAME = "drill"
TTL = 1.0
PAUSE = 0.01
MAKE = """\
create table if not exists written (
  number bigserial primary key, token bigint not null, holder text not null
)"""
WRITE = "insert into written (token, holder) values ($1, $2)"
READ = "select token from written order by number"


class Leader:
    """One replica."""

    def __init__(self, folder: str, pool: Any, lease: Lease, checked: bool = True) -> None:
        self.pool, self.lease, self.checked = pool, lease, checked
        self.id = os.environ.get("SERVER_ID", "nobody")
        self._diary = os.open(f"{folder}/leaders", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def tell(self, token: int, word: str) -> None:
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        line = f"{token} {self.id} {os.getpid()} {at:.4f} {word}\n"
        os.write(self._diary, line.encode("ascii"))

    async def run(self) -> None:
        """For ever: wait to lead, write until a write is refused."""
        while True:
            token = await self.lease.wait()
            self.tell(token, "leads")
            while await self._write(token):
                pass

    async def _write(self, token: int) -> bool:
        """False when we do not lead any more. Whatever we believe: the write itself finds out."""
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                if self.checked:
                    await self.lease.check(connection)
                # Time to be paused in, between looking and acting.
                await asyncio.sleep(PAUSE)
                await connection.execute(WRITE, token, self.id)
        except Lost:
            self.tell(token, "late")
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            # The server ends the session of a leader that was paused within his transaction.
            # He does not know better, and tries again.
            await asyncio.sleep(PAUSE)
        return True


async def serve(folder: str, checked: bool = True) -> None:
    """Lead whenever it may, until TERM."""
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=3) as pool,
        Lease(NAME, Asyncpg(pool), TTL) as lease,
    ):
        # Of several that make the table at once, all but one may fail.
        with contextlib.suppress(asyncpg.PostgresError):
            await pool.execute(MAKE)
        task = asyncio.create_task(Leader(folder, pool, lease, checked).run())
        # Told to go, it frees the lease: a planned change costs no waiting.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task


async def tally() -> None:
    """Print the runs of tokens."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    rows = await connection.fetch(READ)
    await connection.close()
    runs = itertools.groupby(int(row["token"]) for row in rows)
    sys.stdout.write(" ".join(f"{token}:{len(list(run))}" for token, run in runs) + "\n")


def main(checked: bool = True) -> int:
    what = sys.argv[1]
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(tally() if what == "--tally" else serve(what, checked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
