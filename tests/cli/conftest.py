"""A folder with a stack file, and the real command in it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gapless.engine.paths import Paths

from .wire import Wire

FILE = """\
gapless = 1
name = "shop"
secrets = ["KEY", "OTHER"]

[service.web]
run = "python app.py ${socket}"
replicas = 3

[for.staging]
service.web.replicas = 1
secrets = ["KEY"]
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a finished command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder with a stack file; ``env`` is what commands in it see."""

    path: Path
    env: Mapping[str, str]

    def gapless(self, *words: str, cwd: Path | None = None, **env: str) -> Answer:
        """Run the command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "gapless", *words],
            cwd=cwd or self.path,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)

    @property
    def paths(self) -> Paths:
        return Paths.of("shop")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A stack file of three replicas in a folder of its own, state included."""
    state = tmp_path / "s"
    place = tmp_path / "app"
    place.mkdir()
    (place / "gapless.toml").write_text(FILE)
    monkeypatch.setenv("GAPLESS_STATE", str(state))
    for name in ("GAPLESS_FOR", "KEY", "OTHER", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    yield Folder(place, dict(os.environ))


@pytest.fixture
def wire(folder: Folder) -> Iterator[Wire]:
    """Somebody who answers at the controller's socket as the test wants."""
    one = Wire(folder.paths, str(folder.path / "gapless.toml"))
    yield one
    one.close()
