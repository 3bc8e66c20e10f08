"""An application with WebSockets and Socket.IO that says goodbye: ``uvicorn tests.app.leaver:app``.

Also prints how each of its WebSockets ended, as the application saw it.
"""

from __future__ import annotations

import os
from typing import Any

import socketio  # type: ignore[import-untyped]

from gapless.app import asgi
from gapless.app.drain import Drain, Pace
from gapless.app.health import Health

io = socketio.AsyncServer(async_mode="asgi")


async def echo(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """Echoes text; ``exit`` closes."""
    if scope["type"] != "websocket":
        await asgi.missing(scope, receive, send)
        return
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message.get("text") == "exit":
            await send({"type": "websocket.close", "code": 1000})
            return
        else:
            await send({"type": "websocket.send", "text": message.get("text")})


@io.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
    """Everybody may."""


pace = Pace(float(os.environ.get("RATE", "200")), float(os.environ.get("WINDOW", "0.5")))
app = Health().asgi(Drain(socketio.ASGIApp(io, echo), socketio=io, pace=pace))
