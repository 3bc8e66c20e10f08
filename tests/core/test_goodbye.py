"""The pace of goodbyes at the edge, over simulated time: nobody is cut early, nobody in a crowd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.core import goodbye, plan, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.observed import Replica
from tests.core import worlds

LOOK = 0.11
"""Seconds between two looks of the loop while something is awaited."""


@dataclass
class Run:
    """What became of the sockets of leaving replicas. ``shut``: moment and number."""

    shut: list[tuple[float, int]] = field(default_factory=list)
    rates: list[float | None] = field(default_factory=list)
    signalled: dict[str, int] = field(default_factory=dict)
    """Replica to how many sockets it still had then."""

    def most(self) -> int:
        """In any second."""
        return max(
            (sum(n for at, n in self.shut if start <= at < start + 1) for start, _ in self.shut),
            default=0,
        )


def leaving(sockets: int, **web: str) -> World:
    """Scaled down from three replicas to one; those that go carry so many sockets each."""
    world = worlds.at_rest(worlds.stack(web=web))
    world = replace(world, desired=replace(world.desired, scale={"web": 1}))
    for step in reconcile(world).steps:
        world = simulate.apply(world, step)

    def laden(found: Replica) -> Replica:
        if found.server is None or found.server.admin != "maint":
            return found
        return replace(found, server=replace(found.server, in_flight=sockets), sockets=sockets)

    replicas = tuple(laden(found) for found in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def drained(world: World, heeds: Callable[[Replica, float], int] | None = None) -> Run:
    """Look after look until all who leave were signalled. ``heeds``: sockets that the replica
    itself has left at that moment."""
    run = Run()
    for _ in range(2000):
        if heeds is not None:
            replicas = tuple(_obedient(r, world.now, heeds) for r in world.observed.replicas)
            world = replace(world, observed=replace(world.observed, replicas=replicas))
        for step in reconcile(world).steps:
            if isinstance(step, plan.ShutSockets):
                run.shut.append((world.now, sum(n for _, n in step.counts)))
            if isinstance(step, plan.Tell):
                run.rates.append(step.rate)
            if isinstance(step, plan.Signal) and step.id.service == "web":
                found = next(r for r in world.observed.replicas if r.id == step.id)
                run.signalled[str(step.id)] = found.sockets or 0
            world = simulate.apply(world, step)
        if len(run.signalled) >= 2:
            return run
        world = replace(world, now=world.now + LOOK)
    raise AssertionError("they never went")


def _obedient(found: Replica, now: float, heeds: Callable[[Replica, float], int]) -> Replica:
    if found.told_at is None or found.server is None or not found.sockets:
        return found
    left = min(found.sockets, max(0, heeds(found, now - found.told_at)))
    server = replace(found.server, in_flight=left)
    return replace(found, server=server, sockets=left)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.sampled_from(["50/s", "200/s", "1000/s"]), st.integers(4, 90))
def test_all_are_gone_before_the_signal_and_the_rate_holds(
    sockets: int, rate: str, drain: int
) -> None:
    run = drained(leaving(sockets, goodbye=rate, drain=f"{drain}s"))
    assert set(run.signalled.values()) == {0}
    assert sum(n for _, n in run.shut) == 2 * sockets
    enough = 2 * sockets / (float(rate.removesuffix("/s")) * 0.6) < 0.7 * drain
    if enough:
        assert run.most() <= float(rate.removesuffix("/s"))


def test_a_short_drain_spreads_them_as_far_as_it_goes() -> None:
    run = drained(leaving(3000, goodbye="10/s", drain="10s"))
    assert set(run.signalled.values()) == {0}
    assert run.most() <= 1.9 * 2 * 3000 / 7


def test_who_heeds_the_notice_is_left_alone() -> None:
    run = drained(leaving(500, drain="20s"), lambda _, told: 500 - int(100 * told))
    assert run.shut == []


def test_who_stops_half_way_is_helped() -> None:
    run = drained(leaving(500, drain="20s"), lambda _, told: 500 - int(min(250, 100 * told)))
    assert sum(n for _, n in run.shut) == 500


def test_nobody_is_shut_before_it_could_act() -> None:
    world = leaving(500, drain="20s")
    run = drained(world)
    assert run.shut[0][0] >= world.now + goodbye.PATIENCE


def test_requests_are_not_shut() -> None:
    world = leaving(5, drain="20s")
    replicas = tuple(replace(r, sockets=0) for r in world.observed.replicas)
    run = drained(replace(world, observed=replace(world.observed, replicas=replicas)))
    assert run.shut == []


def test_the_rate_is_shared_and_told_again_when_more_leave() -> None:
    run = drained(leaving(100, goodbye="90/s", drain="20s"))
    assert run.rates == [pytest.approx(45.0), pytest.approx(45.0)]
    world = leaving(100, goodbye="90/s", drain="20s")
    first = next(r for r in world.observed.replicas if goodbye.leaves(r))
    told = replace(first, told_at=world.now, told_rate=90.0, told_sockets=100)
    replicas = tuple(told if r.id == first.id else r for r in world.observed.replicas)
    steps = reconcile(replace(world, observed=replace(world.observed, replicas=replicas))).steps
    assert [s.rate for s in steps if isinstance(s, plan.Tell)] == [45.0, 45.0]


def test_down_waits_and_shuts_nobody() -> None:
    world = leaving(100, drain="20s")
    world = replace(world, desired=replace(world.desired, running=False))
    assert drained(world).shut == []
