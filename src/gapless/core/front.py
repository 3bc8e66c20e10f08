"""The front that stacks of one machine share: what one of them does about it.

A stack takes its host names first, so that a name that another one has ends the change before
anything is touched. It gives them up last, when nothing of it is behind the edge any more: until
then the edge answers for it. Where an address is the edge's own before or after, there is a time in
which both have it, and either leads to the stack. Whoever finds the front missing starts it, with
everybody's names.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import plan
from gapless.core.world import World
from gapless.model.front import Claim


@dataclass(frozen=True, slots=True)
class FrontStep(plan.Step):
    """An act on the front."""

    @property
    def subject(self) -> str:
        return "front"


@dataclass(frozen=True, slots=True)
class Join(FrontStep):
    """Make the claim durable, if nobody else has what it names, and let the front know."""

    claim: Claim

    @property
    def text(self) -> str:
        return f"front take {', '.join(self.claim.hosts)}"


@dataclass(frozen=True, slots=True)
class Start(FrontStep):
    @property
    def text(self) -> str:
        return "front start"


@dataclass(frozen=True, slots=True)
class Reload(FrontStep):
    @property
    def text(self) -> str:
        return "front reload"


@dataclass(frozen=True, slots=True)
class Withdraw(FrontStep):
    """Have the front give up the stack's addresses, and finish what it has."""

    @property
    def text(self) -> str:
        return "front withdraw"


@dataclass(frozen=True, slots=True)
class Leave(FrontStep):
    """Give the names up. The front ends with the last stack."""

    @property
    def text(self) -> str:
        return "front leave"


def advance(agenda: plan.Agenda, world: World, *, edge_wanted: bool) -> None:
    """What is due now. Without an edge, and without a claim of before: nothing ever."""
    front, wish = world.observed.front, world.claim
    if not edge_wanted:
        if front.claim is not None and not world.observed.replicas:
            agenda.do(Leave(cause="nothing is behind it"))
        return
    if wish is None:
        if front.claim is not None:
            _part(agenda, world, front.claim)
        return
    if front.claim != wish:
        if front.claim is not None or _edge_is_behind(world):
            agenda.do(Join(wish, cause="the stack shares its address"))
    elif front.state == "starting":
        agenda.wait("the front starts")
    elif front.state in ("absent", "dead"):
        cause = "a stack needs it" if front.state == "absent" else "it has died"
        agenda.do(Start(cause=cause))
    elif front.stale:
        agenda.do(Reload(cause=front.stale))
    elif not front.entered:
        agenda.do(Join(wish, cause="the front does not know it"))


def ready(world: World) -> bool:
    """Whether the world finds the stack by the names that are wanted now."""
    if world.claim is not None:
        return world.behind_front
    front = world.observed.front
    return front.claim is None or not (front.claim.addresses or front.stale)


def holds(world: World) -> bool:
    """Whether the stack still has to leave the front."""
    return world.observed.front.claim is not None


def _part(agenda: plan.Agenda, world: World, claim: Claim) -> None:
    """The stack has its addresses for itself again: first both have them, then its edge alone."""
    front = world.observed.front
    cause = "the stack shares no address"
    if front.state in ("absent", "dead"):
        agenda.do(Leave(cause=cause))
    elif front.state == "starting":
        agenda.wait("the front starts")
    elif claim.addresses:
        if world.edge_ready:
            agenda.do(Withdraw(cause=cause))
    elif front.stale:
        agenda.do(Reload(cause=front.stale))
    elif not front.finishing:
        agenda.do(Leave(cause=cause))


def _edge_is_behind(world: World) -> bool:
    """An edge that has the front's address until now is reached through the front, too."""
    return world.observed.edge.state not in ("running", "starting") or world.edge_ready
