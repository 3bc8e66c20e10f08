"""Figures of a world to loads, look by look; queues asked beside it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from tests.core import worlds

from gapless.core.world import World
from gapless.engine import clock
from gapless.engine.demand import Demand
from gapless.engine.site import Site
from gapless.errors import DataFault
from gapless.observed import Moment

SCALED = {"max": 6, "rps": 100, "connections": 20, "latency": "200ms", "down_after": "60s"}


class Queues:
    """A store that holds one queue."""

    def __init__(self) -> None:
        self.length = 0
        self.fault = ""
        self.asked = asyncio.Event()

    async def backlog(self, queue: str) -> int:
        self.asked.set()
        if self.fault:
            raise DataFault(self.fault)
        return self.length if queue == "jobs" else 0


class Place:
    """As much of a site as is asked for."""

    def __init__(self, **stores: object) -> None:
        self.stores = stores


def made(**stores: object) -> Demand:
    return Demand(cast(Site, Place(**stores)))


def world_of(**scale: Any) -> World:
    return worlds.at_rest(worlds.stack(web={"scale": {**SCALED, **scale}}))


def later(world: World, seconds: float, served: int = 0, *, in_flight: int = 0) -> World:
    """So many more answers of each replica of web, a while later."""
    replicas = []
    for found in world.observed.replicas:
        if found.id.service == "web" and found.server is not None:
            server = replace(
                found.server,
                served=found.server.served + served,
                in_flight=in_flight,
                latency=0.3,
            )
            found = replace(found, server=server)
        replicas.append(found)
    observed = replace(world.observed, replicas=tuple(replicas))
    return replace(world, observed=observed, now=world.now + seconds)


async def test_figures_become_a_recommendation() -> None:
    own, world = made(), world_of()
    first = own.refresh(world)["web"]
    assert (first.wanted, first.earlier) == (None, (Moment(world.now, 3),))
    world = later(world, 2.0, 320, in_flight=5)
    load = own.refresh(world)["web"]
    told = {m.metric: (round(m.measured, 3), m.wanted) for m in load.measures}
    assert told == {"rps": (160, 5), "connections": (5, 1), "latency": (0.3, 5)}
    assert load.wanted == 5


async def test_between_two_samples_nothing_is_measured_anew() -> None:
    own, world = made(), world_of()
    first = own.refresh(world)["web"]
    assert own.refresh(later(world, 0.5, 100))["web"] is first


async def test_requests_that_wait_without_an_answer_take_nobody_away() -> None:
    own, world = made(), world_of()
    own.refresh(world)
    load = own.refresh(later(world, 2.0, 0, in_flight=1))["web"]
    assert load.wanted is None
    assert {m.metric for m in load.measures if m.wanted is None} == {"latency"}


async def test_recommendations_and_changes_are_remembered_as_long_as_they_matter() -> None:
    own, world = made(), world_of()
    for _ in range(90):
        own.refresh(world)
        world = later(world, 1.0, 100)
    load = own.refresh(world)["web"]
    assert 55 <= len(load.earlier) <= 61
    assert {moment.count for moment in load.earlier} == {5}  # as the latency asks


async def test_held_services_begin_anew_and_those_set_by_hand_go_on() -> None:
    own, world = made(), world_of()
    own.refresh(world)
    paused = replace(world, desired=replace(world.desired, maintenance=True))
    assert own.refresh(later(paused, 1.0)) == {}
    by_hand = replace(world, desired=replace(world.desired, scale={"web": 5}))
    assert own.refresh(later(by_hand, 2.0))["web"].earlier == (Moment(world.now + 2.0, 5),)


async def test_a_queue_is_asked_beside_the_loop() -> None:
    queues = Queues()
    queues.length = 450
    own = made(cache=queues)
    scale = {"max": 9, "queue": "cache:jobs", "backlog": 100}
    world = worlds.at_rest(worlds.stack(worker={"scale": scale}))
    (unknown,) = own.refresh(world)["worker"].measures
    assert (unknown.wanted, unknown.fault) == (None, "not asked yet")
    await asyncio.wait_for(queues.asked.wait(), 5)
    await asyncio.sleep(0)
    now = clock.now()
    (told,) = own.refresh(replace(world, now=now))["worker"].measures
    assert (told.measured, told.wanted) == (225, 5)
    await own.close()


async def test_a_queue_that_cannot_be_told_says_why() -> None:
    queues = Queues()
    queues.fault = "cache: connection refused"
    own = made(cache=queues)
    scale = {"max": 9, "queue": "cache:jobs", "backlog": 100}
    world = worlds.at_rest(worlds.stack(worker={"scale": scale}))
    own.refresh(world)
    await asyncio.wait_for(queues.asked.wait(), 5)
    await asyncio.sleep(0)
    (told,) = own.refresh(replace(world, now=clock.now()))["worker"].measures
    assert told.fault == "cache: connection refused"
    await own.close()
