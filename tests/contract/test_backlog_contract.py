"""What every store with queues must do, over the fake that ships and over a real server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.real import stores

from gapless.data import base, external, redis, redisline, resp
from gapless.errors import DataFault
from gapless.model.data import Data
from gapless.testing.store import Disk, FakeStore


class Held(Protocol):
    """A running store with queues."""

    @property
    def store(self) -> base.Backlog: ...

    async def fill(self, queue: str, count: int) -> None: ...
    async def restart(self) -> None: ...
    def kill(self) -> None: ...


class Fake:
    def __init__(self, roof: Path) -> None:
        self._disk = Disk()
        self._disk.start()
        self.store = FakeStore("cache", stores.place(roof), self._disk)

    async def fill(self, queue: str, count: int) -> None:
        self._disk.queues[queue] = count

    async def restart(self) -> None:
        self._disk.kill()
        self._disk.start()

    def kill(self) -> None:
        self._disk.kill()


class Real:
    """``outside``: seen as a store that somebody else runs, in another of its databases."""

    def __init__(self, roof: Path, outside: bool) -> None:
        self._place = stores.place(roof, "cache", password="plain")
        self._roof = roof
        self.inner = redis.Redis("cache", Data(type="redis"), self._place, path="")
        self.store: redis.Redis | external.External = self.inner
        self._target = resp.Target("127.0.0.1", self._place.port, "plain")
        if outside:
            url = f"redis://:plain@127.0.0.1:{self._place.port}/3"
            self.store = external.External("cache", "redis", url)
            self._target = resp.Target("127.0.0.1", self._place.port, "plain", database=3)

    async def start(self) -> None:
        await self.inner.create()
        self._running = stores.Running(self.inner.process(), self._roof / "log")
        await stores.ready(self.inner)

    async def fill(self, queue: str, count: int) -> None:
        await redisline.once(self._target, "RPUSH", queue, *map(str, range(count)))

    async def restart(self) -> None:
        self._running.stop()
        await self.start()

    def kill(self) -> None:
        self._running.kill()


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


@pytest.fixture(params=["fake", "redis", "external"])
async def held(request: pytest.FixtureRequest, roof: Path) -> AsyncIterator[Held]:
    if request.param == "fake":
        yield Fake(roof)
        return
    made = Real(roof, request.param == "external")
    await made.start()
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.kill()
        await made.store.close()
        await made.inner.close()


async def test_counts_and_survives_a_restart(held: Held) -> None:
    assert isinstance(held.store, base.Backlog)
    assert await held.store.backlog("jobs") == 0
    await held.fill("jobs", 7)
    await held.fill("more:jobs", 2)
    assert await held.store.backlog("jobs") == 7
    assert await held.store.backlog("more:jobs") == 2
    await held.restart()
    assert await held.store.backlog("jobs") == 7
    held.kill()
    for _ in range(2):
        with pytest.raises(DataFault, match=r"^cache: queue jobs: "):
            await held.store.backlog("jobs")


async def test_a_store_without_queues_says_so() -> None:
    store = external.External("db", "postgres", "postgresql://me:hunter2@127.0.0.1/app")
    with pytest.raises(DataFault, match=r"^db: postgres holds no queues$"):
        await store.backlog("jobs")
