"""Back-off: how long a slot stays empty whose replicas fail, and what is said meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapless.core import plan, restart, simulate
from gapless.core import service as services
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.model.process import Exit
from gapless.observed import Failures
from tests.core import worlds


@pytest.mark.parametrize(
    ("count", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (50, 60.0)]
)
def test_it_doubles_up_to_a_minute(count: int, delay: float) -> None:
    for ordinal in range(1, 20):
        at = restart.not_before(("web", ordinal), Failures(count, 100.0))
        assert delay <= at - 100.0 <= 1.2 * delay


def test_replicas_do_not_march_in_step() -> None:
    found = {restart.not_before(("web", n), Failures(5, 0.0)) for n in range(1, 20)}
    assert len(found) > 10


def test_without_failures_it_is_now() -> None:
    assert restart.not_before(("web", 1), None) == 0.0


def short_of_one(failures: int) -> World:
    """At rest, but web.1 has gone, after so many failed starts."""
    world = worlds.at_rest(worlds.stack())
    gone = next(r.id for r in world.of("web") if r.id.ordinal == 1)
    world = simulate.apply(world, plan.Forget(gone))
    slots = {("web", 1): Failures(failures, world.now, "exit code 3")} if failures else {}
    return replace(world, observed=replace(world.observed, failures=slots))


def test_what_had_been_ready_is_replaced_at_once() -> None:
    starts = [s for s in reconcile(short_of_one(0)).steps if isinstance(s, plan.StartReplica)]
    assert [(s.id.service, s.id.ordinal) for s in starts] == [("web", 1)]


def test_a_dead_singleton_is_cleared_away_before_the_next_one_starts() -> None:
    world = worlds.at_rest(worlds.stack())
    beat = world.of("beat")[0]
    dead = replace(beat, alive=False, ready=False, exit=Exit(signal=9))
    replicas = tuple(dead if r.id == beat.id else r for r in world.observed.replicas)
    world = replace(world, observed=replace(world.observed, replicas=replicas))
    steps = reconcile(world).steps
    assert steps == (plan.Forget(beat.id),)
    world = simulate.apply(world, steps[0])
    assert [step.text for step in reconcile(world).steps] == ["beat.1@r1.2 start"]


def test_an_id_that_is_seen_is_not_given_again_where_the_notebook_is_lost() -> None:
    world = worlds.at_rest(worlds.stack())
    world = replace(world, observed=replace(world.observed, attempts={}))
    beat = world.of("beat")[0]
    assert services.next_id(world, "beat", 1, beat.generation).attempt == beat.id.attempt + 1


def test_a_crash_loop_waits_and_says_why() -> None:
    world = short_of_one(4)
    decision = reconcile(world)
    assert not decision.steps
    assert "web.1 backs off: exit code 3" in decision.waits
    assert decision.wake_at is not None
    assert decision.wake_at >= world.now + 8.0
    later = reconcile(replace(world, now=decision.wake_at))
    assert [type(step) for step in later.steps] == [plan.StartReplica]
