"""Blocking work off the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from gapless.errors import GaplessError

_Value = TypeVar("_Value")


async def in_thread(work: Callable[[], _Value]) -> _Value:
    """Off the loop. Cancelled, it waits for the work's end: nobody may clear up under its hands."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(GaplessError):
            await task
        raise
