"""The application under test: answers at once, or after a second; takes BOOT seconds to import."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

time.sleep(float(os.environ.get("BOOT", "1")))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Raw ASGI: nothing between server and measurement."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    body = str(os.getpid()).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    # A file named for the process tells the measurement who has booted.
    if folder := os.environ.get("BENCH_PIDS"):
        Path(folder, str(os.getpid())).touch()
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
