"""Real stacks of probe services for drills to act on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gapless.drills import base, blow, scratch, stage, traffic
from gapless.engine.paths import Paths
from gapless.model.stack import Stack
from tests.drills import planted

Made = contextlib.AbstractContextManager[scratch.Scratch]
NOTHING = {"gapless": 1, "name": "bare", "service": {"web": {"run": "true"}}}
QUICK = scratch.Settings(replicas=3, start="20s", watch="500ms", drain="3s", sticky=True)


@contextlib.contextmanager
def state() -> Iterator[Path]:
    """A short state directory that services of other users can reach."""
    home = Path(tempfile.mkdtemp(prefix="gd-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        scratch.clear(home)


@contextlib.contextmanager
def engine(fault: str | None) -> Iterator[Path]:
    """A place for stacks whose engine has that fault, with short measuring times."""
    with state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        patch.setattr(traffic, "CAPACITY", 0.5)
        patch.setattr(traffic, "WARM", 0.3)
        patch.setattr(traffic, "BASELINE", 0.5)
        patch.setattr(blow, "PATIENCE", 12.0)
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        yield home


@contextlib.contextmanager
def quick(fault: str | None = None) -> Iterator[scratch.Scratch]:
    """A scratch stack, of a faulty engine where one is named."""
    with engine(fault) as home:
        chosen = base.Options(requests=100, points=2, rounds=2, slow="/slow?s=2")
        with scratch.stack("probes", home / "source", _hear, QUICK, chosen) as made:
            yield made


@contextlib.contextmanager
def bare(fault: str) -> Iterator[stage.Stage]:
    """A stage without a stack, for what a drill does to scratch stacks alone."""
    with engine(fault) as home:
        target = base.Target(home / scratch.FILE, None, Stack.model_validate(NOTHING))
        yield stage.Stage(target, base.Options(), Paths.of("bare"), _hear)


def _hear(_: str) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def sound() -> Iterator[scratch.Scratch]:
    """One sound stack for all tests of a module; each drill puts back what it found."""
    with quick() as made:
        yield made


@pytest.fixture
def faulty() -> Callable[[str], Made]:
    """A stack of an engine with that fault, as a context manager."""
    return quick
