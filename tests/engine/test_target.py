"""Where a stack runs is said once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.engine import durable, target
from gapless.engine.paths import Paths
from gapless.errors import Refused
from gapless.model.desired import Desired


@pytest.fixture
def paths() -> Iterator[Paths]:
    # Short: a test's own folder is too long a path for sockets.
    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as name:
        made = Paths("chat", Path(name) / "chat", Path(name) / "run")
        made.make()
        yield made


def test_it_is_remembered_and_processes_are_the_rule(paths: Paths) -> None:
    assert target.of(paths, None) == "process"
    assert target.of(paths, "docker") == "docker"
    target.keep(paths, "process")
    assert not (paths.state / target.FILE).exists()
    target.keep(paths, "docker")
    assert target.of(paths, None) == target.of(paths, "docker") == "docker"


@pytest.mark.parametrize(("has", "asked"), [("docker", "process"), ("process", "docker")])
def test_what_runs_does_not_move(paths: Paths, has: str, asked: str) -> None:
    target.keep(paths, has)
    assert target.of(paths, asked) == asked
    durable.save_desired(paths.record, Desired(running=True))
    with pytest.raises(Refused, match=f"chat: runs on target {has}, not {asked}") as refused:
        target.of(paths, asked)
    assert refused.value.hint == "gapless down, then gapless up on the other"
    durable.save_desired(paths.record, Desired(running=False))
    target.keep(paths, target.of(paths, asked))
    assert target.of(paths, None) == asked
