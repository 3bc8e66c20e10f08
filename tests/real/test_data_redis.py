"""A real Valkey from the wheel: made, started, killed, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.examples.stores import wait_for
from tests.real import stores

from gapless.data import base, redis, redisline, resp
from gapless.errors import DataFault, EnvironmentFault
from gapless.model.data import Data


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


def open_store(place: base.Place, *, path: str | None = "", **table: Any) -> redis.Redis:
    return redis.Redis("cache", Data(type="redis", **table), place, path=path)


def written(home: Path) -> bytes:
    """What the server has handed to the system of its append-only file."""
    return b"".join(part.read_bytes() for part in home.rglob("*.aof"))


def target(place: base.Place, password: str | None = stores.PASSWORD) -> resp.Target:
    return resp.Target("127.0.0.1", place.port, password)


async def test_keys_survive_kill(roof: Path) -> None:
    place = stores.place(roof, "cache")
    store = open_store(place)
    assert not store.created()
    with pytest.raises(DataFault, match="not created"):
        store.process()
    await store.create()
    await store.create()
    assert store.created()
    with stores.Running(store.process(), roof / "log") as first:
        await stores.ready(store)
        for n in range(100):
            assert await redisline.once(target(place), "SET", f"k{n}", f"v\r\n{n}") == "OK"
        # On a slow disk the server keeps what it has acknowledged to itself for up to two seconds.
        await asyncio.to_thread(wait_for, "k99 is written", lambda: b"k99" in written(place.home))
        first.kill()
        assert await store.probe() == "connection refused"
    with stores.Running(store.process(), roof / "log") as second:
        await stores.ready(store)
        assert await redisline.once(target(place), "DBSIZE") == 100
        assert await redisline.once(target(place), "GET", "k99") == "v\r\n99"
        assert second.stop() == 0
    await store.close()


async def test_who_may_enter_and_who_sees_the_password(roof: Path) -> None:
    place = stores.place(roof, "cache")
    store = open_store(place)
    await store.create()
    with stores.Running(store.process(), roof / "log") as running:
        await stores.ready(store)
        with pytest.raises(resp.ReplyError, match="NOAUTH"):
            await redisline.once(target(place, None), "PING")
        with pytest.raises(resp.ReplyError, match="WRONGPASS"):
            await redisline.once(target(place, "wrong"), "PING")
        with pytest.raises(resp.ReplyError):
            await redisline.once(target(place), "CONFIG", "SET", "dir", "/tmp")
        assert stores.PASSWORD not in stores.command_lines(running.child.pid)
        assert f"127.0.0.1:{place.port}" in stores.command_lines(running.child.pid)
        assert await redisline.once(target(place), "CONFIG", "GET", "maxmemory-policy") == [
            "maxmemory-policy",
            "noeviction",
        ]
        await store.close()
    keepers = stores.holding(roof, 'requirepass "')
    assert keepers == [place.home / "redis.conf"]
    assert stat.S_IMODE(keepers[0].stat().st_mode) == 0o600
    assert stores.PASSWORD not in (roof / "log").read_text()


async def test_probe_tells_a_wrong_password_and_a_stranger(roof: Path) -> None:
    place = stores.place(roof, "cache")
    store = open_store(place)
    await store.create()
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        other = open_store(stores.place(roof, "cache", port=place.port, password="wrong"))
        assert "WRONGPASS" in await other.probe()
        await store.close()

    async def stranger(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", place.port)
    async with server:
        assert await store.probe() == "not a Redis server"
        await store.close()


async def test_probe_sees_that_it_still_loads(roof: Path) -> None:
    place = stores.place(roof, "cache")

    gone = asyncio.Event()

    async def loading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                writer.write(b"-LOADING the dataset is being loaded\r\n")
        writer.close()
        gone.set()

    async with await asyncio.start_server(loading, "127.0.0.1", place.port):
        store = open_store(place)
        assert (await store.probe()).startswith("LOADING")
        await store.close()
        await gone.wait()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maxmemory": "a lot"}, "maxmemory: argument must be a memory value"),
        ({"max-memory": "1gb"}, "max-memory: Bad directive"),
        ({"databases": 0}, "databases: argument must be"),
        ({"maxmemory": '1gb" "x'}, "maxmemory: argument must be a memory value"),
    ],
)
async def test_wrong_setting_is_refused_before_anything(
    roof: Path, settings: dict[str, Any], said: str
) -> None:
    store = open_store(stores.place(roof, "cache"), settings=settings)
    with pytest.raises(DataFault, match=said):
        await store.create()
    assert not store.created()


async def test_changed_settings_wait_or_take_effect(roof: Path) -> None:
    place = stores.place(roof, "cache")
    first = {"maxmemory": "100mb", "save": "900 1 300 10", "appendfsync": "always"}
    store = open_store(place, settings=first)
    await store.create()
    with stores.Running(store.process(), roof / "log") as running:
        await stores.ready(store)
        assert await redisline.once(target(place), "CONFIG", "GET", "save") == [
            "save",
            "900 1 300 10",
        ]
        assert await store.pending() == await store.apply() == ()
        await store.close()
        store = open_store(place, settings={**first, "maxmemory": "120mb", "databases": 3})
        assert {p.what for p in await store.pending()} == {"maxmemory", "databases"}
        waits = (base.Pending("databases", "default", "3", True),)
        assert await store.apply() == waits
        assert await store.pending() == waits
        limit = await redisline.once(target(place), "CONFIG", "GET", "maxmemory")
        assert limit == ["maxmemory", str(120 * 1024**2)]
        with pytest.raises(DataFault, match="loud"):
            await open_store(place, settings={"loud": True}).apply()
        assert await store.pending() == waits
        running.stop()
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        assert await store.pending() == ()
        assert await redisline.once(target(place), "CONFIG", "GET", "databases") == [
            "databases",
            "3",
        ]
        await store.close()


async def test_port_taken_is_explained(roof: Path) -> None:
    place = stores.place(roof, "cache")
    store = open_store(place)
    await store.create()
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.port))
        other.listen()
        with stores.Running(store.process(), roof / "log") as running:
            assert await stores.ended(running) != 0
            said = store.explain(running.text())
            assert str(place.port) in said
            assert "Address already in use" in said


@pytest.mark.parametrize("stage", ["engines/.new-*", "data/db/.trial-*"])
async def test_interrupted_create(roof: Path, stage: str) -> None:
    place = stores.place(roof)
    child = stores.interruptible("redis", place, roof)
    while not list(roof.glob(stage)):
        assert child.poll() is None, "it ended before the stage was seen"
        await asyncio.sleep(0)
    child.kill()
    child.wait(10)
    store = open_store(place)
    if store.created():
        pytest.skip("the machine was too quick for the kill")
    await store.create()
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        await store.close()


async def test_own_shell(roof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = stores.place(roof, "cache")
    store = open_store(place)
    await store.create()
    monkeypatch.setenv("PATH", "")  # no valkey-cli, no redis-cli
    argv, env = store.shell()
    assert stores.PASSWORD not in " ".join(argv)
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        typed = "SET greeting 'good day'\nGET greeting\nLPUSH l a b\nLRANGE l 0 -1\nOOPS\nGET x\n"
        said = await asyncio.to_thread(
            subprocess.run,
            argv,
            env={**os.environ, **env},
            input=typed,
            capture_output=True,
            text=True,
        )
        assert said.stdout.splitlines() == [
            "OK",
            "good day",
            "(integer) 2",
            "1) b",
            "2) a",
            "(error) ERR unknown command 'OOPS', with args beginning with: ",
            "(nil)",
        ]
        await store.close()
    gone = await asyncio.to_thread(
        subprocess.run, argv, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_closed_home_is_named(roof: Path) -> None:
    roof.chmod(0o700)
    with pytest.raises(EnvironmentFault, match="is closed"):
        await open_store(stores.place(roof)).create()
