"""Attributes of a store that somebody else runs."""

from __future__ import annotations

from typing import Literal

import pytest

from gapless import data
from gapless.data import external
from gapless.errors import DataFault
from gapless.model.data import Data

PG = "postgresql+asyncpg://me:p%40ss@db.example.com/app?sslmode=require"


def test_postgres() -> None:
    store = data.open("db", Data(type="postgres", url="${secret.DB}"), None, url=PG)
    assert store.attributes() == {
        "url": PG,
        "pool_url": PG,
        "replica_url": PG,
        "host": "db.example.com",
        "port": "5432",
        "user": "me",
        "password": "p@ss",
        "database": "app",
    }
    assert store.created()
    assert store.process() is None
    with pytest.raises(DataFault, match="external"):
        store.shell()


def test_redis() -> None:
    found = external.External("c", "redis", "rediss://:x@[::1]:7000").attributes()
    assert found["host"] == "::1"
    assert (found["port"], found["user"], found["database"]) == ("7000", "default", "0")


@pytest.mark.parametrize(
    ("type", "url"),
    [
        ("postgres", "redis://:hunter2@x"),
        ("redis", "http://hunter2@x"),
        ("postgres", "postgresql://me:hunter2@"),
        ("postgres", "postgresql://me:hunter2@x:port/"),
        ("redis", "hunter2"),
        ("redis", "redis://[hunter2"),
        ("files", "file:///hunter2"),
        ("redis", ""),
    ],
)
def test_refused_without_showing_it(type: Literal["postgres", "redis"], url: str) -> None:
    with pytest.raises(DataFault, match=r"^db: ") as refused:
        external.External("db", type, url)
    assert "hunter2" not in str(refused.value)


def test_open_needs_a_place_or_a_url() -> None:
    with pytest.raises(DataFault, match="place"):
        data.open("db", Data(type="postgres"), None)
    with pytest.raises(DataFault, match="no value"):
        data.open("db", Data(type="postgres", url="${secret.X}"), None)


async def test_probe_of_nobody() -> None:
    for type, url in (
        ("postgres", "postgresql://a:b@127.0.0.1:9/c"),
        ("redis", "redis://127.0.0.1:9"),
    ):
        store = external.External("db", type, url)
        assert await store.probe() == "connection refused"
        await store.close()
