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

from chat import __version__, api
from chat.live import Live
from chat.settings import Settings
from chat.store import Store
from chat.tally import Tally
from gapless.app import asgi
from gapless.app.drain import Drain
from gapless.app.health import Health
from gapless.app.metrics import Metrics
from gapless.app.presence import Presence

STATIC = Path(__file__).resolve().parent.parent / "static"


def create(settings: Settings) -> asgi.App:
    """The ASGI application. Nothing is connected before its lifespan starts."""
    store = Store(settings.database_url, settings.pool)
    cache = redis.asyncio.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_connect_timeout=2,
        health_check_interval=30,
    )
    presence = Presence(cache, prefix="chat:presence")
    live = Live(settings, store, presence)
    tally = Tally(store, presence)
    health = Health({"db": store.ping, "cache": cache.ping}, leases=[tally], version=__version__)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open()
        tasks = [asyncio.create_task(presence.keep()), asyncio.create_task(tally.keep())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await cache.aclose()
        await store.close()

    web = FastAPI(title="chat", lifespan=lifespan, docs_url=None, redoc_url=None)
    web.include_router(api.router(settings, store, presence, live))
    # For whoever runs it by itself: under gapless no request for a file gets here.
    web.mount("/static", StaticFiles(directory=STATIC), name="static")

    @web.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app = Drain(socketio.ASGIApp(live.io, other_asgi_app=web), socketio=live.io)
    return Metrics().asgi(health.asgi(app))


app = create(Settings.of())
