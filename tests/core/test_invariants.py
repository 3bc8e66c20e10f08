"""The invariants of ARCHITECTURE.md, attacked: steps cut off at any point, anything may fail.

One round: decide, perform some of the steps in any order, then let something happen. The checks
stand at each step, so a broken promise names the step that broke it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gapless.core import balancer, following, plan, record, replica, simulate, stores
from gapless.core.balancer import HEIR_LIMIT
from gapless.core.reconcile import reconcile
from gapless.core.service import LEAST_BOOTS
from gapless.core.world import DOWN_DRAIN, World
from gapless.engine import rollouts
from gapless.model.process import Exit, ReplicaId
from gapless.model.stack import Stack
from gapless.observed import EdgeForm, Replica
from tests.core import worlds

EVENTS = (
    "ready", "unready", "die", "trip", "busy", "quiet", "time", "job", "crash", "none",
    "stop", "continue", "ail", "recover", "grow", "shrink", "store", "load", "edge", "await",
)  # fmt: skip


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
    _check_edge(before, step)
    match step:
        case plan.Signal(id=id) | plan.Kill(id=id) | plan.Leave(id=id):
            _check_going(before, step, find(before, id))
        case plan.Enter(id=id):
            if not find(before, id).ready:
                raise Broken(f"{id} enters the edge and is not ready")
        case plan.Flip(enter=entering):
            for id in entering:
                check(before, plan.Enter(id), ever)
        case plan.ShutSockets(counts=counts):
            for id, count in counts:
                _check_shut(before, find(before, id), count)
        case plan.StartReplica(id=id):
            _check_start(before, id, ever)
        case record.Rescale():
            _check_rescale(before, step)
        case stores.StopData() | stores.CreateData() if before.desired.vector:
            if before.desired.running and before.observed.data[step.name].state != "absent":
                raise Broken(f"{step.text}: a deploy alters existing data")
    _check_floor(before, step)


def _check_edge(world: World, step: plan.Step) -> None:
    """What takes over was told what the edge knew when it was started, and nothing since."""
    if isinstance(step, balancer.Await):
        _check_awaited(world, step)
    since = world.observed.edge.heir_since
    if since is not None and world.now < since + HEIR_LIMIT and world.desired.running:
        raise Broken(f"{step.text}: another edge is about to take over")


def _check_awaited(world: World, step: balancer.Await) -> None:
    """Who is to come is waited for, by whatever side of a rollout; nobody else is."""
    sides = [world.desired.vector]
    if world.desired.rollout is not None:
        sides.append(world.desired.rollout.target)
    wanted = {name for side in sides for name in side if world.count(name, side[name])}
    if vain := set(step.begin) - wanted:
        raise Broken(f"requests wait for {min(vain)} in vain")
    if lost := set(step.end) & wanted:
        raise Broken(f"nobody waits for {min(lost)}, which is to have replicas")


def _check_rescale(world: World, step: record.Rescale) -> None:
    service = world.service(step.name, world.desired.vector.get(step.name))
    assert service is not None
    fewest, most = service.bounds(world.observed.cpus)
    if not fewest <= step.count <= most:
        raise Broken(f"{step.text}: it may have from {fewest} to {most}")
    if why := following.held(world, step.name):
        raise Broken(f"{step.text}: {why}")


def _check_going(world: World, step: plan.Step, found: Replica) -> None:
    match step:
        case plan.Signal():
            _check_signal(world, found)
        case plan.Kill():
            _check_kill(world, found)
        case _:
            _check_restart(world, found)


def _check_signal(world: World, found: Replica) -> None:
    service = world.own_service(found)
    server = found.server
    assert service is not None
    if server is not None:
        drain = service.drain if world.desired.running else min(service.drain, DOWN_DRAIN)
        if found.live_failed_since is not None:
            drain = 0.0
        if server.admin != "maint" or found.left_at is None:
            raise Broken(f"{found.id} is signalled while the edge gives it work")
        since = math.inf if found.told_at is None else found.told_at
        if server.in_flight and drain and world.now < since + drain:
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
        and found.live_failed_since is None
        and not any(_took_over(found, r) for r in world.of(found.id.service))
        and not any(_stays_for(found, r) for r in world.of(found.id.service))
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


def _check_kill(world: World, found: Replica) -> None:
    """Killed is who was asked to end and did not, or who stands still and cannot."""
    if found.killed_at is not None or found.signalled_at is not None:
        return
    if not replica.hung(found, world.now):
        raise Broken(f"{found.id} is killed unasked")
    if found.server is not None and found.server.admin != "maint":
        raise Broken(f"{found.id} is killed while the edge gives it work")


def _check_restart(world: World, found: Replica) -> None:
    """One restart for failed liveness at a time, and none that a shared cause would explain."""
    if world.desired.rollout is not None or not replica.usable(found) or not found.alive:
        return  # who leaves for a rollout, or is on its way, is not restarted
    if not lifeless(world, found):
        return
    name = found.id.service
    others = [
        r
        for r in world.of(name)
        if r.generation == found.generation and r.id.ordinal != found.id.ordinal and r.alive
    ]
    going = [r for r in others if lifeless(world, r) and r.signalled_at is not None]
    if [r for r in going if not any(_took_over(r, other) for other in world.of(name))]:
        raise Broken(f"{found.id} is restarted beside {going[0].id}")
    later = [r.id for r in world.of(name) if r.id.ordinal == found.id.ordinal]
    if any(id.attempt > found.id.attempt for id in later):
        return  # begun while all was there; more may be wanted, or a store missing, by now
    if world.missing_stores(name):
        raise Broken(f"{found.id} is restarted while a store is missing")
    ready = {r.id.ordinal for r in others if r.ready}
    since = found.live_failed_since
    assert since is not None
    if 2 * len(ready) < world.count(name, found.generation) - 1 and world.now - since < 60:
        raise Broken(f"{found.id} is restarted with {len(ready)} others ready")


def lifeless(world: World, found: Replica) -> bool:
    """Whether it serves in steady state and fails its liveness only."""
    return (
        found.live_failed_since is not None
        and found.generation == world.desired.vector.get(found.id.service)
        and found.id.ordinal <= world.count(found.id.service, found.generation)
        and found.frozen_since is None
    )


def _took_over(gone: Replica, found: Replica) -> bool:
    return (
        found.id.ordinal == gone.id.ordinal
        and found.id.attempt > gone.id.attempt
        and found.ever_ready
    )


def _stays_for(gone: Replica, found: Replica) -> bool:
    """Whether one that was to be restarted got well again, and serves beside what was to follow."""
    return (
        found.id.ordinal == gone.id.ordinal
        and found.id.attempt < gone.id.attempt
        and found.generation == gone.generation
        and found.server is not None
        and found.server.takes_work
    )


def _check_start(world: World, id: ReplicaId, ever: set[ReplicaId]) -> None:
    if id in ever:
        raise Broken(f"{id} was used before")
    ever.add(id)
    stack = world.stacks[id.release]
    # A dead one that is not cleared away counts: what it started may work on.
    if stack.services[id.service].singleton and world.of(id.service):
        raise Broken(f"{id} would be a second {id.service}")
    rollout = world.desired.rollout
    booting = sum(replica.usable(r) and not r.ever_ready for r in world.of(id.service))
    if (rollout is None or id.service not in rollout.target) and booting >= LEAST_BOOTS:
        raise Broken(f"{id} boots beside {booting} others")


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
        if isinstance(step, plan.Leave | plan.Signal) and lifeless(before, find(before, step.id)):
            continue  # what is not live does not count, whatever it answers
        had, has = serving(before, name), serving(after, name)
        if has < had and has < min(counts):
            failing = any(slot[0] == name for slot in before.observed.failures)
            if not failing:
                raise Broken(f"{step.text}: {name} falls from {had} to {has} serving")


def happen(world: World, event: str, pick: int) -> World:
    """Something that nobody planned."""
    alive = [r for r in world.observed.replicas if r.alive]
    if event == "load":
        return worlds.loaded(world, pick)
    if event == "time":
        return replace(world, now=world.now + 7)
    if event == "store":
        node = world.observed.data["db"]
        states: tuple[Literal["ready", "failed"], ...] = ("ready", "failed")
        data = {**world.observed.data, "db": replace(node, state=states[pick % 2])}
        return replace(world, observed=replace(world.observed, data=data))
    if event == "edge":
        return _at_the_edge(world, pick)
    if event == "await":
        return _awaiting(world, pick)
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
    changed = _ailing(world, _struck(world, found, event, pick), event)
    replicas = tuple(changed if r.id == found.id else r for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def _at_the_edge(world: World, pick: int) -> World:
    """Another image is wanted, or its start is cut off; who was started takes over, or dies."""
    edge = world.observed.edge
    if pick % 4 < 2:
        config = "b" if edge.config == "a" else "a"
        world = worlds.with_edges(world, config, config, config, forms=FORMS)
        if pick % 4 == 1 and edge.state == "running":
            edge = replace(edge, heir_since=world.now)
    elif pick % 4 == 2 and edge.heir_since is not None:
        wanted = world.edge_config
        edge = replace(edge, heir_since=None, config=wanted, form=FORMS[wanted])
    elif pick % 4 == 3:
        edge = replace(edge, heir_since=None)
    return replace(world, observed=replace(world.observed, edge=edge))


def _awaiting(world: World, pick: int) -> World:
    """Nobody is left of a service, or the edge has been told another thing than is right."""
    name = ("web", "api", "other")[pick % 3]
    if pick % 2:
        left = tuple(r for r in world.observed.replicas if r.id.service != name)
        return replace(world, observed=replace(world.observed, replicas=left))
    edge = world.observed.edge
    edge = replace(edge, awaited=edge.awaited.symmetric_difference({name}))
    return replace(world, observed=replace(world.observed, edge=edge))


def _ailing(world: World, found: Replica, event: str) -> Replica:
    """It falls ill in one of the ways that healing knows, or gets well."""
    match event:
        case "stop":
            return replace(found, ready=False, ready_since=None, frozen_since=world.now)
        case "continue":
            return replace(found, frozen_since=None)
        case "ail" if found.ever_ready:
            return replace(found, live_failed_since=world.now, live="GET /live: 500")
        case "recover":
            return replace(found, live_failed_since=None)
        case "grow":
            return replace(found, memory=2 << 30, memory_low=2 << 30)
        case "shrink":
            return replace(found, memory=1, memory_low=1)
    return found


def _struck(world: World, found: Replica, event: str, pick: int) -> Replica:
    server = found.server
    match event:
        case "ready" if found.signalled_at is None and found.frozen_since is None:
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


def _nothing(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return replace(world, now=world.now + 3600) if surge else world


def _deploy(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return worlds.deploying(world, table, park=park, surge_all=surge)


def _restart(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return worlds.wanting(world, rollouts.restart(world.desired, world.stacks[1], (), park=park))


def _scale(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    counts = {"web": 9 if surge else 1, "worker": 1}
    return replace(world, desired=replace(world.desired, scale=counts))


def _stop(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    """By hand; ``surge``: once all have ended by themselves and are cleared away."""
    if surge:
        world = _awaiting(world, 3)
    return replace(world, desired=replace(world.desired, stopped=("web",)))


def _down(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    return replace(world, desired=replace(world.desired, running=False))


def _follow(world: World, table: Stack, *, park: bool, surge: bool) -> World:
    """It follows its load from now on, which asks for more or for fewer."""
    services = {**REST.stacks[1].services}
    scaled = {"min": 1, "max": 6, "rps": 10, "down_after": "5s"}
    services["web"] = worlds.stack(web={"scale": scaled}).services["web"]
    following_stack = REST.stacks[1].model_copy(update={"services": services})
    return worlds.loaded(replace(world, stacks={1: following_stack}), 5 if surge else 1)


CHANGES: dict[str, Callable[..., World]] = {
    "follow": _follow,
    "deploy": _deploy,
    "restart": _restart,
    "scale": _scale,
    "down": _down,
    "stop": _stop,
    "nothing": _nothing,
}
TABLES = {
    "one by one": worlds.stack(),
    "two by two": worlds.stack(web={"surge": 2}),
    "atomic": worlds.stack(web={"switch": "atomic"}),
    "more": worlds.stack(web={"replicas": 4}),
    "fewer": worlds.stack(web={"replicas": 2}),
}
LIMITED = {"limits": {"memory": "1G"}, "recycle": {"age": "1h"}}
FORMS = {"a": EdgeForm("sha256:1"), "b": EdgeForm("sha256:2")}
REST = worlds.at_rest(worlds.stack(web=LIMITED, api=LIMITED, worker=LIMITED, beat=LIMITED))


def _dealt(seed: int, *events: tuple[str, int, int]) -> list[Any]:
    """A script whose steps come in the order of this seed."""
    dealer = random.Random(seed)
    return [(*event, dealer) for event in events]


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
@example(
    change="deploy",
    table="atomic",
    park=True,
    surge=False,
    # Its successor has been started when it gets well again.
    script=_dealt(1, ("ail", 0, 0), ("recover", 0, 0)),
)
@example(
    change="nothing",
    table="atomic",
    park=False,
    surge=False,
    # A store goes once a successor has been started.
    script=_dealt(1, ("ail", 0, 0), ("store", 1, 0), ("ready", 0, 0)),
)
@example(
    change="deploy",
    table="two by two",
    park=False,
    surge=False,
    # A new one stands still, and is told to end since the edge has to be replaced first.
    script=_dealt(
        0, ("job", 0, 0), ("ready", 0, 0), ("ready", 0, 0), ("stop", 28, 0), ("edge", 0, 0)
    ),
)
def test_every_interrupted_prefix_keeps_every_invariant(change, table, park, surge, script):  # type: ignore[no-untyped-def]  # hypothesis gives the arguments
    world = CHANGES[change](REST, TABLES[table], park=park, surge=surge)
    ever = {r.id for r in world.observed.replicas}
    for event, pick, cut, dealer in script:
        steps = list(reconcile(world).steps)
        dealer.shuffle(steps)
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
    edge = world.observed.edge
    assert edge.heir_since is None
    entered = {r.id.service for r in world.observed.replicas if replica.in_edge(r)}
    assert edge.state != "running" or edge.awaited == entered
    assert not world.desired.running or edge.config == world.edge_config
    for name, generation in world.desired.vector.items():
        wanted = world.count(name, generation)
        found = [r for r in world.of(name) if r.alive]
        assert len(found) == wanted, f"{name}: {len(found)} of {wanted}"
        assert all(r.generation == generation for r in found)
        assert serving(world, name) == wanted


def _healed(world: World) -> World:
    """The edge's own checks find every living member up again; stores answer."""
    if world.desired.running:
        data = {n: replace(node, state="ready") for n, node in world.observed.data.items()}
        world = replace(world, observed=replace(world.observed, data=data))
    replicas = tuple(
        replace(r, server=replace(r.server, up=True, tripped=False), ready=True)
        if r.alive and r.frozen_since is None and r.server is not None and r.server.admin == "ready"
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


WEBS = tuple(ReplicaId("web", ordinal, 1) for ordinal in (1, 2, 3))
ILL = {"live_failed_since": REST.now - 1}


def _with(world: World, ids: tuple[ReplicaId, ...], **facts: Any) -> World:
    replicas = tuple(replace(r, **facts) if r.id in ids else r for r in world.observed.replicas)
    return replace(world, observed=replace(world.observed, replicas=replicas))


def _storeless(world: World) -> World:
    data = {n: replace(node, state="failed") for n, node in world.observed.data.items()}
    return replace(world, observed=replace(world.observed, data=data))


def _on_its_way(world: World) -> World:
    return _at_the_edge(world, 1)


def test_the_checks_catch_what_they_are_for() -> None:
    """Planted faults: each check fails on a step that breaks its invariant, and says so."""
    web, beat = ReplicaId("web", 1, 1), ReplicaId("beat", 1, 1, 2)
    generation = REST.desired.vector["web"]
    position = next(n for n, r in enumerate(REST.observed.replicas) if r.id == web)
    unready = happen(REST, "unready", position)
    deploying = worlds.deploying(REST, worlds.stack())
    first = next(n for n, r in enumerate(REST.observed.replicas) if r.id.service == "beat")
    crowded = REST
    for ordinal in range(5, 9):
        start = plan.StartReplica(ReplicaId("web", ordinal, 1), generation)
        crowded = simulate.apply(crowded, start)
    follow = _follow(REST, worlds.stack(), park=True, surge=True)
    planted: list[tuple[World, plan.Step, str]] = [
        (follow, record.Rescale("web", 7), "it may have from 1 to 6"),
        (
            replace(follow, desired=replace(follow.desired, maintenance=True)),
            record.Rescale("web", 5),
            "maintenance is on",
        ),
        (REST, balancer.Await(end=("web",)), "nobody waits for web, which is to have replicas"),
        (
            replace(deploying, desired=replace(deploying.desired, vector={})),
            balancer.Await(end=("web",)),
            "nobody waits for web",
        ),
        (
            _stop(REST, worlds.stack(), park=True, surge=False),
            balancer.Await(begin=("web",)),
            "for web in vain",
        ),
        (_on_its_way(REST), plan.Leave(web), "another edge is about to take over"),
        (_on_its_way(REST), balancer.ReplaceEdge("b"), "another edge is about to take over"),
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
        (REST, stores.StopData("db"), "alters existing data"),
        (REST, plan.Kill(web), "is killed unasked"),
        (_with(REST, (web,), frozen_since=0.0), plan.Kill(web), "killed while the edge"),
        (_with(REST, WEBS, ready=False, **ILL), plan.Leave(web), "with 0 others ready"),
        (_storeless(_with(REST, (web,), **ILL)), plan.Leave(web), "while a store is missing"),
        (
            _with(_with(REST, WEBS, **ILL), WEBS[1:2], signalled_at=REST.now),
            plan.Leave(web),
            "is restarted beside web.2@r1",
        ),
        (crowded, plan.StartReplica(ReplicaId("web", 9, 1), generation), "beside 4 others"),
    ]
    for world, step, said in planted:
        with pytest.raises(Broken, match=said):
            check(world, step, {r.id for r in world.observed.replicas})
