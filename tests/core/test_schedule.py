"""Schedules: what is due, and that no interruption repeats a run or loses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.core import jobruns, plan, record, schedule, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.engine import wishes
from gapless.model import cron
from gapless.model.stack import Stack
from gapless.observed import JobRun
from tests.core import worlds

HOUR = 3600.0
DAY = 24 * HOUR


def at(text: str) -> float:
    """``2026-11-22 03:00`` in UTC, as seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-11-22 12:00")


def timed(when: str = "0 3 * * *", **keys: Any) -> Stack:
    """A stack with the job ``report``."""
    table = {
        "gapless": 1,
        "name": "shop",
        "service": {"web": {"run": "app ${socket}"}},
        "job": {"report": {"run": "report", "when": when, **keys}},
        "data": {"db": {"type": "postgres"}},
    }
    return Stack.model_validate(table)


def counting(table: Stack, wall: float = NOON) -> World:
    """At rest, the schedule counted from ``wall`` on."""
    world = worlds.at_rest(worlds.stack())
    jobs = replace(
        world,
        stacks={1: table},
        observed=replace(world.observed, jobs=()),
        wall=wall,
        needs={"report": ("db",)},
    )
    return _apply(jobs, decide(jobs))


def decide(world: World) -> tuple[plan.Step, ...]:
    """What the schedule asks for."""
    agenda = plan.Agenda(world.now)
    schedule.advance(agenda, world)
    return agenda.decision().steps


def _apply(world: World, steps: tuple[plan.Step, ...]) -> World:
    for step in steps:
        world = simulate.apply(world, step)
    return world


def later(world: World, seconds: float) -> World:
    """The same with another time on the wall."""
    return replace(world, wall=world.wall + seconds)


def to_end(world: World) -> World:
    """Everything that is due done, each run to its end."""
    for _ in range(20):
        steps = decide(world)
        world = simulate.settle(_apply(world, steps))
        if not steps:
            return world
    raise AssertionError(f"no rest: {steps}")


def texts(world: World) -> list[str]:
    return [step.text for step in decide(world)]


def test_a_new_schedule_is_counted_from_now_on() -> None:
    world = counting(timed())
    assert world.desired.schedules["report"].after == NOON
    assert decide(world) == ()


def test_it_runs_when_it_is_due_and_once() -> None:
    world = later(counting(timed()), 15 * HOUR + 1)
    assert texts(world) == ["report@r1 run, due 2026-11-23 03:00 UTC"]
    world = to_end(world)
    assert world.desired.schedules["report"].state == "succeeded"
    assert world.observed.jobs == ()
    assert decide(later(world, 23 * HOUR)) == ()
    assert texts(later(world, 24 * HOUR)) == ["report@r1 run, due 2026-11-24 03:00 UTC"]


def test_what_was_missed_runs_once() -> None:
    world = later(counting(timed()), 3 * DAY)
    (step,) = decide(world)
    assert step.text == "report@r1 run, due 2026-11-25 03:00 UTC"
    assert step.cause == "schedule 0 3 * * *, late by 9 h, 2 before it missed"


@pytest.mark.parametrize(
    ("catch_up", "late", "word"),
    [("1h", 0.99, "run"), ("1h", 1.01, "skip"), ("0s", 0.01, "run"), ("0s", 0.02, "skip")],
)
def test_what_is_too_late_is_skipped(catch_up: str, late: float, word: str) -> None:
    world = later(counting(timed(catch_up=catch_up)), (15 + late) * HOUR)
    (step,) = decide(world)
    assert step.text.split()[1].rstrip(",") == word
    assert decide(to_end(world)) == ()


def test_a_run_that_takes_longer_is_not_joined_by_another() -> None:
    world = later(counting(timed("*/10 * * * *")), 601)
    world = _apply(world, decide(world))
    world = later(_apply(world, decide(world)), 600)
    (step,) = decide(world)
    assert (step.text, step.cause) == (
        "report skip, due 2026-11-22 12:20 UTC",
        "another run of it is under way",
    )


@pytest.mark.parametrize("rollout", [0, -1, 7])
def test_nor_by_one_that_somebody_else_began(rollout: int) -> None:
    world = later(counting(timed()), DAY)
    other = JobRun("report", rollout, "running", id="report@r1.x")
    world = replace(world, observed=replace(world.observed, jobs=(other,)))
    assert [type(step) for step in decide(world)] == [jobruns.SkipRun]


def test_it_waits_for_its_stores() -> None:
    world = later(counting(timed()), DAY)
    down = replace(world.observed.data["db"], state="starting")
    waiting = replace(world, observed=replace(world.observed, data={"db": down}))
    assert decide(waiting) == ()
    assert texts(world) == ["report@r1 run, due 2026-11-23 03:00 UTC"]


def test_a_rollout_holds_it_and_the_next_release_runs_it() -> None:
    rest = later(counting(timed()), 15 * HOUR + 1)
    rolling = worlds.deploying(rest, timed())
    assert decide(rolling) == ()
    assert not any(isinstance(step, jobruns.RunDue) for step in reconcile(rolling).steps)
    done = replace(rolling.desired, rollout=None, stack=2)
    assert texts(replace(rolling, desired=done)) == ["report@r2 run, due 2026-11-23 03:00 UTC"]


def test_a_run_goes_on_through_a_rollout_and_is_noted() -> None:
    world = later(counting(timed()), 15 * HOUR + 1)
    running = worlds.deploying(_apply(world, decide(world)), timed())
    steps = decide(simulate.settle(_apply(running, decide(running))))
    assert [step.text for step in steps] == ["report succeeded, due 2026-11-23 03:00 UTC"]


def test_down_ends_a_run_and_up_counts_anew() -> None:
    world = later(counting(timed()), 15 * HOUR + 1)
    world = _apply(world, decide(world))
    world = replace(world, desired=wishes.down(world.desired))
    world = _apply(world, decide(world))
    assert not any(isinstance(step, jobruns.EndJob) for step in decide(world))  # it was told once
    world = to_end(world)
    assert world.desired.schedules["report"].state == "failed"
    up = replace(later(world, 5 * DAY), desired=replace(world.desired, running=True))
    assert texts(up) == ["report schedule 0 3 * * * UTC"]
    assert decide(_apply(up, decide(up))) == ()


def test_a_run_that_ignores_term_is_killed() -> None:
    world = counting(timed())
    run = JobRun("report", -1, "running", id="report@r1.-1", signalled_at=world.now - 5)
    world = replace(
        world,
        desired=wishes.down(world.desired),
        observed=replace(world.observed, jobs=(run,)),
    )
    assert decide(world) == ()
    assert texts(replace(world, now=world.now + 5)) == ["report@r1.-1 kill"]


def test_another_schedule_is_counted_anew_and_a_removed_one_forgotten() -> None:
    world = later(counting(timed()), DAY)
    changed = replace(world, stacks={1: timed("0 4 * * *")})
    assert texts(changed) == ["report schedule 0 4 * * * UTC"]
    zoned = replace(world, stacks={1: timed(zone="Asia/Tokyo")})
    assert texts(zoned) == ["report schedule 0 3 * * * Asia/Tokyo"]
    gone = replace(world, stacks={1: timed("manual")})
    assert texts(gone) == ["report unschedule"]
    assert _apply(gone, decide(gone)).desired.schedules == {}


def test_a_clock_that_was_far_ahead_does_not_silence_a_job() -> None:
    world = to_end(later(counting(timed()), 3650 * DAY))
    back = later(world, -3650 * DAY)
    assert texts(back) == ["report schedule 0 3 * * * UTC"]
    assert texts(later(to_end(back), 15 * HOUR)) == ["report@r1 run, due 2026-11-23 03:00 UTC"]


# -- any interruption -----------------------------------------------------------------------------


@dataclass
class History:
    """A world, and what has happened in it that must not happen twice."""

    world: World
    apply: Callable[[World, plan.Step], World] = simulate.apply
    begun: set[float] = field(default_factory=set)
    high: float = NOON

    def step(self, step: plan.Step) -> None:
        """Perform it; fails where it breaks a promise."""
        job = self.world.stacks[1].jobs["report"]
        runs = self.world.observed.jobs
        now = self.world.wall
        if isinstance(step, jobruns.RunDue):
            assert step.due not in self.begun, "begun twice"
            assert not any(run.state == "running" for run in runs), "two at once"
            assert NOON < step.due <= now, "not due"
            assert cron.following(job.when, job.zone, step.due - 1) == step.due
            self.begun.add(step.due)
        elif isinstance(step, jobruns.SkipRun):
            late = now - step.due > job.catch_up
            assert late or any(run.state == "running" for run in runs), "skipped for nothing"
        elif isinstance(step, jobruns.Count):
            assert step.job not in self.world.desired.schedules, "counted anew"
        self.world = self.apply(self.world, step)

    def happen(self, event: str, amount: int) -> None:
        """``amount`` is 0 … 100."""
        if event == "round":  # the controller may die after any step of it
            steps = decide(self.world)
            for step in steps[: max(1, len(steps) - amount % 3)]:
                self.step(step)
        elif event == "forward":
            self._clock(self.world.wall + amount**2 * 20)
        elif event == "back":
            self._clock(max(self.world.wall - amount**2 * 8, self.high - 0.9 * DAY))
        elif event == "end":
            self._end("failed" if amount % 2 else "succeeded")
        elif event == "reboot":
            self._end("unknown")

    def _clock(self, wall: float) -> None:
        self.world = replace(self.world, wall=wall)
        self.high = max(self.high, wall)

    def _end(self, state: Any) -> None:
        runs = tuple(
            replace(run, state=state) if run.state == "running" else run
            for run in self.world.observed.jobs
        )
        self.world = replace(self.world, observed=replace(self.world.observed, jobs=runs))

    def finish(self) -> None:
        """Left alone, everything up to now is dealt with and nothing lies about."""
        self._clock(self.high)
        for _ in range(50):
            self._end("succeeded")
            steps = decide(self.world)
            for step in steps:
                self.step(step)
            if not steps:
                break
        job = self.world.stacks[1].jobs["report"]
        known = self.world.desired.schedules["report"]
        assert self.world.observed.jobs == ()
        assert known.state != "running"
        assert cron.last_due(job.when, job.zone, known.after, self.world.wall) is None, "lost"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["round", "round", "round", "forward", "back", "end", "reboot"]),
        st.integers(0, 100),
    ),
    max_size=60,
)
SCHEDULES = st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2 * * 1", "5 4 1 * *"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])


def play(history: History, script: list[tuple[str, int]]) -> None:
    for event, amount in script:
        history.happen(event, amount)
    history.finish()


@given(SCHEDULES, ZONES, st.sampled_from(["0s", "1h", "1d", "400d"]), EVENTS)
@settings(max_examples=300, deadline=None)
def test_nothing_runs_twice_and_nothing_is_lost(
    when: str, zone: str, catch_up: str, script: list[tuple[str, int]]
) -> None:
    play(History(counting(timed(when, zone=zone, catch_up=catch_up))), script)


def _without_noting(world: World, step: plan.Step) -> World:
    """A runtime that drops its record and a book that was never written."""
    if isinstance(step, jobruns.NoteRun):
        runs = tuple(run for run in world.observed.jobs if run.state == "running")
        return replace(world, observed=replace(world.observed, jobs=runs))
    return simulate.apply(world, step)


def _without_beginning(world: World, step: plan.Step) -> World:
    """A book that is written and a program that never started."""
    if isinstance(step, jobruns.RunDue):
        step = jobruns.NoteRun(step.job, step.due + DAY, "running")
        return replace(world, desired=record.apply(world.desired, step))
    return simulate.apply(world, step)


@pytest.mark.parametrize(
    ("fault", "told"), [(_without_noting, "begun twice"), (_without_beginning, "running")]
)
def test_the_checks_catch_what_they_are_for(
    fault: Callable[[World, plan.Step], World], told: str
) -> None:
    history = History(counting(timed("*/7 * * * *")), fault)
    script = [("forward", 10), ("round", 0), ("round", 0), ("end", 0), ("round", 0), ("round", 0)]
    with pytest.raises(AssertionError, match=told):
        play(history, script)
