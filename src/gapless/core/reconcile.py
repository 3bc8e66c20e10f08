"""The whole decision: what is wanted against what was found, to the steps that are due now.

Everything that changes the world comes out of here: up, down, deploy, rollback, scale, restart,
maintenance and healing differ only in the record they leave.
"""

from __future__ import annotations

from gapless.core import (
    balancer,
    following,
    front,
    goodbye,
    network,
    plan,
    rollout,
    schedule,
    static,
    stores,
)
from gapless.core import service as services
from gapless.core.world import World


def reconcile(world: World) -> plan.Decision:
    """The steps due now (independent of each other), when to look again, and what is awaited."""
    agenda = plan.Agenda(world.now)
    if network.advance(agenda, world) or balancer.succeeds(agenda, world):
        return agenda.decision()
    front.advance(agenda, world, edge_wanted=balancer.wanted(world))
    balancer.advance(agenda, world)
    static.advance(agenda, world)
    stores.advance(agenda, world)
    schedule.advance(agenda, world)
    desired = world.desired
    if not desired.running:
        for name in world.service_names({}):
            services.steady(agenda, world, name, None, "down")
    elif desired.rollout is not None:
        rollout.advance(agenda, world, desired.rollout)
    else:
        changing = following.follow(agenda, world)
        for name in world.service_names(desired.vector):
            if name in changing:
                continue  # nobody leaves or starts for a count that is not wanted any more
            services.steady(agenda, world, name, desired.vector.get(name), _cause(world, name))
    goodbye.arrange(agenda, world)
    return agenda.decision()


def _cause(world: World, name: str) -> str:
    desired = world.desired
    if name in desired.stopped:
        return "stopped by hand"
    if name not in desired.vector:
        return "no longer in the stack"
    if name in desired.scale:
        return f"scaled to {desired.scale[name]}"
    if name in world.observed.loads and name in desired.auto:
        return f"{name} follows its load: {world.count(name, desired.vector[name])}"
    return f"{name} is {desired.vector[name]}"
