"""Servers that misbehave on the wire in one exact way each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.edge import stand

Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers request number n (from 0) of one connection; its head has been read."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server on a free port; gives its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                await answer(number, reader, writer)
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(client(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await stand.close(
            server
        )  # before a task is cancelled that has not begun: it closes nothing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stand.handed_over()


def always(data: bytes, *, then_close: bool = False) -> Answer:
    """The same bytes for each request."""

    async def answer(_: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            writer.close()

    return answer


async def cut_second(_n: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A good answer first; the next request on the same connection is met by its end."""
    if _n == 0:
        writer.write(OK)
        await writer.drain()
    else:
        writer.close()


async def never(_n: int, _: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """No answer."""
    await asyncio.Event().wait()
