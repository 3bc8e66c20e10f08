"""``/health/live``: the process answers. ``/health/ready``: and so do its stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from chat.settings import Settings

TIMEOUT = 1.0
FRESH = 0.5
"""Probers share one look at the stores within this many seconds."""

Check = Callable[[], Awaitable[Any]]


class Checks:
    """Asks the stores, all at once, at most once per ``FRESH`` seconds."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._answer: dict[str, str] = {}
        self._at = float("-inf")

    async def __call__(self) -> dict[str, str]:
        """Name to ``"ok"`` or the reason it is not."""
        async with self._lock:
            if time.monotonic() - self._at > FRESH:
                found = await asyncio.gather(*map(_ask, self._checks.values()))
                self._answer = dict(zip(self._checks, found, strict=True))
                self._at = time.monotonic()
            return self._answer


async def _ask(check: Check) -> str:
    task = asyncio.ensure_future(check())
    done, _ = await asyncio.wait({task}, timeout=TIMEOUT)
    if not done:
        # Not awaited: a driver whose server is frozen takes its time even to be cancelled.
        task.cancel()
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        return f"no answer within {TIMEOUT:g} s"
    # Whatever a driver raises is the reason to show, never a crash.
    error = task.exception()
    return "ok" if error is None else str(error) or type(error).__name__


def router(settings: Settings, checks: Checks) -> APIRouter:
    """The three routes."""
    routes = APIRouter()
    born = time.monotonic()

    def me() -> dict[str, Any]:
        return {
            "server": settings.server_id,
            "release": settings.release,
            "uptime": round(time.monotonic() - born, 1),
        }

    @routes.get("/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "alive", **me()})

    @routes.get("/health/ready")
    @routes.get("/health")
    async def ready() -> JSONResponse:
        answers = await checks()
        down = [name for name, answer in answers.items() if answer != "ok"]
        body = {"status": "unready" if down else "ready", "down": down, "checks": answers, **me()}
        return JSONResponse(body, 503 if down else 200)

    return routes
