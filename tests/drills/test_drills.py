"""Each drill on a real stack: it holds where the engine is sound and fails where it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from gapless import errors
from gapless.drills import run, scratch, stage
from gapless.drills.base import Outcome
from gapless.drills.state import State
from tests.drills.conftest import Made
from tests.drills.stand import wait_for

Faulty = Callable[[str], Made]


def drill(name: str, on: scratch.Scratch) -> Outcome:
    return run.perform(name, on.target, on.options, on.paths, on.say)


def shape(state: State) -> object:
    """What a drill has to leave as it was."""
    counts = {name: (s.desired, s.ready, s.drift) for name, s in state.services.items()}
    return counts, state.release, state.edge_pid, state.maintenance, state.rollout


ELSEWHERE = {
    "backlog",
    "bad-deploy",
    "connections",
    "crash",
    "edge-crash",
    "edge-reload",
    "errors",
    "hang",
    "leak",
    "maintenance",
    "private",
    "rate-limit",
    "singleton",
    "spike",
    "tls",
    "static",
}
"""Drills that have tests of their own: below, and in modules named after them."""


@pytest.mark.parametrize("name", [one for one in run.DRILLS if one not in ELSEWHERE])
def test_holds_and_puts_back(name: str, sound: scratch.Scratch) -> None:
    before = sound.settle()
    outcome = drill(name, sound)
    assert outcome.reasons == ()
    assert outcome.traffic.requests >= 100
    assert outcome.traffic.failed == 0
    if name != "spread":
        assert outcome.traffic.handovers > 0
    assert shape(sound.settle()) == shape(before)


def test_bad_deploy_holds_and_leaves_nothing(sound: scratch.Scratch) -> None:
    outcome = drill("bad-deploy", sound)
    assert outcome.reasons == ()
    faults = {one["mode"]: one for one in outcome.detail["faults"]}
    assert "exit code 3" in faults["crash"]["message"]
    assert "503" in faults["never-ready"]["message"]
    assert {one["exit"] for one in faults.values()} == {4}
    assert not (sound.paths.state / "drill").exists()
    assert not (sound.paths.state.parent / outcome.detail["stack"]).exists()


PLANTED = [
    ("deploy", "signal-first", "failed"),
    ("rollback", "signal-first", "failed"),
    ("config", "forgets-environment", "without the new value"),
    ("scale", "touches-others", "touched"),
    ("sticky", "moves-clients", "moved to another replica"),
    ("controller", "takes-all-along", "while idle: lost"),
    ("spread", "first-come", "%"),
]


@pytest.mark.parametrize(("name", "fault", "reason"), PLANTED)
def test_fails_on_a_planted_fault(name: str, fault: str, reason: str, faulty: Faulty) -> None:
    with faulty(fault) as broken:
        outcome = drill(name, broken)
    assert not outcome.held
    assert any(reason in one for one in outcome.reasons), outcome.reasons


def test_bad_deploy_fails_where_the_edge_is_blind(faulty: Faulty) -> None:
    with faulty("blind") as broken:
        outcome = drill("bad-deploy", broken)
    assert not outcome.held
    assert any(one.startswith("bad: ") for one in outcome.reasons), outcome.reasons


def test_one_drill_at_a_time(sound: scratch.Scratch) -> None:
    with stage.alone(sound.paths), pytest.raises(errors.Locked, match=str(os.getpid())):
        drill("spread", sound)


def test_interrupted_it_puts_back(sound: scratch.Scratch) -> None:
    """TERM in the middle of the scale drill, once there are more replicas than before."""
    before = sound.settle()
    argv = [*stage.CLI, "-f", str(sound.target.file), "drill", "scale", "--json"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    more = before.services["web"].desired + 1
    wait_for("more replicas", lambda: len(sound.look().replicas) >= more, 60)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert shape(sound.settle()) == shape(before)


def test_the_command_prints_one_document(sound: scratch.Scratch) -> None:
    argv = [*stage.CLI, "-f", str(sound.target.file), "drill", "spread", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["drill"] == "spread"
    assert document["held"] is True
    wanted = {"requests", "failed", "unknown", "handovers", "p50_ms", "p99_ms"}
    assert wanted | {"baseline_p99_ms", "seconds", "bound", "detail"} <= set(document)


def test_exit_codes(sound: scratch.Scratch) -> None:
    def code(*words: str) -> int:
        argv = [*stage.CLI, "-f", str(sound.target.file), "drill", *words]
        return subprocess.run(argv, capture_output=True, check=False).returncode

    assert code() == 0
    assert code("deploi") == 2
    assert code("spread", "--path", "/nowhere") == 2  # no subject: it answers 404 undisturbed
    assert code("spread", "--path", "http://192.0.2.1/") == 2
