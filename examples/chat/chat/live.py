"""The Socket.IO events.

Client to server: ``join {room, user}`` (answers ``{messages, users}``), ``say {body}``.
Server to clients: ``message``, ``users`` (of the room), ``reconnect`` (this replica is leaving).
"""

from __future__ import annotations

import asyncio
from typing import Any

import socketio

from chat import tasks
from chat.settings import Settings
from chat.store import Message, Store
from gapless.app.presence import Presence

ROOM = r"^[a-z0-9][a-z0-9-]{0,31}$"
BODY = 2000
NAME = 40


class Live:
    """Everything that goes out to browsers, from whichever replica, goes through here."""

    def __init__(self, settings: Settings, store: Store, presence: Presence) -> None:
        self.io = socketio.AsyncServer(
            async_mode="asgi",
            client_manager=socketio.AsyncRedisManager(settings.redis_url),
            http_compression=False,
        )
        self._settings, self._store, self._presence = settings, store, presence
        self._here: dict[str, tuple[str, str] | None] = {}
        for event in (self.connect, self.disconnect, self.join, self.say):
            self.io.on(event.__name__, event)

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        self._here[sid] = None

    async def disconnect(self, sid: str, reason: str) -> None:
        self._here.pop(sid, None)
        if room := await self._presence.leave(sid):
            await self._tell_users(room)

    async def join(self, sid: str, data: Any = None) -> dict[str, Any]:
        room, user = _text(data, "room", 32), _text(data, "user", NAME)
        if not room or not user:
            return {"error": "room and user are needed"}
        if (before := self._here.get(sid)) is not None:
            await self.io.leave_room(sid, before[0])
        self._here[sid] = (room, user)
        await self.io.enter_room(sid, room)
        await self._presence.enter(sid, room, user)
        messages = await self._store.messages(room, 50)
        await self._tell_users(room)
        return {
            "messages": [message.public() for message in messages],
            "users": await self._presence.there(room),
            "server": self._settings.server_id,
        }

    async def say(self, sid: str, data: Any = None) -> dict[str, Any]:
        body, place = _text(data, "body", BODY), self._here.get(sid)
        if place is None or not body:
            return {"error": "join a room first" if place is None else "body is needed"}
        return (await self.post(place[0], place[1], body)).public()

    async def post(self, room: str, author: str, body: str) -> Message:
        """Store a message and show it to everybody in the room, on every replica."""
        message = await self._store.add(room, author, body, self._settings.server_id)
        await self.io.emit("message", message.public(), room=room)
        if body.strip() == "/stats":
            await asyncio.to_thread(_ask_for_stats, room)
        return message

    async def _tell_users(self, room: str) -> None:
        await self.io.emit("users", await self._presence.there(room), room=room)


def _text(data: Any, key: str, limit: int) -> str:
    value = data.get(key) if isinstance(data, dict) else None
    return value.strip()[:limit] if isinstance(value, str) else ""


def _ask_for_stats(room: str) -> None:
    tasks.stats.delay(room)
