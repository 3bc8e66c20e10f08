"""What every store with a server must do, over the fake that ships and over real servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.real import stores

from gapless.data import base, postgres, redis
from gapless.errors import DataFault
from gapless.model.data import Data
from gapless.testing.store import Disk, FakeStore


class Bench(Protocol):
    """One kind of store. ``loose`` and ``fixed``: a setting taken at once, one at a restart."""

    loose: tuple[str, str]
    fixed: tuple[str, str]

    def open(self, place: base.Place, **settings: str) -> base.Store: ...
    def run(self, store: base.Store, roof: Path) -> contextlib.AbstractContextManager[object]: ...


class Fake:
    loose, fixed = ("greeting", "hello"), ("limit", "7")

    def __init__(self) -> None:
        self.disk = Disk()

    def open(self, place: base.Place, **settings: str) -> base.Store:
        return FakeStore("db", place, self.disk, **settings)

    @contextlib.contextmanager
    def run(self, store: base.Store, roof: Path) -> Iterator[None]:
        assert store.process() is not None
        self.disk.start()
        yield
        self.disk.kill()


class Real:
    @contextlib.contextmanager
    def run(self, store: base.Store, roof: Path) -> Iterator[None]:
        process = store.process()
        assert process is not None
        with stores.Running(process, roof / "log"):
            yield


class RealPostgres(Real):
    loose, fixed = ("work_mem", "8MB"), ("max_connections", "40")

    def open(self, place: base.Place, **settings: str) -> base.Store:
        return postgres.Postgres("db", _table("postgres", settings), place, path="")


class RealRedis(Real):
    loose, fixed = ("maxmemory", "100mb"), ("databases", "3")

    def open(self, place: base.Place, **settings: str) -> base.Store:
        return redis.Redis("db", _table("redis", settings), place, path="")


def _table(type: str, settings: dict[str, str]) -> Data:
    return Data.model_validate({"type": type, "settings": settings})


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


@pytest.fixture(params=[Fake, RealRedis, RealPostgres])
def bench(request: pytest.FixtureRequest) -> Bench:
    made: Bench = request.param()
    return made


async def test_the_life_of_a_store(bench: Bench, roof: Path) -> None:
    place = stores.place(roof)
    store = bench.open(place)
    # Not made: nothing to start, nothing pending, no answer.
    assert not store.created()
    assert await store.pending() == ()
    assert await store.probe() != ""
    with pytest.raises(DataFault, match="not created"):
        store.process()
    # Making is idempotent, and another object sees it.
    await store.create()
    await store.create()
    assert bench.open(place).created()
    process = store.process()
    assert process is not None
    assert process == store.process()
    assert process.labels == {"kind": "data", "data": "db"}
    assert process.identity == place.identity
    assert process.address is not None
    assert process.address.port == place.port
    assert place.password not in " ".join(process.argv)
    assert place.password not in " ".join(process.env.values())
    assert await store.probe() != ""
    # It runs, it is killed, it runs again.
    for _ in range(2):
        with bench.run(store, roof):
            await stores.ready(store)
            argv, env = store.shell()
            assert place.password not in " ".join(argv)
            assert place.password in env.values()
        assert await store.probe() != ""
    await store.close()


async def test_settings(bench: Bench, roof: Path) -> None:
    place = stores.place(roof)
    with pytest.raises(DataFault, match=r"^db: settings"):
        await bench.open(place, no_such_thing="1").create()
    plain = bench.open(place)
    assert not plain.created()
    await plain.create()
    with bench.run(plain, roof):
        await stores.ready(plain)
        await plain.close()
        store = bench.open(place, **dict([bench.loose, bench.fixed]))
        assert {p.what for p in await store.pending()} == {bench.loose[0], bench.fixed[0]}
        for _ in range(2):
            waiting = await store.apply()
            assert [(p.what, p.wanted, p.restart) for p in waiting] == [(*bench.fixed, True)]
            assert await store.pending() == waiting
        with pytest.raises(DataFault, match=r"^db: settings"):
            await bench.open(place, no_such_thing="1").apply()
        assert await store.pending() == waiting
    with bench.run(store, roof):
        await stores.ready(store)
        assert await store.pending() == ()
        await store.close()
    # Stopped: all of it is in force at the next start.
    assert await plain.apply(stopped=True) == ()
    assert await plain.pending() == ()


def test_attributes_hold_the_password_in_a_url(bench: Bench, roof: Path) -> None:
    found = bench.open(stores.place(roof, password="plain")).attributes()
    assert found["password"] == "plain"
    assert ":plain@127.0.0.1:" in found["url"]
    assert found["port"] in found["url"]
