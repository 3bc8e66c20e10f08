"""What happens, told to whoever listens: streams of the API, tests, the journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

Event = dict[str, Any]
"""``{"event": "step"/"note"/"build"/"progress"/"output", …}`` as in docs/api.md."""
BACKLOG = 10_000
"""Events that a slow listener may be behind before it loses some."""


class Events:
    """One publisher, many listeners; a slow listener never holds up the loop."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Event]] = set()

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def publish(self, event: Event) -> None:
        """Tell everybody who listens right now."""
        for queue in self._listeners:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(event)

    @contextlib.contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Event]]:
        """Listen from now on until the block ends."""
        queue: asyncio.Queue[Event] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


async def until(queue: asyncio.Queue[Event], task: asyncio.Task[Event]) -> AsyncIterator[Event]:
    """Events until the task ends, then its result as the last one."""
    while True:
        getter = asyncio.ensure_future(queue.get())
        await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            yield getter.result()
            continue
        getter.cancel()
        while not queue.empty():
            yield queue.get_nowait()
        yield await task
        return
