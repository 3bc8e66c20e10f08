"""The application: ``uvicorn chat.main:app``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio
import socketio
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from chat import api, health
from chat.live import Live
from chat.presence import Presence
from chat.settings import Settings
from chat.sockets import Sockets, follow_notice
from chat.store import Store

STATIC = Path(__file__).resolve().parent.parent / "static"


def create(settings: Settings) -> Sockets:
    """The ASGI application. Nothing is connected before its lifespan starts."""
    store = Store(settings.database_url, settings.pool)
    cache = redis.asyncio.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_connect_timeout=2,
        health_check_interval=30,
    )
    presence = Presence(cache)
    live = Live(settings, store, presence)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open()
        tasks = [
            asyncio.create_task(presence.keep()),
            asyncio.create_task(follow_notice(settings.notice, leave)),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await cache.aclose()
        await store.close()

    async def leave() -> None:
        await live.tell_to_reconnect()
        await app.goodbye()

    web = FastAPI(title="chat", lifespan=lifespan, docs_url=None, redoc_url=None)
    web.include_router(api.router(settings, store, presence, live))
    web.include_router(
        health.router(settings, health.Checks({"db": store.ping, "cache": cache.ping}))
    )
    web.mount("/static", StaticFiles(directory=STATIC), name="static")

    @web.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app = Sockets(socketio.ASGIApp(live.io, other_asgi_app=web))
    return app


app = create(Settings.of())
