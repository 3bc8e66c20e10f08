"""Run directories: those of stacks that are gone are cleared, and no other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.standing import open_folder

from gapless.engine import rundir
from gapless.engine.paths import Paths


@pytest.fixture
def roof() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def stack(roof: Path, name: str, *, state: bool) -> Paths:
    """The places of a stack in a state of its own, marked as a controller marks them."""
    run = roof / f"gapless-{os.geteuid()}-{name}" / "shop"
    run.mkdir(parents=True)
    paths = Paths("shop", roof / "states" / name, run)
    if state:
        paths.state.mkdir(parents=True)
    rundir.mark(paths)
    return paths


def test_what_can_never_be_adopted_goes(roof: Path) -> None:
    ours = stack(roof, "ours", state=True)
    gone = stack(roof, "gone", state=False)
    assert rundir.sweep(ours) == [gone.run]
    assert not gone.run.parent.exists()
    assert ours.run.exists()


def _unmarked(paths: Paths) -> None:
    (paths.run / rundir.OWNER).unlink()


def _relative(paths: Paths) -> None:
    (paths.run / rundir.OWNER).write_text("nowhere")


def _with_state(paths: Paths) -> None:
    paths.state.mkdir(parents=True)


@pytest.mark.parametrize("change", [_unmarked, _relative, _with_state])
def test_what_may_be_in_use_stays(roof: Path, change: Callable[[Paths], None]) -> None:
    ours = stack(roof, "ours", state=True)
    other = stack(roof, "other", state=False)
    change(other)
    assert rundir.sweep(ours) == []
    assert other.run.exists()


def test_where_somebody_listens_it_stays(roof: Path) -> None:
    ours = stack(roof, "ours", state=True)
    other = stack(roof, "other", state=False)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(other.run / "a b.sock"))
        assert rundir.sweep(ours) == []
    assert rundir.sweep(ours) == [other.run]


def test_a_link_is_not_followed(roof: Path) -> None:
    ours = stack(roof, "ours", state=True)
    elsewhere = roof / "elsewhere" / "shop"
    elsewhere.mkdir(parents=True)
    (elsewhere / rundir.OWNER).write_text("/nowhere/at/all")
    (roof / f"gapless-{os.geteuid()}-link").symlink_to(elsewhere.parent)
    assert rundir.sweep(ours) == []
    assert elsewhere.exists()


def test_the_last_stack_of_a_state_takes_the_folder_along(roof: Path) -> None:
    first = stack(roof, "one", state=True)
    second = Paths("blog", first.state, first.run.parent / "blog")
    second.run.mkdir()
    rundir.remove(first)
    assert second.run.exists()
    rundir.remove(second)
    assert not first.run.parent.exists()
