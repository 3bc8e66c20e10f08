"""Commands within containers that run: what a check of a replica asks there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gapless.errors import RuntimeFault
from gapless.runtimes.docker.client import Client

_Asked = tuple[str, tuple[str, ...]]
"""Container and command."""


class Inside:
    """Runs them, of each kind one at a time in a container: an engine cannot end one, so one that
    hangs is waited for again instead of being joined by others.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._running: dict[_Asked, asyncio.Task[tuple[int, str]]] = {}

    async def ask(self, key: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        """See ``Asks.ask``; ``key``: the container's."""
        asked = (key, tuple(argv))
        task = self._running.get(asked)
        if task is None:
            task = asyncio.create_task(self._client.inside(key, argv))
            self._running[asked] = task
            task.add_done_callback(lambda done: self._done(asked, done))
        await asyncio.wait({task}, timeout=limit)
        if not task.done():
            return None, f"no end within {limit:g} s"
        try:
            return task.result()
        except RuntimeFault as fault:
            return None, fault.message

    def _done(self, asked: _Asked, task: asyncio.Task[tuple[int, str]]) -> None:
        self._running.pop(asked, None)
        if not task.cancelled():
            task.exception()  # whoever asked may have left

    async def close(self) -> None:
        """Wait for nothing any more; what runs in a container goes on there."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
