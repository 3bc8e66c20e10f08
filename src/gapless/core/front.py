"""The front that stacks of one machine share: what one of them does about it.

A stack takes its host names first, so that a name that another one has ends the change before
anything is touched. It gives them up last, when nothing of it is behind the edge any more: until
then the edge answers for it. Whoever finds the front missing starts it, with everybody's names.
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
class Leave(FrontStep):
    """Give the names up. The front ends with the last stack."""

    @property
    def text(self) -> str:
        return "front leave"


def advance(agenda: plan.Agenda, world: World, *, edge_wanted: bool) -> None:
    """What is due now. Without an edge, and without a claim of before: nothing ever."""
    front, wish = world.observed.front, world.claim
    if not edge_wanted or wish is None:
        if front.claim is not None and (edge_wanted or not world.observed.replicas):
            cause = "the stack shares no address" if edge_wanted else "nothing is behind it"
            agenda.do(Leave(cause=cause))
        return
    if front.claim != wish:
        if front.claim is not None or _edge_lets_go(world):
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
    front, wish = world.observed.front, world.claim
    if wish is None:
        return front.claim is None
    return front.claim == wish and front.state == "running" and front.entered and not front.stale


def holds(world: World) -> bool:
    """Whether the stack still has to leave the front."""
    return world.observed.front.claim is not None


def _edge_lets_go(world: World) -> bool:
    """An edge that was not behind the front until now may hold the front's very address."""
    return world.observed.edge.state not in ("running", "starting") or world.edge_ready
