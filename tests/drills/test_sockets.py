"""Long-lived clients: told and moved, or dropped, are told apart, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, web

from gapless.drills import figures, load, sockets
from gapless.drills import spec as specs
from tests.edge import stand


@contextlib.asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """An application on a free port; gives its URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await stand.clean_up(runner)


async def crowd(url: str, kind: str, clients: int) -> load.Run:
    spec = specs.Spec.model_validate(
        {
            "url": url,
            "seconds": 60,
            "sockets": [{"kind": kind, "path": "/socket", "clients": clients}],
        }
    )
    return load.Run(spec)


async def until(tally: figures.Sockets, *, more: str = "", **wanted: int) -> None:
    """Until the tally has these values, and something of ``more``; else the test fails."""

    def there() -> bool:
        equal = all(getattr(tally, name) == value for name, value in wanted.items())
        return equal and (not more or getattr(tally, more) > 0)

    async with asyncio.timeout(20):
        while not there():  # noqa: ASYNC110  # the tally is plain numbers
            await asyncio.sleep(0.01)


class Room:
    """A WebSocket server that knows who is in."""

    def __init__(self) -> None:
        self.inside: list[web.WebSocketResponse] = []
        self.transports: list[asyncio.Transport] = []

    async def enter(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self.inside.append(socket)
        self.transports.append(request.transport)
        async for _ in socket:
            pass
        return socket

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/socket", self.enter)
        return app


async def test_a_close_frame_is_notice() -> None:
    room = Room()
    async with listening(room.app()) as url:
        run = await crowd(url, "websocket", 4)
        task = asyncio.create_task(run.go())
        await until(run.measured.sockets, open=4)
        for socket in room.inside[:2]:
            await socket.close(code=WSCloseCode.SERVICE_RESTART)
        await until(run.measured.sockets, moved=2, open=4)
        run.stop()
        tally = (await task).sockets
    assert (tally.clients, tally.connected, tally.told, tally.moved) == (4, 6, 2, 2)
    assert (tally.dropped, tally.refused) == (0, 0)


async def test_a_cut_without_a_close_frame_is_a_drop() -> None:
    room = Room()
    async with listening(room.app()) as url:
        run = await crowd(url, "websocket", 3)
        task = asyncio.create_task(run.go())
        await until(run.measured.sockets, open=3)
        room.transports[0].abort()
        await until(run.measured.sockets, dropped=1, open=3)
        run.stop()
        tally = (await task).sockets
    assert (tally.told, tally.moved, tally.dropped) == (0, 0, 1)


async def test_nobody_there_is_refused() -> None:
    async with listening(web.Application()) as url:
        run = await crowd(url, "websocket", 2)
        task = asyncio.create_task(run.go())
        await until(run.measured.sockets, more="refused")
        run.stop()
        tally = (await task).sockets
    assert (tally.connected, tally.open) == (0, 0)


async def test_socketio_clients_move_when_told() -> None:
    io = sockets.library().AsyncServer(async_mode="aiohttp")
    app = web.Application()
    io.attach(app, "/socket")
    here: list[str] = []
    io.on("connect", lambda sid, _: here.append(sid))
    async with listening(app) as url:
        run = await crowd(url, "socketio", 3)
        task = asyncio.create_task(run.go())
        await until(run.measured.sockets, open=3)
        await io.emit("reconnect", {}, to=here[0])
        await io.disconnect(here[1])
        await until(run.measured.sockets, moved=2, open=3)
        run.stop()
        tally = (await task).sockets
    assert (tally.clients, tally.told, tally.moved, tally.dropped) == (3, 2, 2, 0)
