"""One connection to PostgreSQL, kept between probes, and one-off queries of the superuser.

A connection a probe would cost a server process and a password hash each second; a kept one
costs a round trip. The driver is imported on first use: a stack without PostgreSQL never pays.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Sequence
from typing import Any

from gapless.data.base import PROBE_SECONDS
from gapless.errors import DataFault

LATE = "no answer within"
"""How a probe begins to tell that the server took too long."""


def driver() -> Any:
    """The driver module. Raises DataFault when it is not installed."""
    try:
        return importlib.import_module("asyncpg")
    except ImportError:
        raise DataFault(
            "the PostgreSQL driver is not installed", hint="pip install 'gapless[embedded]'"
        ) from None


class Line:
    """Asks ``SELECT 1``. ``target``: keyword arguments of the driver's ``connect``."""

    def __init__(self, **target: Any) -> None:
        self._target = target
        self._open: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self) -> str:
        """ "" when the server answers, else why not. Takes at most PROBE_SECONDS."""
        asyncpg = driver()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                try:
                    await self._select()
                except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
                    # The kept one broke: perhaps the server was restarted meanwhile.
                    self._drop()
                    await self._select()
        except TimeoutError:
            self._drop()
            return f"{LATE} {PROBE_SECONDS:g} s"
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            self._drop()
            return reason(error)
        return ""

    async def close(self) -> None:
        """Hang up. The next ``ask`` connects anew."""
        connection, self._open = self._open, None
        if connection is not None and self._loop is asyncio.get_running_loop():
            with contextlib.suppress(OSError, driver().InterfaceError, TimeoutError):
                await connection.close(timeout=1.0)

    async def _select(self) -> None:
        loop = asyncio.get_running_loop()
        if self._open is None or self._open.is_closed() or self._loop is not loop:
            self._open = await driver().connect(
                timeout=PROBE_SECONDS,
                statement_cache_size=0,
                server_settings={"application_name": "gapless"},
                **self._target,
            )
            self._loop = loop
        await self._open.execute("SELECT 1")

    def _drop(self) -> None:
        connection, self._open = self._open, None
        if connection is not None and self._loop is asyncio.get_running_loop():
            connection.terminate()


async def once(sql: str, **target: Any) -> Sequence[Sequence[Any]]:
    """Rows of one query on a connection of its own. Raises DataFault."""
    asyncpg = driver()
    try:
        async with asyncio.timeout(2 * PROBE_SECONDS):
            connection = await asyncpg.connect(
                timeout=PROBE_SECONDS, statement_cache_size=0, **target
            )
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close(timeout=1.0)
    except TimeoutError:
        raise DataFault("PostgreSQL did not answer in time") from None
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise DataFault(f"PostgreSQL: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """A driver's error in one line."""
    if isinstance(error, ConnectionError) or (isinstance(error, OSError) and error.strerror):
        return "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
    return str(error).splitlines()[0] if str(error) else type(error).__name__
