"""Runs migrations on the database that the application itself uses."""

from __future__ import annotations

import asyncio

from alembic import context
from chat.settings import Settings
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

LOCK = 4_712_001
"""Any number: two migrations at once wait for each other instead of colliding."""


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()


async def main() -> None:
    url = make_url(Settings.of().database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("chat: migrations run against a database, not into a script")
asyncio.run(main())
