"""The load balancer that is the edge: whether and as what it runs, and what it is told.

Who is in its rotation is decided service by service, with ``plan.Enter`` and ``plan.Leave``.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import certificates, front, plan, record, replica
from gapless.core.world import World
from gapless.model import units
from gapless.model.desired import Hold
from gapless.model.stack import Stack

HOLD_ENDS = 0.25
"""Seconds before the end of a hold in which the edge, by its own clock, may have ended it."""
HEIR_LIMIT = 30.0
"""Seconds in which an edge that was started to take over has done so, or never will."""


@dataclass(frozen=True, slots=True)
class StartEdge(plan.Step):
    @property
    def text(self) -> str:
        return "edge start"


@dataclass(frozen=True, slots=True)
class ReloadEdge(plan.Step):
    """``config``: digest of the wanted configuration."""

    config: str

    @property
    def text(self) -> str:
        return "edge reload"


@dataclass(frozen=True, slots=True)
class ReplaceEdge(plan.Step):
    """Another program takes over from the one that serves; done when it has."""

    config: str

    @property
    def text(self) -> str:
        return "edge replace"


@dataclass(frozen=True, slots=True)
class StopEdge(plan.Step):
    @property
    def text(self) -> str:
        return "edge stop"


@dataclass(frozen=True, slots=True)
class SetMaintenance(plan.Step):
    on: bool

    @property
    def text(self) -> str:
        return f"edge maintenance {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True)
class SetHold(plan.Step):
    """Let requests wait at the edge, or let those go that do (None)."""

    hold: Hold | None

    @property
    def text(self) -> str:
        if self.hold is None:
            return "edge release requests"
        return f"edge hold requests for {units.format_duration(self.hold.seconds)}"


@dataclass(frozen=True, slots=True)
class Await(plan.Step):
    """While all replicas of a service are gone requests wait (``begin``), or do no more (``end``).

    Who waits for one of the latter is told at once that nobody comes.
    """

    begin: tuple[str, ...] = ()
    end: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        begun = f"requests wait for {', '.join(self.begin)}" if self.begin else ""
        ended = f"nobody wait for {', '.join(self.end)}" if self.end else ""
        return f"edge let {' and '.join(filter(None, (begun, ended)))}"


@dataclass(frozen=True, slots=True)
class RemoveServer(plan.Step):
    """Drop a server of the edge that belongs to no replica."""

    backend: str
    name: str

    @property
    def text(self) -> str:
        return f"edge drop {self.name}"


def advance(agenda: plan.Agenda, world: World) -> None:
    """Put on the agenda what it is to do now."""
    hold = world.desired.hold
    if hold is not None and _over(hold, world):
        agenda.do(record.EndHold(hold.until, cause="its time is over"))
    _run(agenda, world)
    _await(agenda, world)


def succeeds(agenda: plan.Agenda, world: World) -> bool:
    """Whether all else has to wait for another edge, on its way: it began with what this one had
    been told by then, and would not know of more."""
    since = world.observed.edge.heir_since
    if since is None or not wanted(world) or world.now >= since + HEIR_LIMIT:
        return False
    agenda.wait("another edge takes over", since + HEIR_LIMIT)
    return True


def wanted(world: World) -> bool:
    """Whether any service in force, or about to be, is an HTTP service."""
    return world.desired.running and any(
        service.http for stack in world.in_force for service in stack.services.values()
    )


def _run(agenda: plan.Agenda, world: World) -> None:
    edge = world.observed.edge
    if not wanted(world):
        unused = edge.state in ("running", "starting") and not world.observed.replicas
        if unused and front.holds(world):
            return  # it answers until nobody is sent to it any more
        if unused and agenda.may_stop("edge", edge.stopping_at):
            agenda.do(StopEdge(cause="nothing is behind it"))
        return
    complete = certificates.prepare(agenda, world, world.in_force)
    if edge.state in ("absent", "dead"):
        cause = "the stack needs it" if edge.state == "absent" else "it has died"
        if complete:
            agenda.do(StartEdge(cause=cause))
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


def _renewal(world: World) -> ReloadEdge | ReplaceEdge:
    """How what runs comes to the wanted configuration: by itself, or by another one's serving."""
    edge, form, config = world.observed.edge, world.edge_form, world.edge_config
    if edge.heir_since is not None:
        return ReplaceEdge(config, cause="who was to take over has not")
    if form.image not in ("", edge.form.image):
        return ReplaceEdge(config, cause="its image changes")
    if lacks := sorted(form.low - edge.form.low):
        return ReplaceEdge(config, cause=f"it may not listen at {', '.join(lacks)} by itself")
    return ReloadEdge(config, cause="its configuration changes")


def _shown(world: World) -> list[Stack]:
    """The stack whose routes and certificates the edge is to have now."""
    desired, rollout = world.desired, world.desired.rollout
    number = desired.stack
    if rollout is not None and (world.edge_situation == "switched" or number not in world.stacks):
        number = rollout.stack
    return [world.stacks[number]] if number is not None and number in world.stacks else []


def _steer(agenda: plan.Agenda, world: World) -> None:
    """What a running edge is told."""
    edge = world.observed.edge
    if edge.maintenance != world.desired.maintenance:
        agenda.do(SetMaintenance(world.desired.maintenance, cause="by hand"))
    _hold(agenda, world)
    known = {r.server.name for r in world.observed.replicas if r.server is not None}
    for server in edge.servers.values():
        if server.name not in known:
            agenda.do(RemoveServer(server.backend, server.name, cause="no replica has it"))


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
        agenda.do(SetHold(hold, cause="by hand"))


def _await(agenda: plan.Agenda, world: World) -> None:
    """Requests wait for services that have been ready and are to have replicas; for no others."""
    edge = world.observed.edge
    if edge.state != "running":
        return
    serving = (r.id.service for r in world.observed.replicas if r.ready and replica.in_edge(r))
    wanted = {name for name in (*edge.awaited, *serving) if world.wants(name)}
    if end := sorted(edge.awaited - wanted):
        agenda.do(Await(end=tuple(end), cause="no replica is to come"))
    if world.edge_ready and (begin := sorted(wanted - edge.awaited)):
        agenda.do(Await(begin=tuple(begin), cause="it is to have replicas again"))
