"""One service in steady state: so many replicas of one generation, and nothing else.

It also is how a rollout is undone (steady at the base) and how its old replicas go after the
commit (steady at the target): there is no other code for either.

Invariants: serving replicas never fall below the count on account of a step here; a singleton
starts only when every other replica of it has been cleared away, which is done only once nothing
that it started is left: a dead leader's children would go on with its work.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from gapless.core import drain, heal, plan, replica, restart
from gapless.core.world import DOWN_DRAIN, World
from gapless.model.desired import Generation
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import Replica

LEAST_BOOTS = 4
"""So many replicas of a service may boot at once, however few cores there are."""


def steady(
    agenda: plan.Agenda, world: World, name: str, generation: Generation | None, cause: str
) -> None:
    """Put on the agenda what brings ``name`` to its count at ``generation`` (None: to nothing)."""
    service = world.service(name, generation)
    count = world.count(name, generation)
    replicas = world.of(name)
    kept = keep(world, replicas, generation, count)
    if service is None or generation is None or count == 0:
        _all_out(agenda, world, replicas, cause)
        return
    treatment = heal.treat(world, name, service, kept, count)
    if treatment.condemned or treatment.renewed:
        kept = keep(world, replicas, generation, count, without=treatment)
    surplus = [r for r in replicas if kept.get(r.id.ordinal) is not r]
    surplus = _under_treatment(agenda, world, treatment, kept, surplus)
    step_out(agenda, kept.values())
    if service.singleton:
        for found in surplus:
            drain.retire(agenda, found, world.own_service(found), cause)
    if not _awaits_an_end(agenda, service, replicas, kept, treatment):
        _fill_slots(agenda, world, name, generation, kept, treatment, cause)
    if service.http and service.switch == "atomic" and any(map(replica.in_edge, surplus)):
        flip(agenda, world, list(kept.values()), surplus, count, cause)
    else:
        enter_ready(agenda, world, service, kept.values())
    if not service.singleton:
        floor = _floor(world, name, count, kept)
        _thin_out(agenda, world, service, surplus, floor, treatment, cause)


def _awaits_an_end(
    agenda: plan.Agenda,
    service: Service,
    replicas: Sequence[Replica],
    kept: Mapping[int, Replica],
    treatment: heal.Treatment,
) -> bool:
    """Whether a successor waits for its predecessor's end: of a singleton any other that is not
    cleared away, at a fixed port one that is on its way out.
    """
    if kept or not heal.exclusive(service):
        return False
    others = list(replicas)
    if not service.singleton:
        others = [r for r in others if r.alive]
        others = [r for r in others if not replica.usable(r) or r.id in treatment]
    for found in others:
        agenda.wait(f"{found.id} ends before its successor starts")
    return bool(others)


def _under_treatment(
    agenda: plan.Agenda,
    world: World,
    treatment: heal.Treatment,
    kept: Mapping[int, Replica],
    surplus: Sequence[Replica],
) -> list[Replica]:
    """See to the ill among the surplus; returns those that are left to be thinned out."""
    left = []
    for found in surplus:
        own = world.own_service(found)
        successor = kept.get(found.id.ordinal)
        reason = treatment.reason(found.id)
        if not reason:
            left.append(found)
        elif found.id in treatment.condemned or (own is not None and heal.exclusive(own)):
            drain.retire(agenda, found, own, reason, drain=heal.patience(found, own))
        elif successor is not None and own is not None and replica.serving(successor, own):
            left.append(found)
    return left


def _fill_slots(
    agenda: plan.Agenda,
    world: World,
    name: str,
    generation: Generation,
    kept: Mapping[int, Replica],
    treatment: heal.Treatment,
    cause: str,
) -> None:
    """Start what is missing, the cause of each slot with it, few at a time."""
    missing = [n for n in range(1, world.count(name, generation) + 1) if n not in kept]
    if not missing:
        return
    before = {
        r.id.ordinal: treatment.reason(r.id) or _end(r)
        for r in world.of(name)
        if r.generation == generation
    }
    booting = sum(replica.usable(r) and not r.ever_ready for r in world.of(name))
    room = max(0, boots(world) - booting)
    # Those that were there first: what is lost comes before what is new.
    for ordinal in sorted(missing, key=lambda n: (not before.get(n), n))[:room]:
        fill(agenda, world, name, generation, kept, [ordinal], before.get(ordinal) or cause)
    if len(missing) > room:
        agenda.wait(f"{len(missing) - room} more of {name} start as others get ready")


def _end(found: Replica) -> str:
    """How one ended that nobody asked to end; "" for others."""
    if found.alive or found.signalled_at is not None or found.killed_at is not None:
        return ""
    return f"{found.id} ended: {found.exit or 'nobody saw how'}"


def boots(world: World) -> int:
    """How many replicas of a service may boot at once, unless a rollout brings them."""
    return max(LEAST_BOOTS, 2 * world.observed.cpus)


def step_out(agenda: plan.Agenda, replicas: Iterable[Replica]) -> None:
    """Those that stand still leave the edge, before it is clear that they will not come back."""
    for found in replicas:
        since = found.frozen_since
        if since is None:
            continue
        if replica.in_edge(found):
            agenda.do(plan.Leave(found.id, cause="it stands still"))
        agenda.wait(f"{found.id} stands still", since + replica.HUNG_AFTER)


def keep(
    world: World,
    replicas: Sequence[Replica],
    generation: Generation | None,
    count: int,
    *,
    without: Container[ReplicaId] = (),
) -> dict[int, Replica]:
    """One usable replica per wanted ordinal: the serving one before others, then the oldest."""
    kept: dict[int, Replica] = {}
    for found in replicas:
        service = world.own_service(found)
        if (
            found.generation != generation
            or not 1 <= found.id.ordinal <= count
            or not replica.usable(found)
            or found.id in without
            or (service is not None and replica.late(found, service, world.now))
        ):
            continue
        rival = kept.get(found.id.ordinal)
        if rival is None or (replica.in_edge(found) and not replica.in_edge(rival)):
            kept[found.id.ordinal] = found
    return kept


def fill(
    agenda: plan.Agenda,
    world: World,
    name: str,
    generation: Generation,
    kept: Mapping[int, Replica],
    ordinals: Sequence[int],
    cause: str,
) -> None:
    """Start what is missing of ``ordinals``, unless a store is missing or a back-off runs."""
    missing = [n for n in ordinals if n not in kept]
    if missing and (stores := world.missing_stores(name)):
        agenda.wait(f"{name} waits for {', '.join(stores)}")
        return
    for ordinal in missing:
        if any(
            r.alive and r.generation == generation and not r.ever_ready
            for r in world.at(name, ordinal)
        ):
            agenda.wait(f"{name}.{ordinal} makes room for its successor")
            continue
        slot = (name, ordinal)
        failures = world.observed.failures.get(slot)
        at = restart.not_before(slot, failures)
        if at > world.now:
            reason = failures.reason if failures else ""
            agenda.wait(f"{name}.{ordinal} backs off: {reason}", at)
            continue
        agenda.do(
            plan.StartReplica(next_id(world, name, ordinal, generation), generation, cause=cause)
        )


def next_id(world: World, name: str, ordinal: int, generation: Generation) -> ReplicaId:
    """An id never used before for that ordinal and release."""
    used = world.observed.attempts.get((name, ordinal, generation.release), 0)
    # What is there counts as well: the notebook may have been lost.
    there = [r.id.attempt for r in world.at(name, ordinal) if r.id.release == generation.release]
    return ReplicaId(name, ordinal, generation.release, max([used, *there]) + 1)


def enter_ready(
    agenda: plan.Agenda, world: World, service: Service, replicas: Iterable[Replica]
) -> None:
    """Those that are ready and not in the edge enter it; the others are awaited."""
    for found in replicas:
        if not found.ready:
            if not found.ever_ready:
                agenda.wait(f"{found.id} gets ready", replica.start_deadline(found, service))
        elif service.http and not replica.in_edge(found):
            if world.edge_ready:
                agenda.do(plan.Enter(found.id, cause="it is ready"))
            else:
                agenda.wait(f"{found.id} waits for the edge")


def flip(
    agenda: plan.Agenda,
    world: World,
    entering: Sequence[Replica],
    leaving: Sequence[Replica],
    count: int,
    cause: str,
) -> None:
    """Atomic switch: once all are ready, all enter and the others leave in one exchange."""
    out = [r for r in leaving if r.alive and replica.in_edge(r)]
    if len(entering) < count or not all(r.ready for r in entering) or not world.edge_ready:
        agenda.wait("all replicas of the other generation get ready")
        for found in entering:
            service = world.own_service(found)
            if service is not None and not found.ever_ready:
                agenda.wait(f"{found.id} gets ready", replica.start_deadline(found, service))
        return
    inside = [r for r in entering if not replica.in_edge(r)]
    if inside or out:
        agenda.do(plan.Flip(tuple(r.id for r in inside), tuple(r.id for r in out), cause=cause))


def _floor(world: World, name: str, count: int, kept: Mapping[int, Replica]) -> int:
    """How many must serve before one may go: the count, less slots that keep failing."""
    failing = sum(
        1
        for n in range(1, count + 1)
        if (name, n) in world.observed.failures and (n not in kept or not kept[n].ever_ready)
    )
    return max(0, count - failing)


def _thin_out(
    agenda: plan.Agenda,
    world: World,
    service: Service,
    surplus: Sequence[Replica],
    floor: int,
    treatment: heal.Treatment,
    cause: str,
) -> None:
    members = world.of(surplus[0].id.service) if surplus else ()
    serving = sum(
        replica.serving(r, world.own_service(r) or service)
        for r in members
        if r.id not in treatment.condemned
    )
    for found in sorted(surplus, key=lambda r: -r.id.ordinal):
        own = world.own_service(found)
        if replica.serving(found, own or service):
            if serving - 1 < floor:
                agenda.wait(f"{found.id} serves until {floor} others do")
                continue
            serving -= 1
        drain.retire(
            agenda, found, own, _why(world, found, own, treatment.reason(found.id) or cause)
        )


def _why(world: World, found: Replica, own: Service | None, cause: str) -> str:
    if own is not None and replica.late(found, own, world.now):
        return f"not ready within {own.start:g} s ({found.probe or 'no answer'})"
    return cause


def _all_out(agenda: plan.Agenda, world: World, replicas: Sequence[Replica], cause: str) -> None:
    for found in replicas:
        own = world.own_service(found)
        limit = None
        if not world.desired.running and own is not None and own.http:
            # A client comes back; a task that is cut may be lost, so workers get all their time.
            limit = min(own.drain, DOWN_DRAIN)
        drain.retire(agenda, found, own, cause, drain=limit)
