"""The open WebSockets of this replica, and how they are told to go.

A replica that has been replaced keeps its sockets until the edge cuts them. Better manners: close
each with code 1012 ("service restart") at a random moment within a few seconds, so that clients
come back to the new replicas one after the other and not all at once.

Who tells us: gapless puts up a file, named by ``GAPLESS_NOTICE``, once this replica gets no new
work and is only waited for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

RESTART = 1012
PACE = 5.0
"""Seconds over which the goodbyes are spread."""
LOOK = 0.25
"""Seconds between two looks for the notice."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Sockets:
    """ASGI middleware around everything that speaks WebSocket."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._open: set[_Socket] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        socket = _Socket(receive, send)
        self._open.add(socket)
        try:
            await self._app(scope, socket.receive, socket.send)
        finally:
            self._open.discard(socket)

    async def goodbye(self, pace: float = PACE) -> int:
        """Close what is open now, spread over ``pace`` seconds; returns how many that were."""
        leaving = list(self._open)
        random.shuffle(leaving)
        for socket in leaving:
            await socket.close()
            await asyncio.sleep(pace / len(leaving))
        return len(leaving)


class _Socket:
    """Between server and application; after ``close`` the application sees a client that left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._accepted = self._closed = False

    async def receive(self) -> Message:
        return await self._receive()

    async def send(self, message: Message) -> None:
        if self._closed:
            return
        self._accepted |= message["type"] == "websocket.accept"
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    async def close(self) -> None:
        if self._accepted and not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": RESTART, "reason": "restart"})


async def follow_notice(notice: Path, leave: Callable[[], Awaitable[None]]) -> None:
    """Call ``leave`` each time the notice appears. Runs for ever."""
    seen = False
    while True:
        up = notice.exists()
        if up and not seen:
            await leave()
        seen = up
        await asyncio.sleep(LOOK)
