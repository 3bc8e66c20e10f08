"""Data that a store has left is not taken for another type's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gapless.engine import origin
from gapless.engine.paths import Paths
from gapless.errors import Refused
from gapless.model.stack import Stack


def stack(**table: Any) -> Stack:
    services = {"web": {"run": "app ${socket}"}}
    return Stack.model_validate(
        {"gapless": 1, "name": "shop", "service": services, "data": {"main": table}}
    )


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A redis store was made under the name ``main``."""
    paths = Paths("shop", tmp_path / "state", tmp_path / "run")
    origin.mark(paths, "main", stack(type="redis").data["main"])
    (paths.data / "main").mkdir()
    return paths


def test_another_type_is_refused(paths: Paths) -> None:
    origin.check(paths, stack(type="redis"))
    with pytest.raises(Refused, match="holds the data of a redis store, not of a postgres one"):
        origin.check(paths, stack(type="postgres"))
    with pytest.raises(Refused, match="not of a files one"):
        origin.check(paths, stack(type="files"))


def test_an_external_one_has_no_data_here(paths: Paths) -> None:
    origin.check(paths, stack(type="postgres", url="postgresql://db.example/shop"))


def test_what_was_moved_away_is_no_matter(paths: Paths) -> None:
    (paths.data / "main").rename(paths.data / "elsewhere")
    origin.check(paths, stack(type="postgres"))


def test_data_from_before_there_were_marks(paths: Paths) -> None:
    (paths.data / ".main.json").unlink()
    origin.check(paths, stack(type="redis"))
