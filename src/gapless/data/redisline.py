"""One connection to Redis, kept between probes, and one-off commands."""

from __future__ import annotations

import asyncio

from gapless.data import resp
from gapless.data.base import PROBE_SECONDS
from gapless.errors import DataFault

BROKEN = (OSError, EOFError, resp.Malformed)
"""A connection that ended so is of no more use."""


class Line:
    """Asks ``PING`` on an authenticated connection.

    PING is more than a sign of life: the server answers it with an error while it loads its file,
    and while it refuses writes because the disk failed.
    """

    def __init__(self, target: resp.Target) -> None:
        self._target = target
        self._open: resp.Connection | None = None

    async def ask(self) -> str:
        """ "" when the server answers, else why not. Takes at most PROBE_SECONDS."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                try:
                    return await self._ping()
                except BROKEN:
                    # The kept one broke: perhaps the server was restarted meanwhile.
                    self._drop()
                    return await self._ping()
        except TimeoutError:
            self._drop()
            return f"no answer within {PROBE_SECONDS:g} s"
        except (*BROKEN, resp.ReplyError) as error:
            self._drop()
            return reason(error)

    async def close(self) -> None:
        """Hang up. The next ``ask`` connects anew."""
        self._drop()

    async def _ping(self) -> str:
        if self._open is None or self._open.loop is not asyncio.get_running_loop():
            self._open = await resp.Connection.open(self._target)
        answer = await self._open.ask("PING")
        return "" if answer == "PONG" else f"PING was answered with {answer!r}"

    def _drop(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()


async def once(target: resp.Target, *words: str) -> resp.Reply:
    """One command on a connection of its own. Raises DataFault (not up), ReplyError (refused)."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            connection = await resp.Connection.open(target)
            try:
                return await connection.ask(*words)
            finally:
                connection.close()
    except TimeoutError:
        raise DataFault("Redis did not answer in time") from None
    except BROKEN as error:
        raise DataFault(f"Redis: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, EOFError):
        return "hung up"
    return str(error) or type(error).__name__
