"""The drills that strike single replicas, on real stacks: sound ones, and ones with a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gapless.drills import crash, errors, run, scratch
from gapless.drills.base import Outcome
from gapless.runtimes.machine import proc
from tests.drills.conftest import Made, bare

Faulty = Callable[[str], Made]


def drill(name: str, on: scratch.Scratch) -> Outcome:
    return run.perform(name, on.target, on.options, on.paths, on.say)


def test_crash_holds_and_tells_what_it_cost(sound: scratch.Scratch) -> None:
    before = sound.settle()
    outcome = drill("crash", sound)
    assert outcome.reasons == ()
    assert outcome.traffic.requests >= 100
    assert outcome.traffic.failed == sum(outcome.detail["toll"].values())
    assert [one["victim"] for one in outcome.detail["blows"]] == ["web.1@r1", "web.2@r1"]
    assert outcome.detail["once"]["failed"] > 0
    herd = outcome.detail["all_at_once"]
    assert len(herd["blow"]["victim"].split(", ")) == 3
    assert herd["toll"]["safe"] == herd["toll"]["stray"] == 0
    assert herd["requests"] > 0
    after = sound.settle()
    assert len(after.serving("web")) == len(before.serving("web"))
    assert after.edge_pid == before.edge_pid
    assert not (sound.paths.state / "drill").exists()


def test_hang_holds_and_leaves_nothing_stopped(sound: scratch.Scratch) -> None:
    before = sound.settle()
    outcome = drill("hang", sound)
    assert outcome.reasons == ()
    assert outcome.detail["toll"]["safe"] == 0
    after = sound.settle()
    assert len(after.serving("web")) == len(before.serving("web"))
    assert not any(stands(one.pid) for one in after.replicas)


def test_errors_holds(sound: scratch.Scratch) -> None:
    outcome = drill("errors", sound)
    assert outcome.reasons == ()
    turns = {one["case"]: one for one in outcome.detail["turns"]}
    assert set(turns) == {case for case, _, _ in errors.CASES}
    assert not (sound.paths.state / "drill").exists()


PLANTED = [
    ("crash", "gives-up", "safe to repeat"),
    ("crash", "leaves-the-dead", "its place was not filled"),
    ("hang", "leaves-the-dead", "its process has not ended"),
]


@pytest.mark.parametrize(("name", "fault", "reason"), PLANTED)
def test_fails_on_a_planted_fault(name: str, fault: str, reason: str, faulty: Faulty) -> None:
    with faulty(fault) as broken:
        broken.options = replace(broken.options, rounds=1)
        outcome = drill(name, broken)
        stopped = [one.id for one in broken.look().replicas if stands(one.pid)]
    assert not outcome.held
    assert any(reason in one for one in outcome.reasons), outcome.reasons
    assert stopped == []


def test_crash_finds_what_was_done_twice() -> None:
    with bare("repeats-everything") as broken:
        once, _ = crash.probed(broken, 1)
    assert once.twice > 0
    assert once.requests > once.failed


def test_crash_finds_that_nobody_waits_where_all_are_killed() -> None:
    with bare("nobody-waits") as broken:
        _, herd = crash.probed(broken, 0)
    assert herd.toll.safe > 0


def test_errors_fails_where_the_edge_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "CASES", errors.CASES[1:2])
    monkeypatch.setattr(errors, "PATIENCE", 3.0)
    with bare("blind") as broken:
        outcome = errors.run(broken)
    assert any("stayed in rotation" in one for one in outcome.reasons), outcome.reasons
    assert any("bad answers reached clients" in one for one in outcome.reasons)


def stands(pid: int | None) -> bool:
    found = proc.stat(pid or 0)
    return found is not None and found.state in "Tt"
