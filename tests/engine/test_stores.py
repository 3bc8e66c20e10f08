"""A store that does not come up is started ever more rarely, and its log says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapless import data
from gapless.data.base import Place
from gapless.engine.stores import StoreWatch
from gapless.model.data import Data
from gapless.model.process import Exit
from gapless.runtimes.base import Found

TABLE = Data.model_validate({"type": "redis"})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place(
        home=tmp_path / "data",
        run=tmp_path / "run",
        engines=tmp_path / "engines",
        port=20_000,
        password="x",
        identity=None,
        uid=None,
    )


async def test_ends_in_a_row_are_counted_with_their_reason(place: Place) -> None:
    watch = StoreWatch(lambda: None, lambda name: f"{name}: address in use")
    store = data.open("cache", TABLE, place)
    await store.create()
    nodes = []
    for started in (1.0, 1.0, 2.0, 3.0):
        # What has ended has no pid any more.
        found = Found("data.cache", False, started, {}, exit=Exit(code=1))
        nodes.append(watch.node("cache", TABLE, store, found))
    assert [node.failures for node in nodes] == [1, 1, 2, 3]
    assert nodes[-1].reason == "it ended (cache: address in use)"
    assert nodes[-1].ended_at is not None
    await watch.close()
