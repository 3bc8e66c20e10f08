"""A controller that hangs, dies or loses its directory, and two who command at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gapless.drills import ports
from gapless.engine.paths import Paths

from .test_real import Stack, place_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A running stack on a short path that replicas can come into."""
    with tempfile.TemporaryDirectory(prefix="gx", ignore_cleanup_errors=True) as name:
        room = Path(name)
        room.chmod(0o711)
        port = ports.reserve()
        one = Stack(place_stack(room, port), port)
        begun = one("up", "-d")
        assert begun.code == 0, begun
        yield one
        one("up", "-d")
        one("down", "--data", "-y")


def places(stack: Stack) -> Paths:
    home = Path(stack.folder.env["GAPLESS_STATE"])
    return Paths("hello", home / "hello", home / "run" / "hello")


def begin(stack: Stack, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gapless", *words],
        cwd=stack.folder.path,
        env=dict(stack.folder.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def pids(stack: Stack) -> dict[object, object]:
    return {r["id"]: r["pid"] for r in stack.replicas() if r["pid"]}


def test_a_stopped_controller_is_named_and_never_wakes_to_old_orders(stack: Stack) -> None:
    before, pid = pids(stack), stack.controller()
    os.kill(pid, signal.SIGSTOP)
    try:
        shown = stack("ps", "--timeout", "1s")
        ordered = stack("scale", "web=3", "--timeout", "1s")
        started = stack("up", "-d", "--timeout", "1s")
        assert stack.get()[0] == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    assert shown.code == 0
    assert "web.1@r1" in shown.out
    for answer in (shown, ordered, started):
        assert f"kill -9 {pid}" in answer.err
    assert (ordered.code, started.code) == (3, 4)
    assert stack("wait", "--timeout", "20s").code == 0
    assert pids(stack) == before


def test_a_cleared_run_directory_is_told_and_heals(stack: Stack) -> None:
    paths = places(stack)
    shutil.rmtree(paths.run)
    until(paths.api.exists)
    until(lambda: "the run directory was cleared" in stack("up", "-d", "--timeout", "20s").err)
    healed = stack("restart", "--timeout", "40s")
    assert healed.code == 0, healed
    assert stack.get()[0] == 200
    assert stack("up", "-d", "--timeout", "20s").code == 0


def test_down_ends_a_deploy_and_nothing_starts_again(stack: Stack) -> None:
    (stack.folder.path / "mark").write_text(str(time.time_ns()))
    deploy = begin(stack, "deploy")
    until(lambda: stack("ps", "--json").json["rollout"] is not None or deploy.poll() is not None)
    down = stack("down", "--timeout", "30s")
    said, _ = deploy.communicate(timeout=30)
    assert down.code == 0, down
    # The deploy may have been over just before.
    assert (deploy.returncode, "gapless down ended it" in said) in ((4, True), (0, False)), said
    assert not pids(stack)
    assert stack("up", "-d", "--timeout", "40s").code == 0
    assert stack.get()[0] == 200


def test_two_at_once_are_one_and_a_refusal(stack: Stack) -> None:
    (stack.folder.path / "mark").write_text(str(time.time_ns()))
    both = [begin(stack, "deploy"), begin(stack, "deploy")]
    said = [one.communicate(timeout=60)[0] for one in both]
    codes = sorted(one.returncode for one in both)
    assert codes in ([0, 4], [0, 0]), said  # one after the other is as good
    assert codes == [0, 0] or any("is under way" in text for text in said)


def test_ups_at_once_start_one_controller(stack: Stack) -> None:
    assert stack("down").code == 0
    both = [begin(stack, "up", "-d") for _ in range(3)]
    said = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0, 0], said
    assert len(pids(stack)) == 2


def test_a_killed_controller_is_followed_by_one_that_adopts(stack: Stack) -> None:
    for words in (("restart",), ("up", "-d"), ("scale", "web=3"), ("scale", "web=2")):
        command = begin(stack, *words)
        until(lambda: stack("ps", "--json").json["rollout"] is not None, 3.0) if words == (
            "restart",
        ) else None
        os.kill(stack.controller(), signal.SIGKILL)
        said, _ = command.communicate(timeout=60)
        assert "Traceback" not in said
        assert command.returncode in (0, 3, 4), said
        assert stack("up", "-d", "--timeout", "40s").code == 0
        assert stack("wait", "--timeout", "40s").code == 0
        assert stack.get()[0] == 200
    found = pids(stack)
    assert len(found) == stack("ps", "--json").json["services"][0]["desired"]


def test_a_taken_port_is_refused_before_anything_is_built(stack: Stack) -> None:
    """Another overlay of the stack wants the address that this one has."""
    place = stack.folder.path / "gapless.toml"
    before = place.read_text()
    place.write_text(before + "\n[for.staging]\nservice.web.replicas = 1\n")
    try:
        answer = stack("up", "-d", "--for", "staging")
        releases = stack("releases", "--for", "staging", "--json").json
        stack("down", "--for", "staging")
    finally:
        place.write_text(before)
    assert answer.code == 4
    assert "of the stack hello" in answer.err
    assert releases == []
    assert stack.get()[0] == 200


def test_a_service_needs_a_command_to_run(stack: Stack) -> None:
    answer = stack("run", "web")
    assert (answer.code, "gapless run web -- COMMAND" in answer.err) == (2, True)


def test_a_broken_file_keeps_nobody_from_what_runs(stack: Stack) -> None:
    place = stack.folder.path / "gapless.toml"
    before = place.read_text()
    running = pids(stack)
    os.kill(stack.controller(), signal.SIGKILL)
    place.write_text(before + "\nnonsense = 1\n")
    try:
        adopted = stack("up", "-d", "--timeout", "40s")
        refused = stack("deploy")
    finally:
        place.write_text(before)
    assert adopted.code == 0, adopted
    assert 'unknown key "nonsense"' in adopted.err
    assert refused.code == 2
    assert pids(stack) == running
