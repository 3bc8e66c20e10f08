"""The containers of one stack as the engine tells of them: found, followed, their ends told.

Invariant: containers that do not bear this stack's labels are never listed or removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gapless.errors import GaplessError, RuntimeFault
from gapless.runtimes.docker import follow, seen, spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.machine import addresses, files, logs, proc

_Answer = TypeVar("_Answer")

GRACE = 10.0
"""Seconds that a job which ran out of its time gets to end by itself."""
DRAINED = 10.0
"""Seconds that the rest of a dead program's output may take."""
AT_ONCE = 16
"""Questions about single containers that the engine is asked side by side."""
AGAIN_AFTER = 0.5
"""Seconds before an engine that went away is asked again for what happens."""


@dataclass(slots=True)
class Entry:
    """A container of ours. ``told``: its end was announced; ``stale``: to be looked at anew."""

    container: seen.Container
    copy: follow.Copy
    copying: asyncio.Task[None]
    told: bool = False
    stale: bool = False
    overdue: asyncio.Task[None] | None = None


class Containers:
    """``entries``: by id, of the last look. ``marks``: a folder for how far logs are copied.

    ``starting``: the ids of those that are being made; nobody else's unbegun ones are kept.
    """

    def __init__(
        self,
        client: Client,
        owner: spec.Owner,
        kept: logs.Logs,
        marks: Path,
        places: addresses.Addresses,
        starting: Callable[[], AbstractSet[str]],
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self._client = client
        self._owner = owner
        self._logs = kept
        self._marks = marks
        self._addresses = places
        self._starting = starting
        self._looking = asyncio.Lock()
        self._swept = False
        self._watching: asyncio.Task[None] | None = None
        self._ended: asyncio.Queue[str] = asyncio.Queue()

    async def refresh(self) -> None:
        """One question, and one more for each that has changed."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        async with self._looking:
            listed = await self._client.containers(self._owner.labels)
            first, self._swept = not self._swept, True
            if first:
                await self._sweep(listed)
            listed = [body for body in listed if spec.ONCE not in body["Labels"]]
            states = {body["Id"]: body["State"] for body in listed}
            known = {entry.container.key: entry for entry in self.entries.values()}
            for key in known.keys() - states.keys():
                await self._vanished(known[key])
            changed = [key for key, state in states.items() if _changed(known.get(key), state)]
            for container in await side_by_side(self.inspect(key) for key in changed):
                if container is not None and container.state != seen.UNBEGUN:
                    # What was dead before the first look is told by it, and wakes nobody.
                    self.adopt(container, told=first and not container.alive)

    async def _sweep(self, listed: Sequence[Mapping[str, Any]]) -> None:
        """What an earlier instance made and did not come to start is nobody's."""
        names = {self._owner.name(id) for id in self._starting()}
        for body in listed:
            ours = {name.removeprefix("/") for name in body["Names"]}
            if spec.ONCE in body["Labels"]:
                await self._client.remove(body["Id"], force=True)
            elif body["State"] == seen.UNBEGUN and not ours & names:
                await self._client.remove(body["Id"])

    async def _vanished(self, entry: Entry) -> None:
        """Somebody removed the container by other means."""
        self._tell(entry)
        await self._drop(entry)

    async def inspect(self, key: str) -> seen.Container | None:
        """What it is now; None: it is gone."""
        body = await self._client.inspect(key)
        return None if body is None else seen.read(body, self._owner.network, proc.boot())

    def adopt(self, container: seen.Container, *, told: bool = False) -> Entry:
        """It is ours, and as it was just seen. ``told``: nobody is to hear of its end."""
        entry = self.entries.get(container.id)
        if entry is None or entry.container.key != container.key:
            entry = self._follow(container, told)
            self.entries[container.id] = entry
        entry.container, entry.stale = container, False
        if not container.alive:
            entry.copy.ended()
            self._tell(entry)
        return entry

    def _follow(self, container: seen.Container, told: bool) -> Entry:
        files.make_folder(self._marks, 0o700)
        self._logs.make()
        copy = follow.Copy(
            self._client,
            container.key,
            self._logs.path(container.facts.log or container.id),
            follow.place(self._marks, container.key),
        )
        copying = asyncio.create_task(copy.run(lambda: self._lives(container)))
        entry = Entry(container, copy, copying, told)
        if container.alive and container.facts.timeout is not None:
            entry.overdue = asyncio.create_task(self._end_in_time(container))
        return entry

    def _lives(self, container: seen.Container) -> bool:
        entry = self.entries.get(container.id)
        return entry is None or (entry.container.key == container.key and entry.container.alive)

    def _tell(self, entry: Entry) -> None:
        if not entry.told:
            entry.told = True
            self._ended.put_nowait(entry.container.id)

    async def _watch(self) -> None:
        """Mark what ends as stale, and look at it; after a gap, look at everything."""
        while True:
            with contextlib.suppress(GaplessError):
                async for event in self._client.events(self._owner.labels):
                    key = event.get("Actor", {}).get("ID")
                    for entry in self.entries.values():
                        entry.stale |= entry.container.key == key
                    await self.refresh()
            await asyncio.sleep(AGAIN_AFTER)

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``. One consumer; ends that happened before the first look are in
        what ``look`` says, not here. An engine that does not answer is waited for.
        """
        with contextlib.suppress(GaplessError):
            await self.refresh()
        while True:
            yield await self._ended.get()

    def living(self, id: str) -> seen.Container | None:
        """The one of that id, if it was alive at the last look."""
        entry = self.entries.get(id)
        return entry.container if entry is not None and entry.container.alive else None

    async def bury(self, entry: Entry) -> None:
        """Remove a dead one, once all that it said is in its log."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(entry.copying), DRAINED)
        await self._client.remove(entry.container.key)
        await self._drop(entry)

    async def _drop(self, entry: Entry) -> None:
        for task in (entry.copying, entry.overdue):
            if task is not None:
                task.cancel()
        entry.copy.forget()
        container = entry.container
        if self.entries.get(container.id) is entry:
            del self.entries[container.id]
        self._addresses.give_back(container.id, container.facts.address)

    async def _end_in_time(self, container: seen.Container) -> None:
        """A job that has run out of its time is asked to end, then made to."""
        timeout = container.facts.timeout or 0.0
        # By the engine's clock, as its end will be judged.
        await asyncio.sleep(max(0.0, container.begun + timeout - time.time()))
        for name in ("SIGTERM", "SIGKILL"):
            with contextlib.suppress(RuntimeFault):
                await self._client.kill(container.key, name)
            await asyncio.sleep(GRACE)

    async def close(self) -> None:
        """Stop watching."""
        tasks = [self._watching] if self._watching is not None else []
        for entry in self.entries.values():
            tasks += [task for task in (entry.copying, entry.overdue) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watching = None
        self.entries.clear()


def _changed(entry: Entry | None, state: str) -> bool:
    return entry is None or entry.stale or entry.container.state != state


async def side_by_side(questions: Iterable[Awaitable[_Answer]]) -> list[_Answer]:
    """The answers in order; a few questions at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(question: Awaitable[_Answer]) -> _Answer:
        async with turns:
            return await question

    return await asyncio.gather(*(ask(question) for question in questions))
