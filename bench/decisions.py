"""What one decision over 1,000 replicas costs: pure functions over values, no machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from gapless.core import simulate
from gapless.core.autoscale import measuring
from gapless.core.reconcile import reconcile
from gapless.core.world import EdgeConfigs, World
from gapless.engine import rollouts
from gapless.model.desired import Desired, Rollout
from gapless.model.stack import Stack
from gapless.observed import Observed, Replica

MANY = 1000
TIMES = 15
UNDER_WAY = 20
"""Decisions after which a rollout that goes one by one is in the middle of its work."""


def measure() -> dict[str, float]:
    """Situation to the median of milliseconds (of cpu) that a decision in it takes."""
    found: dict[str, float] = {}
    for services in (1, 10):
        stack = _stack(services)
        for name, world in _situations(stack):
            found[f"{MANY} replicas of {services}, {name}"] = _ms(_decide, world)
    world = _at_rest(_stack(1))
    found[f"{MANY} replicas of 1, what their load asks for"] = _ms(_measured, world)
    return found


def _stack(services: int) -> Stack:
    scale = {"max": MANY, "cpu": "70%", "rps": 100}
    table: dict[str, Any] = {
        "run": "app ${socket}",
        "replicas": MANY // services,
        "ready": "/",
        "scale": scale,
        "reserve": {"cpu": 1},
    }
    names = [f"web{n}" for n in range(services)]
    tables = {name: {**table, "route": f"/{name}"} for name in names}
    return Stack.model_validate({"gapless": 1, "name": "many", "service": tables})


def _situations(stack: Stack) -> Iterator[tuple[str, World]]:
    rest = _at_rest(stack)
    yield "at rest", rest
    yield "a rollout one by one", _after(UNDER_WAY, _rolling(rest, stack, all_at_once=False))
    yield "a rollout of all at once", _after(2, _rolling(rest, stack, all_at_once=True))
    yield "all have died", _each(rest, alive=False, ready=False)
    yield "none is ready", _each(rest, ready=False)


def _at_rest(stack: Stack) -> World:
    empty = World(
        desired=Desired(running=True),
        stacks={1: stack},
        observed=Observed(cpus=2),
        now=1000.0,
        edge_configs=EdgeConfigs("a", "a", "a"),
    )
    rollout = rollouts.deploy(empty.desired, 1, stack, (), kind="up", park=True, surge_all=True)
    return replace(_after(100, _wanting(empty, rollout)), now=9000.0)


def _rolling(world: World, stack: Stack, *, all_at_once: bool) -> World:
    rollout = rollouts.deploy(
        world.desired, 2, stack, (), kind="deploy", park=True, surge_all=all_at_once
    )
    return _wanting(replace(world, stacks={1: stack, 2: stack}), rollout)


def _wanting(world: World, rollout: Rollout) -> World:
    desired = replace(world.desired, rollout=rollout, counter=rollout.id)
    return replace(world, desired=desired)


def _after(decisions: int, world: World) -> World:
    """So many decisions later, or at rest."""
    for _ in range(decisions):
        decision = reconcile(world)
        for step in decision.steps:
            world = simulate.apply(world, step)
        if decision.steps:
            world = simulate.settle(world)
        elif decision.wake_at is not None and decision.wake_at > world.now:
            world = replace(world, now=decision.wake_at)
        else:
            break
    return world


def _each(world: World, **values: Any) -> World:
    replicas: tuple[Replica, ...] = tuple(replace(r, **values) for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def _decide(world: World) -> None:
    # As in the loop: a world that nobody has looked anything up in yet.
    reconcile(replace(world))


def _measured(world: World) -> None:
    (name,) = world.desired.vector
    service = world.service(name, world.desired.vector[name])
    assert service is not None
    rates = {r.id: 90.0 for r in world.observed.replicas}
    measuring.measures(measuring.Seen(service, world.of(name), MANY, world.now, rates))


def _ms(work: Callable[[World], None], world: World) -> float:
    times = []
    for _ in range(TIMES):
        begun = time.process_time()
        work(world)
        times.append(1000 * (time.process_time() - begun))
    return statistics.median(times)
