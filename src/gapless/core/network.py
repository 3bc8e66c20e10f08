"""The network of programs that have one of their own: opened before all else, closed after."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import plan
from gapless.core.world import World


@dataclass(frozen=True, slots=True)
class NetworkStep(plan.Step):
    """On the network."""

    @property
    def subject(self) -> str:
        return "network"


@dataclass(frozen=True, slots=True)
class OpenNetwork(NetworkStep):
    """Of the programs that have one of their own; what they ask for listens there, too."""

    @property
    def text(self) -> str:
        return "network open"


@dataclass(frozen=True, slots=True)
class CloseNetwork(NetworkStep):
    @property
    def text(self) -> str:
        return "network close"


def advance(agenda: plan.Agenda, world: World) -> bool:
    """Whether all else has to wait for it: who listens there has to know where that is."""
    seen, desired = world.observed, world.desired
    if not world.bridges:
        return False
    if seen.bridge is None and world.in_force and desired.running:
        agenda.do(OpenNetwork(cause="containers reach the others by it"))
        return True
    if seen.bridge is not None and not desired.running and seen.programless:
        agenda.do(CloseNetwork(cause="down"))
    return False
