"""Services that follow their load: from a recommendation to the count that is due.

Invariants: never fewer replicas than the service's floor nor more than its ceiling; nothing moves
while a rollout or maintenance is under way or a hand has set the count. The count is durable
before anything is done about it, so a controller's death does not shrink a fleet.
"""

from __future__ import annotations

from gapless.core import plan, record
from gapless.core.autoscale import deciding
from gapless.core.world import World

BY_HAND = "set by hand"
"""The reason to hold during which the load is measured all the same."""
LIMITS = {
    "": "",
    "fewest": "; no fewer are allowed",
    "most": "; no more are allowed",
    "up": "; no faster than the policy allows",
    "down": "; no faster than the policy allows",
}


def follow(agenda: plan.Agenda, world: World) -> frozenset[str]:
    """Put the changes of counts on the agenda that the loads ask for; whose counts change."""
    changing = set()
    for name, load in world.observed.loads.items():
        service = world.service(name, world.desired.vector.get(name))
        if service is None or service.scale is None or held(world, name):
            continue
        count = world.count(name, world.desired.vector[name])
        verdict = deciding.decide(
            load,
            count,
            service.bounds(world.observed.cpus),
            deciding.of(service.scale),
            world.now,
        )
        if verdict.count != count:
            cause = f"from {count}: {verdict.reason}{LIMITS[verdict.limit]}"
            agenda.do(record.Rescale(name, verdict.count, cause=cause))
            changing.add(name)
    return frozenset(changing)


def held(world: World, name: str) -> str:
    """Why the count of a service does not move now; "" when it may."""
    desired = world.desired
    if not desired.running or name in desired.stopped:
        return "it is stopped"
    if desired.rollout is not None:
        return f"{desired.rollout.kind} {desired.rollout.id} is under way"
    if desired.maintenance:
        return "maintenance is on"
    if desired.hold is not None:
        return "requests are held"
    if name in desired.scale:
        return BY_HAND
    return ""
