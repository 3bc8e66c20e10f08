"""A newer gapless takes over a running stack: two copies of the package, and nothing restarts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.real.standing import open_folder

import gapless
from gapless.drills import ports, probe_app, scratch
from gapless.engine import unit

STACK = """
gapless = 1
name = "unit"
[service.web]
run = ["{python}", "probe_app.py", "--socket", "${{socket}}"]
replicas = 2
ready = "/ready"
watch = "0s"
[data.cache]
type = "redis"
[edge]
listen = "127.0.0.1:{port}"
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Two:
    """A stack, and two gapless that can steer it: ``old`` and ``new``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app"
        self.app.mkdir()
        shutil.copyfile(probe_app.__file__, self.app / "probe_app.py")
        (self.app / "mode").write_text("good 1\n")
        text = STACK.format(python=scratch.interpreter(), port=ports.reserve())
        (self.app / "gapless.toml").write_text(text)
        self.copy("old", gapless.__version__)
        self.copy("new", "99.1.0")

    def copy(self, name: str, version: str) -> None:
        source = Path(gapless.__file__).parent
        target = self.folder / name / "gapless"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        text = (target / "__init__.py").read_text()
        assert text.count(gapless.__version__) == 1
        (target / "__init__.py").write_text(text.replace(gapless.__version__, version))

    def __call__(self, which: str, *words: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gapless", *words],
            cwd=self.app,
            env={**os.environ, "PYTHONPATH": str(self.folder / which)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def begun(self, which: str, *words: str) -> subprocess.Popen[bytes]:
        """A command that is left to run."""
        return self._begin(which, ["-m", "gapless", *words])

    def supervised(self, which: str, notify: str) -> subprocess.Popen[bytes]:
        """The controller as a unit starts it."""
        file = str(self.app / "gapless.toml")
        words = ["-m", "gapless.engine.main", "--file", file, "--stack", "unit", "--supervised"]
        return self._begin(which, words, NOTIFY_SOCKET=notify)

    def _begin(self, which: str, words: list[str], **env: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-P", *words],
                cwd=self.app,
                env={**os.environ, "PYTHONPATH": str(self.folder / which), **env},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def said(self) -> str:
        """The output of what was begun."""
        return (self.folder / "said").read_text()

    def status(self, which: str) -> dict[str, Any]:
        answer = self(which, "ps", "--json")
        assert answer.code == 0, answer
        found: dict[str, Any] = json.loads(answer.out)
        return found

    def steering(self, which: str) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads(self(which, "version", "--json").out)
        return found


def pids(status: Mapping[str, Any]) -> dict[str, int]:
    """Everything that runs, by name."""
    found = {r["id"]: r["pid"] for s in status["services"] for r in s["replicas"]}
    found |= {node["name"]: node["pid"] for node in status["data"]}
    return {**found, "edge": status["edge"]["pid"]}


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        stack = Two(folder)
        yield stack
        (folder / "state/unit/format").unlink(missing_ok=True)
        stack("new", "down")


def next_line(listener: socket.socket) -> str:
    """What a service manager hears next."""
    return listener.recv(4096).decode()


def test_under_a_service_manager_the_next_one_is_its_affair(two: Two) -> None:
    """The test is the service manager: it hears READY, and starts again what ends with 75."""
    place = str(two.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(60)
        listener.bind(place)
        first = two.supervised("old", place)
        assert next_line(listener).splitlines()[0] == "READY=1"
        assert two("old", "up", "-d").code == 0
        before = pids(two.status("old"))
        with two.begun("new", "up", "-d") as taking:
            assert first.wait(60) == unit.HANDED_OVER, two.said()
            second = two.supervised("new", place)
            assert taking.wait(90) == 0, two.said()
        assert pids(two.status("new")) == before
        assert two("new", "down").code == 0
        assert second.wait(60) == 0, two.said()


def test_a_first_up_that_is_refused_leaves_no_controller(two: Two) -> None:
    file = two.app / "gapless.toml"
    good = file.read_text()
    file.write_text(good.replace("replicas = 2", "replicas = 2\nreserve = { memory = '999T' }"))
    refused = two("old", "up", "-d")
    assert refused.code == 4, refused
    for _ in range(100):
        if not json.loads(two("old", "lock", "status", "--json").out)["held"]:
            break
    else:
        raise AssertionError("the controller goes on")
    file.write_text(good)
    assert two("old", "up", "-d").code == 0


def test_nothing_restarts_when_another_gapless_takes_over(two: Two) -> None:
    begun = two("old", "up", "-d")
    assert begun.code == 0, begun
    before = pids(two.status("old"))
    assert len(before) == 4
    assert all(before.values())

    taken = two("new", "up", "-d")
    assert taken.code == 0, taken
    assert f"taking over ({gapless.__version__} to 99.1.0)" in taken.err
    assert pids(two.status("new")) == before
    assert two.steering("new")["controller"] == "99.1.0"
    assert "taking over" not in two("new", "up", "-d").err

    # A state of a format that it does not know is refused by whoever meets it; what runs goes on.
    (two.folder / "state/unit/format").write_text("2\n")
    refused = two("old", "up", "-d")
    assert refused.code != 0
    assert "a newer gapless wrote it (format 2, this one knows 1)" in refused.err
    assert two.steering("old")["controller"] == "99.1.0"
    assert pids(two.status("old")) == before
