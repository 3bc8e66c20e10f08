"""Watches stores: probes them in the background, counts their ends, tells their state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gapless import errors, observed
from gapless.data import base
from gapless.engine import clock
from gapless.model.data import Data
from gapless.runtimes.base import Found

EAGER = 0.1
"""Seconds between probes of a store that does not answer yet."""
STEADY = 2.0
"""Seconds between probes of one that answers."""


@dataclass(slots=True)
class _Known:
    store: base.Store | None = None
    why: str = ""
    task: asyncio.Task[None] | None = None
    reason: str = "not asked yet"
    failures: int = 0
    ended_at: float | None = None
    last_started: float | None = None
    was_ready: bool = False


class StoreWatch:
    """States of the stores of one stack. ``why`` tells from its log why a store has ended."""

    def __init__(self, wake: Callable[[], None], why: Callable[[str], str]) -> None:
        self._wake = wake
        self._why = why
        self._known: dict[str, _Known] = {}

    def node(
        self, name: str, table: Data, store: base.Store, found: Found | None
    ) -> observed.DataNode:
        """What is known of one store right now; starts and stops its probing."""
        known = self._known.setdefault(name, _Known())
        seen = observed.DataNode(name, table.type, "absent", _address(store), served=table.runs)
        if not store.created():
            self._stop(known)
            return seen
        if not table.runs or (found is not None and found.alive):
            self._probe(store, known)
            state: Literal["starting", "ready"] = "starting" if known.reason else "ready"
            pid = found.pid if found else None
            return replace(seen, state=state, pid=pid, reason=known.reason)
        self._stop(known)
        if found is None:
            return replace(seen, state="stopped")
        self._note_end(name, known, found)
        return replace(
            seen,
            state="failed",
            reason=f"it ended ({known.why or found.exit})",
            failures=known.failures,
            ended_at=known.ended_at,
        )

    def ready(self, name: str) -> bool:
        """Whether its last probe succeeded."""
        known = self._known.get(name)
        return known is not None and not known.reason

    async def close(self) -> None:
        """Stop all probing."""
        tasks = [known.task for known in self._known.values() if known.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _probe(self, store: base.Store, known: _Known) -> None:
        if known.store is not store and known.task is not None:
            known.task.cancel()  # another table: the connection may be another, too
            known.task = None
        known.store = store
        if known.task is None or known.task.done():
            known.reason = known.reason or "not asked yet"
            known.task = asyncio.create_task(self._probe_forever(store, known))

    def _stop(self, known: _Known) -> None:
        if known.task is not None:
            known.task.cancel()
            known.task = None
        known.reason = "not running"

    def _note_end(self, name: str, known: _Known, found: Found) -> None:
        # Not by pid: what has ended has none any more.
        if found.started_at == known.last_started:
            return
        known.last_started = found.started_at
        known.ended_at = clock.now()
        known.why = self._why(name)
        known.failures = 0 if known.was_ready else known.failures + 1
        known.was_ready = False

    async def _probe_forever(self, store: base.Store, known: _Known) -> None:
        while True:
            try:
                reason = await store.probe()
            except errors.GaplessError as error:
                reason = error.message
            if (not reason) != (not known.reason):
                known.reason = reason
                self._wake()
            known.reason = reason
            known.was_ready = known.was_ready or not reason
            await asyncio.sleep(EAGER if reason else STEADY)


def _address(store: base.Store) -> str:
    attributes = store.attributes()
    if "path" in attributes:
        return attributes["path"]
    return f"{attributes.get('host', '')}:{attributes.get('port', '')}"
