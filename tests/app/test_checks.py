"""The ready-made checks against what they are for: up, down, and frozen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
import redis
import redis.asyncio

from gapless.app import checks, wsgi
from gapless.app.checks import Asking, Check, Checks
from gapless.drills import ports
from tests.app import servers
from tests.examples import application, stores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[stores.Running, stores.Running]]:
    with stores.running() as found:
        yield found


async def reasons(asked: dict[str, Check]) -> tuple[set[str], set[str]]:
    """What an event loop and what a thread find, without repetition."""
    one = await Checks(asked, Asking(2.0, 0)).ask()
    other = await asyncio.to_thread(Checks(asked, Asking(2.0, 0)).ask_blocking)
    return {state.reason for state in one.values()}, {state.reason for state in other.values()}


async def test_plain_clients(both: tuple[stores.Running, stores.Running]) -> None:
    db, cache = both
    client = redis.from_url(cache.url, socket_timeout=0.2)
    asked = {
        "cache": checks.redis(client),
        "db": checks.postgres(lambda: psycopg.connect(db.url, connect_timeout=2)),
    }
    assert await reasons(asked) == ({""}, {""})
    db.freeze(True)
    cache.freeze(True)
    try:
        states = await Checks(asked, Asking(0.5)).ask()
        assert [state.up for state in states.values()] == [False, False]
    finally:
        db.freeze(False)
        cache.freeze(False)
    client.close()
    gone = redis.from_url(f"redis://127.0.0.1:{ports.reserve()}")
    found = await Checks({"cache": checks.redis(gone)}, Asking(5.0)).ask()
    assert "refused" in found["cache"].reason


async def test_clients_of_the_loop(both: tuple[stores.Running, stores.Running]) -> None:
    db, cache = both
    async with (
        asyncpg.create_pool(db.url, min_size=0) as pool,
        redis.asyncio.from_url(cache.url) as client,
    ):
        asked = Checks({"db": checks.postgres(pool), "cache": checks.redis(client)}, Asking(2.0, 0))
        for _ in range(3):
            assert {state.reason for state in (await asked.ask()).values()} == {""}
        db.freeze(True)
        try:
            frozen = Checks({"db": checks.postgres(pool)}, Asking(0.3))
            assert (await frozen.ask())["db"].reason == "no answer within 0.3 s"
        finally:
            db.freeze(False)
        async with asyncio.timeout(20):
            while not (await asked.ask())["db"].up:  # noqa: ASYNC110  # it is a poll
                await asyncio.sleep(0.05)


async def test_an_address() -> None:
    with servers.wsgi_server(wsgi.missing) as base:
        found = await reasons({"it": checks.url(base + "/")})
        assert found == ({"HTTP Error 404: Not Found"}, {"HTTP Error 404: Not Found"})
    with pytest.raises(ValueError, match="must start with"):
        checks.url("file:///etc/passwd")


def test_a_database_of_django(tmp_path: Path) -> None:
    code = f"""
import asyncio, django
from django.conf import settings
engine = "django.db.backends.sqlite3"
settings.configure(DATABASES={{
    "default": {{"ENGINE": engine, "NAME": {str(tmp_path / "db")!r}}},
    "gone": {{"ENGINE": engine, "NAME": {str(tmp_path / "no/db")!r}}},
}})
django.setup()
from django.db import connections
from gapless.app import checks
for alias in ("default", "gone"):
    one = checks.Checks({{"db": checks.django(connections, alias)}}, checks.Asking(10, 0))
    print(one.ask_blocking()["db"].reason, asyncio.run(one.ask())["db"].reason, sep="|")
"""
    told = _run(sys.executable, code)
    assert told == ["|", "unable to open database file|unable to open database file"]


def test_the_broker_of_celery(both: tuple[stores.Running, stores.Running]) -> None:
    code = f"""
import celery
from gapless.app import checks
for url in ({both[1].url!r}, "redis://127.0.0.1:{ports.reserve()}"):
    app = celery.Celery("x", broker=url)
    asked = checks.Checks({{"broker": checks.celery(app)}}, checks.Asking(20))
    print("refused" in asked.ask_blocking()["broker"].reason)
"""
    assert _run(str(application.environment() / "python"), code) == ["False", "True"]


def _run(python: str, code: str) -> list[str]:
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [python, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
