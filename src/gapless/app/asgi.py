"""The shapes of ASGI, and the two things that every part of this package does with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def paths(scope: Scope) -> tuple[str, str]:
    """(whole path, path below the mount point); servers disagree on which one ``path`` is."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    below = path[len(root) :] if root and path.startswith(root + "/") else path
    return root + below, below


async def respond(
    send: Send, method: str, status: int, body: bytes, headers: Iterable[tuple[str, str]]
) -> None:
    """A whole answer; the body is left out for HEAD."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind a middleware that was given none: lifespan, then 404."""
    if scope["type"] == "http":
        await respond(send, scope["method"], 404, b"Not Found\n", [("content-type", "text/plain")])
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
