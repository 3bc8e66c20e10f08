"""Which replica is ill, why, and whether it may be replaced now.

====================  =====================  ===================================================
ill because           still serves?          what is done
====================  =====================  ===================================================
it stands still, 3 s  no, out of the edge    killed at once (it hears no TERM), successor at once:
                      since it was seen      as good as crashed
liveness fails        perhaps                out of the edge, TERM, successor at once; guarded
over limits.memory    yes                    successor first, then it is drained
due to be recycled    yes                    successor first, at full strength only
====================  =====================  ===================================================

Invariants: replacing one that serves never takes the service below its count; one guarded restart
of a service at a time; and no restart, guarded or not, on account of what replicas share: liveness
that fails while a declared store is down restarts nobody, nor, within ``PATIENCE``, does liveness
that fails while fewer than half of the others are ready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gapless.core import replica, restart
from gapless.core.world import World
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import Replica

LEAST_HEADROOM = 64 * 1024**2
"""Bytes between a memory limit and the wall above it."""
PATIENCE = 60.0
"""Seconds that liveness must have failed for to restart one while most others are not ready."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is to be done about the ill of one service, by id: why."""

    condemned: Mapping[ReplicaId, str] = field(default_factory=dict)
    """They go now: they serve nobody, or must not."""
    renewed: Mapping[ReplicaId, str] = field(default_factory=dict)
    """They serve until their successor does."""
    passed: frozenset[ReplicaId] = frozenset()
    """Elders of those that are renewed: on their way out, and not to be called back for them."""

    def reason(self, id: ReplicaId) -> str:
        """Why that one is ill; "" when it is not."""
        return self.condemned.get(id) or self.renewed.get(id, "")

    def __contains__(self, id: object) -> bool:
        return id in self.condemned or id in self.renewed or id in self.passed


@dataclass(frozen=True, slots=True)
class _Ward:
    """One service in steady state. ``members``: whom it would keep, ill or not, by ordinal."""

    world: World
    name: str
    service: Service
    members: Mapping[int, Replica]
    everyone: Sequence[Replica]
    count: int

    @property
    def booting(self) -> bool:
        """Whether one is on its way to its first work."""
        return any(replica.usable(r) and self._new(r) for r in self.everyone)

    def _new(self, found: Replica) -> bool:
        never_in = self.service.http and found.entered_at is None and found.left_at is None
        return never_in or not found.ever_ready

    def successor(self, found: Replica) -> Replica | None:
        """The living replica that was started into its slot after it."""
        later = (
            r
            for r in self.everyone
            if replica.usable(r)
            and (r.id.ordinal, r.generation) == (found.id.ordinal, found.generation)
            and r.id.attempt > found.id.attempt
        )
        return next(later, None)


def treat(
    world: World, name: str, service: Service, members: Mapping[int, Replica], count: int
) -> Treatment:
    """Judge a service in steady state. ``members``: whom it would keep, ill or not, by ordinal."""
    ward = _Ward(world, name, service, members, world.of(name), count)
    condemned = {
        found.id: _standing(found, world.now)
        for found in ward.everyone
        if found.alive and replica.hung(found, world.now)
    }
    condemned |= _lifeless(ward)
    renewed = _overdue(ward, condemned)
    passed = frozenset(
        elder.id
        for id in renewed
        for elder in ward.everyone
        if (elder.id.ordinal, elder.id.release) == (id.ordinal, id.release)
        and elder.id.attempt < id.attempt
    )
    return Treatment(condemned, renewed, passed)


def exclusive(service: Service) -> bool:
    """Whether two of it can never run side by side, so that a successor waits for an end."""
    return service.singleton or service.port is not None


def patience(found: Replica, service: Service | None) -> float | None:
    """Seconds that one condemned may take to end what it has in flight; None: as ever.

    Behind the edge it has its grace for that, once it got TERM; others take no longer.
    """
    if found.live_failed_since is None or service is None:
        return None
    return 0.0 if service.http else service.grace


def _standing(found: Replica, now: float) -> str:
    since = found.frozen_since if found.frozen_since is not None else now
    return f"{found.id} has stood still for {now - since:.0f} s"


# -- liveness -----------------------------------------------------------------------------


def _lifeless(ward: _Ward) -> dict[ReplicaId, str]:
    """Those whose liveness fails and who are on their way out, or are the next to go."""
    failing = [r for r in ward.everyone if r.alive and r.live_failed_since is not None]
    going = [r for r in failing if not replica.usable(r) or ward.successor(r) is not None]
    chosen = going
    if not going and (waiting := [r for r in failing if r in ward.members.values()]):
        first = min(waiting, key=lambda r: (r.live_failed_since or 0.0, r.id.ordinal))
        chosen = [first] if _may_restart(ward, first) else []
    return {found.id: f"{found.id} is not live ({found.live})" for found in chosen}


def _may_restart(ward: _Ward, found: Replica) -> bool:
    rollout = ward.world.desired.rollout
    if rollout is not None and rollout.phase == "undoing":
        return False
    if ward.world.missing_stores(ward.name) or ward.booting:
        return False
    others = [r for r in ward.members.values() if r.id != found.id]
    if 2 * sum(r.ready for r in others) >= ward.count - 1:
        return True
    since = found.live_failed_since
    return since is not None and ward.world.now - since >= PATIENCE


# -- limits and recycling -----------------------------------------------------------------


def _overdue(ward: _Ward, condemned: Mapping[ReplicaId, str]) -> dict[ReplicaId, str]:
    """Those whose renewal is under way, else the next one, if one may be."""
    now = ward.world.now
    ill = {
        found.id: (found, why)
        for found in ward.members.values()
        if found.id not in condemned and (why := overdue(found, ward.service, now))
    }
    begun = {id: why for id, (found, why) in ill.items() if ward.successor(found) is not None}
    if begun or not ill or condemned or not _may_renew(ward):
        return begun
    strong = len(ward.members) == ward.count and all(
        replica.serving(r, ward.service) for r in ward.members.values()
    )
    may = [found for found, _ in ill.values() if strong or over_memory(found, ward.service)]
    if not may:
        return {}
    first = min(may, key=lambda r: (not over_memory(r, ward.service), r.started_at, r.id.ordinal))
    return {first.id: ill[first.id][1]}


def _may_renew(ward: _Ward) -> bool:
    """Never beside a rollout or a boot, nor when a successor could not get in."""
    if ward.world.desired.rollout is not None or ward.booting:
        return False
    if ward.world.missing_stores(ward.name):
        return False
    return ward.world.edge_ready or not ward.service.http


def over_memory(found: Replica, service: Service) -> bool:
    """Whether its last samples of memory all lie above its limit."""
    limit = service.limits.memory
    return limit is not None and found.memory_low is not None and found.memory_low > limit


def wall(limit: int | None) -> int | None:
    """Bytes at which the kernel may end a replica: far enough above its limit (bytes) that one
    that grows slowly is replaced before it gets there.
    """
    return None if limit is None else limit + max(limit // 4, LEAST_HEADROOM)


def overdue(found: Replica, service: Service, now: float) -> str:
    """Why one that serves is to be replaced; "" when it is not."""
    if not found.ever_ready:
        return ""
    if over_memory(found, service):
        return f"{found.id} is over its memory limit ({_mib(found.memory)} of {_limit(service)})"
    recycle = service.recycle
    if recycle is None:
        return ""
    more = 1 + restart.spread(str(found.id))
    age = now - found.started_at
    if recycle.age is not None and age >= recycle.age * more:
        return f"{found.id} is {age:.0f} s old"
    served = found.server.served if found.server is not None else 0
    if recycle.requests is not None and served >= recycle.requests * more:
        return f"{found.id} has answered {served} requests"
    return ""


def _mib(amount: int | None) -> str:
    return f"{(amount or 0) / 1024**2:.0f}M"


def _limit(service: Service) -> str:
    return _mib(service.limits.memory)
