"""The HTTP routes. Answers are built by hand: no second validation of what we just made."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from chat.live import BODY, NAME, ROOM, Live
from chat.settings import Settings
from chat.store import Store
from gapless.app.presence import Presence

Room = Annotated[str, Path(pattern=ROOM)]


class Said(BaseModel):
    """A message to post."""

    author: Annotated[str, Field(min_length=1, max_length=NAME)]
    body: Annotated[str, Field(min_length=1, max_length=BODY)]


def router(settings: Settings, store: Store, presence: Presence, live: Live) -> APIRouter:
    """Everything below ``/api``."""
    routes = APIRouter(prefix="/api")

    @routes.get("/whoami")
    async def whoami() -> JSONResponse:
        return JSONResponse(
            {"server": settings.server_id, "release": settings.release, "pid": os.getpid()}
        )

    @routes.get("/rooms")
    async def rooms() -> JSONResponse:
        people = await store.people()
        return JSONResponse({"rooms": list(people), "people": people})

    @routes.get("/rooms/{name}/messages")
    async def messages(
        name: Room,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: int | None = None,
    ) -> JSONResponse:
        found = await store.messages(name, limit, before)
        return JSONResponse({"room": name, "messages": [message.public() for message in found]})

    @routes.post("/rooms/{name}/messages")
    async def post(name: Room, said: Said) -> JSONResponse:
        return JSONResponse((await live.post(name, said.author, said.body)).public(), 201)

    @routes.get("/rooms/{name}/users")
    async def users(name: Room) -> JSONResponse:
        return JSONResponse({"room": name, "users": await presence.there(name)})

    @routes.get("/slow")
    async def slow(seconds: Annotated[float, Query(ge=0, le=30)] = 2.0) -> JSONResponse:
        await asyncio.sleep(seconds)
        return JSONResponse({"server": settings.server_id, "slept": seconds})

    @routes.post("/echo")
    async def echo(request: Request) -> Response:
        # As a download, never as a page: what comes in must not become script for somebody else.
        return Response(
            await request.body(),
            media_type="application/octet-stream",
            headers={"X-Content-Type-Options": "nosniff", "X-Server": settings.server_id},
        )

    return routes
