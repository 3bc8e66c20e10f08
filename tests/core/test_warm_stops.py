"""Workers behind no edge: TERM at once, their whole drain time to finish, and only then KILL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gapless.core import plan, reconcile, simulate
from gapless.core.world import World
from gapless.observed import Replica
from tests.core import worlds

DRAIN = 60.0


def down(world: World) -> World:
    return replace(world, desired=replace(world.desired, running=False))


def scaled_down(world: World) -> World:
    return replace(world, desired=replace(world.desired, scale={"worker": 1}))


def stopped(world: World) -> World:
    return replace(world, desired=replace(world.desired, stopped=("worker",)))


def steps(world: World, kind: type[plan.Step]) -> set[str]:
    """Workers with such a step due now."""
    due = reconcile.reconcile(world).steps
    return {str(one.id) for one in due if isinstance(one, kind) and one.id.service == "worker"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [down, scaled_down, stopped])
def test_signalled_at_once_and_killed_only_after_all_its_time(
    change: Callable[[World], World],
) -> None:
    world = change(worlds.at_rest(worlds.stack()))
    leaving = steps(world, plan.Signal)
    assert leaving
    at = world.now
    for step in reconcile.reconcile(world).steps:
        if isinstance(step, plan.Signal) and str(step.id) in leaving:
            world = simulate.apply(world, step)
    world = replace(world, observed=replace(world.observed, replicas=busy(world, leaving, at)))
    for seconds in (1.0, 10.0, DRAIN - 1):
        later = replace(world, now=at + seconds)
        assert not steps(later, plan.Kill)
        assert not steps(later, plan.Signal)
    assert steps(replace(world, now=at + DRAIN), plan.Kill) == leaving


def busy(world: World, leaving: set[str], at: float) -> tuple[Replica, ...]:
    """All replicas, those that leave told so and still at work."""
    return tuple(
        replace(found, alive=True, signalled_at=at) if str(found.id) in leaving else found
        for found in world.observed.replicas
    )
