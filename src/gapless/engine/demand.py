"""What the load of each service asks for: figures gathered, and recommendations remembered.

Kept in memory alone. A new controller begins with the counts in force, so it takes no replica
away before a whole window has agreed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gapless import errors
from gapless.core import following
from gapless.core.autoscale import deciding, measuring, tallies
from gapless.core.autoscale.tallies import Counted, Tally
from gapless.core.world import World
from gapless.data import base as data_base
from gapless.engine import clock
from gapless.engine.site import Site
from gapless.model.process import ReplicaId
from gapless.model.scale import Scale
from gapless.model.service import Service
from gapless.observed import Load, Measure, Moment, Replica

EVERY = 1.0
"""Seconds between two recommendations."""


@dataclass(slots=True)
class _Queue:
    """The length of one queue, asked for in the background."""

    task: asyncio.Task[None] | None = None
    length: int | None = None
    fault: str = "not asked yet"
    at: float = 0.0


class Demand:
    """The loads of one stack's services."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.loads: dict[str, Load] = {}
        self._tallies: dict[ReplicaId, Tally] = {}
        self._queues: dict[tuple[str, str], _Queue] = {}

    def refresh(self, world: World) -> Mapping[str, Load]:
        """The loads as of this look; those of services that are held are not kept."""
        followed = {
            name: service
            for name, generation in world.desired.vector.items()
            if (service := world.service(name, generation)) is not None
            and service.scale is not None
            and following.held(world, name) in ("", following.BY_HAND)
        }
        self._watch(_with_queues(world))
        for name, service in followed.items():
            before = self.loads.get(name)
            if before is None or world.now - before.at >= EVERY * 0.9:
                self.loads[name] = self._measured(world, name, service, before)
        self.loads = {name: load for name, load in self.loads.items() if name in followed}
        ids = {r.id for r in world.observed.replicas}
        self._tallies = {id: known for id, known in self._tallies.items() if id in ids}
        return dict(self.loads)

    def backlog(self, service: Service) -> int | None:
        """Tasks in the queue that it follows; None without a queue, or when it cannot be told."""
        if service.scale is None or service.scale.queue is None:
            return None
        queue = self._queues.get((service.scale.store, service.scale.queue_name), _Queue())
        return None if clock.now() - queue.at > deciding.STALE else queue.length

    def changed(self, name: str, by: int) -> None:
        """The count was changed by so many replicas just now."""
        if (load := self.loads.get(name)) is not None:
            moment = Moment(clock.now(), by)
            self.loads[name] = replace(load, changes=(*load.changes, moment))

    async def close(self) -> None:
        """Ask no queue any more."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _measured(self, world: World, name: str, service: Service, before: Load | None) -> Load:
        assert service.scale is not None  # noqa: S101  # refresh has seen to it
        generation = world.desired.vector[name]
        replicas = tuple(r for r in world.of(name) if r.generation == generation)
        count = world.count(name, generation)
        counted = self._counted(replicas, world.now)
        queue = self._queues.get((service.scale.store, service.scale.queue_name), _Queue())
        stale = world.now - queue.at > deciding.STALE
        found = measuring.measures(
            measuring.Seen(
                service,
                replicas,
                count,
                world.now,
                counted.rates,
                _latency(replicas, counted),
                None if stale else queue.length,
                queue.fault,
            )
        )
        return _after(before, found, count, world.now, service.scale)

    def _counted(self, replicas: tuple[Replica, ...], now: float) -> Counted[ReplicaId]:
        """What the edge has counted of each; one that has just entered it began at nothing."""
        own = {}
        for found in replicas:
            if found.server is None:
                self._tallies.pop(found.id, None)
                continue
            tally = self._tallies.get(found.id)
            if tally is None:
                tally = self._tallies[found.id] = Tally()
                if found.entered_at is not None and now - found.entered_at < 2 * EVERY:
                    tally.note(found.entered_at, 0)
            tally.note(now, found.server.served)
            own[found.id] = tally
        return tallies.counted(own, now)

    def _watch(self, wanted: Collection[tuple[str, str]]) -> None:
        """Have each of these queues asked, and no other."""
        for key in [key for key in self._queues if key not in wanted]:
            task = self._queues.pop(key).task
            if task is not None:
                task.cancel()
        for key in wanted:
            queue = self._queues.setdefault(key, _Queue())
            if queue.task is None or queue.task.done():
                queue.task = asyncio.create_task(self._ask(queue, *key))

    async def _ask(self, queue: _Queue, store: str, name: str) -> None:
        while True:
            holder: object = self.site.stores.get(store)
            try:
                if not isinstance(holder, data_base.Backlog):
                    raise errors.DataFault(f"{store}: holds no queues")
                queue.length = await holder.backlog(name)
                queue.fault = ""
            except (errors.GaplessError, OSError) as error:
                queue.length, queue.fault = None, str(error)
            queue.at = clock.now()
            await asyncio.sleep(EVERY)


def _latency(replicas: tuple[Replica, ...], counted: Counted[ReplicaId]) -> float | None:
    """The mean over all that were answered; 0.0 where nobody asks, None where all wait."""
    answered = waited = waiting = 0.0
    for found in replicas:
        if found.server is not None:
            number = counted.answers.get(found.id, 0)
            waiting += found.server.in_flight
            answered += number
            waited += number * found.server.latency
    if answered:
        return waited / answered
    return None if waiting else 0.0


def _with_queues(world: World) -> set[tuple[str, str]]:
    """(store, queue) of all services in force, also of those whose count is held: it is shown."""
    services = (world.service(name, gen) for name, gen in world.desired.vector.items())
    scales = [one.scale for one in services if one is not None and one.scale is not None]
    return {(one.store, one.queue_name) for one in scales if one.queue is not None}


def _after(
    before: Load | None, found: tuple[Measure, ...], count: int, now: float, scale: Scale
) -> Load:
    """The next load; its history begins with the count in force."""
    wanted = deciding.recommend(found, count)
    if before is None:
        return Load(now, found, wanted, (Moment(now, count),))
    earlier = before.earlier
    if before.wanted is not None:
        earlier = (*earlier, Moment(before.at, before.wanted))
    oldest = now - deciding.of(scale).memory
    return Load(
        now,
        found,
        wanted,
        tuple(moment for moment in earlier if moment.at >= oldest),
        tuple(moment for moment in before.changes if moment.at >= oldest),
    )
