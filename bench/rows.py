"""Rows that a store has acknowledged, one transaction each, while parts of the machine die."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from gapless.data import pgclient
from gapless.engine import client
from gapless.engine.paths import Paths

PAUSE = 0.005
"""Seconds between two rows: enough of them are under way at any moment."""
AGAIN = 0.1
"""Seconds until a store that is away is asked again."""


asyncpg = pgclient.driver()
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""How it says that the store is not there: the last one, when that dies within a word."""


class Writer:
    """Writes from ``start`` to ``finish``. ``acknowledged``: the numbers of which it was told."""

    def __init__(self, stack: str, store: str) -> None:
        """As the stack's shell to the store would. Raises NoController, UsageError."""
        told = client.Client(Paths.of(stack)).post("/v1/connect", {"name": store})
        words = told["argv"][1:]
        given = dict(zip(words[::2], words[1::2], strict=True))
        self._target: dict[str, Any] = {
            "host": given["-h"],
            "port": int(given["-p"]),
            "user": given["-U"],
            "database": given["-d"],
            "password": told["env"]["PGPASSWORD"],
            "timeout": 5.0,
        }
        self.acknowledged: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)

    def start(self) -> None:
        asyncio.run(self._ask("CREATE TABLE told (number bigint)"))
        self._thread.start()

    def finish(self) -> int:
        """How many of the acknowledged it does not have."""
        self._over.set()
        self._thread.join(30)
        rows = asyncio.run(self._ask("SELECT number FROM told"))
        return len(set(self.acknowledged) - {row["number"] for row in rows})

    async def _ask(self, text: str) -> Any:
        connection = await asyncpg.connect(**self._target)
        try:
            return await connection.fetch(text)
        finally:
            await connection.close()

    async def _write(self) -> None:
        number = 0
        while not self._over.is_set():
            try:
                connection = await asyncpg.connect(**self._target)
            except AWAY:
                await asyncio.sleep(AGAIN)
                continue
            try:
                while not self._over.is_set():
                    number += 1
                    await connection.execute("INSERT INTO told VALUES ($1)", number, timeout=5.0)
                    self.acknowledged.append(number)
                    await asyncio.sleep(PAUSE)
            except AWAY:
                connection.terminate()
