"""A decision's work grows with the number of replicas, not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gapless.core.reconcile import reconcile
from gapless.core.world import World
from tests.core import worlds


def rest(count: int) -> World:
    table = worlds.stack(web={"replicas": count, "surge": "all"})
    return worlds.at_rest(table)


def rolling(count: int) -> World:
    table = worlds.stack(web={"replicas": count, "surge": "all"})
    world = worlds.deploying(worlds.at_rest(table), table, surge_all=True)
    assert world.desired.rollout is not None
    phase = replace(world.desired.rollout, phase="rolling")
    return replace(world, desired=replace(world.desired, rollout=phase))


def dead(count: int) -> World:
    world = rest(count)
    gone = tuple(replace(r, alive=False, ready=False) for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=gone))


def calls(world: World) -> int:
    """Functions entered, those of generators and of C included, and items compared by value."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        reconcile(world)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("situation", [rest, rolling, dead])
def test_twice_the_replicas_are_twice_the_work(situation: Callable[[int], World]) -> None:
    few, many = calls(situation(100)), calls(situation(200))
    assert 1.5 < many / few < 2.5
