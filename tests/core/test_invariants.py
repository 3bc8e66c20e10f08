"""The invariants of ARCHITECTURE.md, attacked: steps cut off at any point, anything may fail.

One round: decide, perform some of the steps in any order, then let something happen. The checks
stand at each step, so a broken promise names the step that broke it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.core import plan, record, replica, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import DOWN_DRAIN, World
from gapless.engine import rollouts
from gapless.model.process import Exit, ReplicaId
from gapless.model.stack import Stack
from gapless.observed import Replica
from tests.core import worlds

EVENTS = ("ready", "unready", "die", "trip", "busy", "quiet", "time", "job", "crash", "none")


class Broken(AssertionError):
    """An invariant does not hold."""


def serving(world: World, name: str) -> int:
    return sum(
        replica.serving(r, service)
        for r in world.of(name)
        if (service := world.own_service(r)) is not None
    )


def find(world: World, id: ReplicaId) -> Replica:
    return next(r for r in world.observed.replicas if r.id == id)


def check(before: World, step: plan.Step, ever: set[ReplicaId]) -> None:
    """Raise Broken when the step may not be taken in this world."""
    match step:
        case plan.Signal(id=id):
            _check_signal(before, find(before, id))
        case plan.Enter(id=id):
            if not find(before, id).ready:
                raise Broken(f"{id} enters the edge and is not ready")
        case plan.Flip(enter=entering):
            for id in entering:
                if not find(before, id).ready:
                    raise Broken(f"{id} enters the edge and is not ready")
        case plan.ShutSockets(counts=counts):
            for id, count in counts:
                _check_shut(before, find(before, id), count)
        case plan.StartReplica(id=id):
            _check_start(before, id, ever)
        case plan.StopData() | plan.CreateData() if before.desired.vector:
            if before.desired.running and before.observed.data[step.name].state != "absent":
                raise Broken(f"{step.text}: a deploy alters existing data")
    _check_floor(before, step)


def _check_signal(world: World, found: Replica) -> None:
    service = world.own_service(found)
    server = found.server
    assert service is not None
    if server is not None:
        drain = service.drain if world.desired.running else min(service.drain, DOWN_DRAIN)
        if server.admin != "maint" or found.left_at is None:
            raise Broken(f"{found.id} is signalled while the edge gives it work")
        if server.in_flight and world.now < found.left_at + drain:
            raise Broken(f"{found.id} is signalled with {server.in_flight} in flight")
    rollout = world.desired.rollout
    if (
        rollout is not None
        and rollout.phase != "undoing"
        and rollout.park
        and not service.singleton
        and world.desired.running
        and rollout.base.get(found.id.service) == found.generation
        and found.id.ordinal <= world.count(found.id.service, found.generation)
        and not replica.late(found, service, world.now)
    ):
        raise Broken(f"{found.id} is given up before {rollout.kind} {rollout.id} has held")


def _check_shut(world: World, found: Replica, count: int) -> None:
    service, server = world.own_service(found), found.server
    assert service is not None
    if server is None or server.admin != "maint" or found.told_at is None:
        raise Broken(f"{found.id} loses sockets and was not told")
    if found.sockets is None or not 0 < count <= found.sockets:
        raise Broken(f"{count} sockets of {found.id} are shut, and it has {found.sockets}")
    if world.now < found.told_at + 0.2 * min(service.drain, 10.0):
        raise Broken(f"{found.id} loses sockets before it could act")


def _check_start(world: World, id: ReplicaId, ever: set[ReplicaId]) -> None:
    if id in ever:
        raise Broken(f"{id} was used before")
    ever.add(id)
    stack = world.stacks[id.release]
    # A dead one that is not cleared away counts: what it started may work on.
    if stack.services[id.service].singleton and world.of(id.service):
        raise Broken(f"{id} would be a second {id.service}")


def _check_floor(before: World, step: plan.Step) -> None:
    """A step takes no service below what is wanted of it, unless it was below already."""
    after = simulate.apply(before, step)
    rollout = before.desired.rollout
    for name in before.service_names(before.desired.vector):
        generations = {before.desired.vector.get(name)}
        if rollout is not None:
            generations |= {rollout.base.get(name), rollout.target.get(name)}
        counts = [before.count(name, g) for g in generations if g is not None]
        tables = [before.service(name, g) for g in generations if g is not None]
        if not counts or any(t is None or t.singleton for t in tables):
            continue
        had, has = serving(before, name), serving(after, name)
        if has < had and has < min(counts):
            failing = any(slot[0] == name for slot in before.observed.failures)
            if not failing:
                raise Broken(f"{step.text}: {name} falls from {had} to {has} serving")


def happen(world: World, event: str, pick: int) -> World:
    """Something that nobody planned."""
    alive = [r for r in world.observed.replicas if r.alive]
    if event == "time":
        return replace(world, now=world.now + 7)
    if event == "crash":
        return replace(world, desired=record.interrupted(world.desired, "the controller died"))
    if event == "job" and world.observed.jobs:
        last = world.observed.jobs[-1]
        outcomes: tuple[Literal["succeeded", "failed", "unknown"], ...]
        outcomes = ("succeeded", "failed", "unknown")
        outcome = outcomes[pick % 3]
        jobs = (*world.observed.jobs[:-1], replace(last, state=outcome))
        return replace(world, observed=replace(world.observed, jobs=jobs))
    if not alive:
        return world
    found = alive[pick % len(alive)]
    changed = _struck(world, found, event, pick)
    replicas = tuple(changed if r.id == found.id else r for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def _struck(world: World, found: Replica, event: str, pick: int) -> Replica:
    server = found.server
    match event:
        case "ready" if found.signalled_at is None:
            if server is not None and server.admin == "ready":
                server = replace(server, up=True, tripped=False)
            return replace(found, ready=True, ready_since=world.now, ever_ready=True, server=server)
        case "unready":
            if server is not None:
                server = replace(server, up=False)
            return replace(found, ready=False, ready_since=None, server=server)
        case "die":
            if server is not None:
                server = replace(server, up=False, in_flight=0)
            return replace(found, alive=False, ready=False, exit=Exit(signal=9), server=server)
        case "trip" if server is not None and server.admin == "ready":
            return replace(found, server=replace(server, up=False, tripped=True))
        case "busy" if server is not None and server.takes_work:
            return replace(found, server=replace(server, in_flight=3), sockets=pick % 4)
        case "quiet" if server is not None:
            return replace(found, server=replace(server, in_flight=0), sockets=0)
    return found


def perform(world: World, steps: tuple[plan.Step, ...], ever: set[ReplicaId]) -> World:
    for step in steps:
        try:
            check(world, step, ever)
        except StopIteration:
            continue  # a replica that an earlier step of the round has cleared away
        world = simulate.apply(world, step)
    return world


def _deploy(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return worlds.deploying(world, table, park=park, surge_all=surge)


def _restart(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return worlds.wanting(world, rollouts.restart(world.desired, world.stacks[1], (), park=park))


def _scale(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    counts = {"web": 5 if surge else 1, "worker": 1}
    return replace(world, desired=replace(world.desired, scale=counts))


def _down(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return replace(world, desired=replace(world.desired, running=False))


CHANGES: dict[str, Callable[..., World]] = {
    "deploy": _deploy,
    "restart": _restart,
    "scale": _scale,
    "down": _down,
}
TABLES = {
    "one by one": worlds.stack(),
    "two by two": worlds.stack(web={"surge": 2}),
    "atomic": worlds.stack(web={"switch": "atomic"}),
    "more": worlds.stack(web={"replicas": 4}),
    "fewer": worlds.stack(web={"replicas": 2}),
}
REST = worlds.at_rest(worlds.stack())


@settings(max_examples=300)
@given(
    change=st.sampled_from(sorted(CHANGES)),
    table=st.sampled_from(sorted(TABLES)),
    park=st.booleans(),
    surge=st.booleans(),
    script=st.lists(
        st.tuples(st.sampled_from(EVENTS), st.integers(0, 30), st.integers(0, 6), st.randoms()),
        max_size=40,
    ),
)
def test_every_interrupted_prefix_keeps_every_invariant(change, table, park, surge, script):  # type: ignore[no-untyped-def]  # hypothesis gives the arguments
    world = CHANGES[change](REST, TABLES[table], park=park, surge=surge)
    ever = {r.id for r in world.observed.replicas}
    for event, pick, cut, random in script:
        steps = list(reconcile(world).steps)
        random.shuffle(steps)
        world = perform(world, tuple(steps[: max(1, cut)] if cut < 6 else steps), ever)
        world = happen(world, event, pick)
    _ends_well(world, ever)


def _ends_well(world: World, ever: set[ReplicaId]) -> None:
    """Left alone, with nothing more failing, it comes to rest at what the record says."""
    for _ in range(300):
        world = simulate.settle(_healed(world))
        decision = reconcile(world)
        if decision.steps:
            world = perform(world, decision.steps, ever)
        elif decision.wake_at is not None and decision.wake_at > world.now:
            world = replace(world, now=decision.wake_at)
        elif not decision.waits:
            break
        else:
            world = replace(world, now=world.now + 1)
    else:
        raise Broken(f"no rest after 300 rounds: {decision.steps or decision.waits}")
    assert world.desired.rollout is None or not world.desired.running
    for name, generation in world.desired.vector.items():
        wanted = world.count(name, generation)
        found = [r for r in world.of(name) if r.alive]
        assert len(found) == wanted, f"{name}: {len(found)} of {wanted}"
        assert all(r.generation == generation for r in found)
        assert serving(world, name) == wanted


def _healed(world: World) -> World:
    """The edge's own checks find every living member up again."""
    replicas = tuple(
        replace(r, server=replace(r.server, up=True, tripped=False), ready=True)
        if r.alive and r.server is not None and r.server.admin == "ready"
        else r
        for r in world.observed.replicas
    )
    return replace(world, observed=replace(world.observed, replicas=replicas))


def _leaving(world: World, in_flight: int) -> World:
    """web.1 is out of the edge, with so many requests in flight."""
    web = ReplicaId("web", 1, 1)
    world = simulate.apply(world, plan.Leave(web))
    found = find(world, web)
    assert found.server is not None
    left = replace(found, server=replace(found.server, in_flight=in_flight))
    replicas = tuple(left if r.id == web else r for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def test_the_checks_catch_what_they_are_for() -> None:
    """Planted faults: each check fails on a step that breaks its invariant, and says so."""
    web, beat = ReplicaId("web", 1, 1), ReplicaId("beat", 1, 1, 2)
    generation = REST.desired.vector["web"]
    position = next(n for n, r in enumerate(REST.observed.replicas) if r.id == web)
    unready = happen(REST, "unready", position)
    deploying = worlds.deploying(REST, worlds.stack())
    first = next(n for n, r in enumerate(REST.observed.replicas) if r.id.service == "beat")
    planted: list[tuple[World, plan.Step, str]] = [
        (REST, plan.Signal(web), "while the edge gives it work"),
        (_leaving(REST, 2), plan.Signal(web), "with 2 in flight"),
        (_leaving(REST, 2), plan.ShutSockets(((web, 1),)), "was not told"),
        (_leaving(deploying, 0), plan.Signal(web), "given up before deploy 2 has held"),
        (unready, plan.Enter(web), "is not ready"),
        (unready, plan.Flip((web,), ()), "is not ready"),
        (REST, plan.Leave(web), "falls from 3 to 2"),
        (REST, plan.StartReplica(web, generation), "was used before"),
        (REST, plan.StartReplica(beat, generation), "would be a second beat"),
        (happen(REST, "die", first), plan.StartReplica(beat, generation), "would be a second beat"),
        (REST, plan.StopData("db"), "alters existing data"),
    ]
    for world, step, said in planted:
        with pytest.raises(Broken, match=said):
            check(world, step, {r.id for r in world.observed.replicas})
