"""The whole decision: what is wanted against what was found, to the steps that are due now.

Everything that changes the world comes out of here: up, down, deploy, rollback, scale, restart,
maintenance and healing differ only in the record they leave.
"""

from __future__ import annotations

from gapless.core import (
    certificates,
    following,
    front,
    goodbye,
    plan,
    replica,
    restart,
    rollout,
    schedule,
)
from gapless.core import service as services
from gapless.core.world import World
from gapless.model.desired import Hold
from gapless.model.stack import Stack
from gapless.observed import Failures

HOLD_ENDS = 0.25
"""Seconds before the end of a hold in which the edge, by its own clock, may have ended it."""
HEIR_LIMIT = 30.0
"""Seconds in which an edge that was started to take over has done so, or never will."""
TELL_AGAIN = 30.0
"""Seconds after which a store or the edge is told again to stop."""


def reconcile(world: World) -> plan.Decision:
    """The steps due now (independent of each other), when to look again, and what is awaited."""
    agenda = plan.Agenda(world.now)
    if _network(agenda, world) or _succession(agenda, world):
        return agenda.decision()
    front.advance(agenda, world, edge_wanted=wants_edge(world))
    hold = world.desired.hold
    if hold is not None and _over(hold, world):
        agenda.do(plan.EndHold(hold.until, cause="its time is over"))
    _edge(agenda, world)
    _await(agenda, world)
    _static(agenda, world)
    _data(agenda, world)
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


def _network(agenda: plan.Agenda, world: World) -> bool:
    """Whether all else has to wait for it: who listens there has to know where that is."""
    seen, desired = world.observed, world.desired
    if not world.bridges:
        return False
    if seen.bridge is None and _in_force(world) and desired.running:
        agenda.do(plan.OpenNetwork(cause="containers reach the others by it"))
        return True
    if seen.bridge is not None and not desired.running and seen.programless:
        agenda.do(plan.CloseNetwork(cause="down"))
    return False


def _succession(agenda: plan.Agenda, world: World) -> bool:
    """Whether all else has to wait for another edge, on its way: it began with what this one had
    been told by then, and would not know of more."""
    since = world.observed.edge.heir_since
    if since is None or not wants_edge(world) or world.now >= since + HEIR_LIMIT:
        return False
    agenda.wait("another edge takes over", since + HEIR_LIMIT)
    return True


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


def wants_edge(world: World) -> bool:
    """Whether any service in force, or about to be, is an HTTP service."""
    return world.desired.running and any(
        service.http for stack in _in_force(world) for service in stack.services.values()
    )


def _in_force(world: World) -> list[Stack]:
    """The stack whose edge and stores apply, and the one of the rollout under way."""
    desired = world.desired
    releases = {desired.stack} | ({desired.rollout.stack} if desired.rollout else set())
    return [world.stacks[n] for n in releases if n is not None and n in world.stacks]


def _shown(world: World) -> list[Stack]:
    """The stack whose routes and certificates the edge is to have now."""
    desired, rollout = world.desired, world.desired.rollout
    number = desired.stack
    if rollout is not None and (world.edge_situation == "switched" or number not in world.stacks):
        number = rollout.stack
    return [world.stacks[number]] if number is not None and number in world.stacks else []


def _edge(agenda: plan.Agenda, world: World) -> None:
    edge = world.observed.edge
    if not wants_edge(world):
        unused = edge.state in ("running", "starting") and not world.observed.replicas
        if unused and front.holds(world):
            return  # it answers until nobody is sent to it any more
        if unused and _may_stop(agenda, "edge", edge.stopping_at):
            agenda.do(plan.StopEdge(cause="nothing is behind it"))
        return
    complete = certificates.prepare(agenda, world, _in_force(world))
    if edge.state in ("absent", "dead"):
        cause = "the stack needs it" if edge.state == "absent" else "it has died"
        if complete:
            agenda.do(plan.StartEdge(cause=cause))
        return
    if edge.state == "starting":
        agenda.wait("the edge starts")
        return
    if edge.config != world.edge_config or edge.heir_since is not None:
        if complete:
            agenda.do(_renewal(world))
        return
    certificates.tend(agenda, world, _shown(world))
    _steer(agenda, world)


def _renewal(world: World) -> plan.ReloadEdge | plan.ReplaceEdge:
    """How what runs comes to the wanted configuration: by itself, or by another one's serving."""
    edge, form, config = world.observed.edge, world.edge_form, world.edge_config
    if edge.heir_since is not None:
        return plan.ReplaceEdge(config, cause="who was to take over has not")
    if form.image not in ("", edge.form.image):
        return plan.ReplaceEdge(config, cause="its image changes")
    if lacks := sorted(form.low - edge.form.low):
        return plan.ReplaceEdge(config, cause=f"it may not listen at {', '.join(lacks)} by itself")
    return plan.ReloadEdge(config, cause="its configuration changes")


def _steer(agenda: plan.Agenda, world: World) -> None:
    """What a running edge is told."""
    edge = world.observed.edge
    if edge.maintenance != world.desired.maintenance:
        agenda.do(plan.SetMaintenance(world.desired.maintenance, cause="by hand"))
    _hold(agenda, world)
    known = {r.server.name for r in world.observed.replicas if r.server is not None}
    for server in edge.servers.values():
        if server.name not in known:
            agenda.do(plan.RemoveServer(server.backend, server.name, cause="no replica has it"))


def _await(agenda: plan.Agenda, world: World) -> None:
    """Requests wait for services that have been ready and are to have replicas; for no others."""
    edge = world.observed.edge
    if edge.state != "running":
        return
    serving = (r.id.service for r in world.observed.replicas if r.ready and replica.in_edge(r))
    wanted = {name for name in (*edge.awaited, *serving) if world.wants(name)}
    if end := sorted(edge.awaited - wanted):
        agenda.do(plan.Await(end=tuple(end), cause="no replica is to come"))
    if world.edge_ready and (begin := sorted(wanted - edge.awaited)):
        agenda.do(plan.Await(begin=tuple(begin), cause="it is to have replicas again"))


def _static(agenda: plan.Agenda, world: World) -> None:
    """The server of files, behind the edge: up before it is asked, down when nobody asks."""
    seen, edge = world.observed.static, world.observed.edge
    if not world.static_config:
        routed = edge.state in ("running", "starting")
        routed &= not (world.desired.running and edge.config == world.edge_config)
        unused = seen.state in ("running", "starting") and not routed
        if unused and _may_stop(agenda, "static", seen.stopping_at):
            agenda.do(plan.StopStatic(cause="no files are served"))
    elif seen.state in ("absent", "dead"):
        cause = "the stack needs it" if seen.state == "absent" else "it has died"
        agenda.do(plan.StartStatic(cause=cause))
    elif seen.state == "starting":
        agenda.wait("the server of files answers")
    elif seen.config != world.static_config:
        agenda.do(plan.ReloadStatic(world.static_config, cause="its folders change"))
    elif not world.static_told:
        agenda.do(plan.TellFiles(world.static_config, cause="other files are served"))


def _over(hold: Hold, world: World, soon: float = 0.0) -> bool:
    """Whether its time is over, or will be so ``soon``, by either clock; a reboot ends it, too."""
    if hold.until <= world.wall + soon:
        return True
    return hold.begun is not None and not 0 <= world.now - hold.begun < hold.seconds - soon


def _hold(agenda: plan.Agenda, world: World) -> None:
    """The edge ends a hold by itself; all that is left to do then is to forget it."""
    hold, held = world.desired.hold, world.observed.edge.held_until
    if hold is not None and _over(hold, world, HOLD_ENDS):
        return  # begun anew for its last moment it would only flicker
    if held != (None if hold is None else hold.until):
        agenda.do(plan.SetHold(hold, cause="by hand"))


def _data(agenda: plan.Agenda, world: World) -> None:
    wanted = _wanted_stores(world)
    for name, node in world.observed.data.items():
        if name in wanted:
            _start_store(agenda, world, name)
            continue
        unused = node.served and node.state in ("ready", "starting") and _unused(world)
        if unused and _may_stop(agenda, name, node.stopping_at):
            agenda.do(plan.StopData(name, cause="nothing uses it"))


def _may_stop(agenda: plan.Agenda, name: str, told_at: float | None) -> bool:
    """Whether to tell it now: once, and again only when it seems not to have heard."""
    if told_at is None or agenda.now >= told_at + TELL_AGAIN:
        return True
    agenda.wait(f"{name} stops", told_at + TELL_AGAIN)
    return False


def _unused(world: World) -> bool:
    """Whether a store that no stack in force names may stop: nobody is left who could use it."""
    if not world.desired.running:
        jobs = any(run.state == "running" for run in world.observed.jobs)
        return not world.observed.replicas and not jobs
    return world.desired.rollout is None and not any(
        r.generation != world.desired.vector.get(r.id.service) for r in world.observed.replicas
    )


def _wanted_stores(world: World) -> set[str]:
    if not world.desired.running:
        return set()
    return {name for stack in _in_force(world) for name in stack.data}


def _start_store(agenda: plan.Agenda, world: World, name: str) -> None:
    node = world.observed.data[name]
    if node.state == "absent":
        agenda.do(plan.CreateData(name, cause="it does not exist yet"))
    elif node.state == "ready" and node.stale and world.desired.rollout is None:
        agenda.do(plan.ApplyData(name, cause="its table has changed"))
    elif node.state == "starting":
        agenda.wait(f"{name} starts")
    elif node.state in ("stopped", "failed"):
        failures = None
        if node.failures and node.ended_at is not None:
            failures = Failures(node.failures, node.ended_at, node.reason)
        at = restart.not_before((name, 0), failures)
        if at > world.now:
            agenda.wait(f"{name} backs off: {node.reason}", at)
        else:
            agenda.do(plan.StartData(name, cause=node.reason or "the stack needs it"))
