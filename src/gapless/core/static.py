"""The server of files, behind the edge: up before it is asked, down when nobody asks."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import plan
from gapless.core.world import World


@dataclass(frozen=True, slots=True)
class StaticStep(plan.Step):
    """On the server of files."""

    @property
    def subject(self) -> str:
        return "static"


@dataclass(frozen=True, slots=True)
class StartStatic(StaticStep):
    """Of the server of files; done when it serves."""

    @property
    def text(self) -> str:
        return "static start"


@dataclass(frozen=True, slots=True)
class ReloadStatic(StaticStep):
    """Other folders, or another order of them; done when they are served."""

    config: str

    @property
    def text(self) -> str:
        return "static reload"


@dataclass(frozen=True, slots=True)
class TellFiles(StaticStep):
    """Tell the edge which files are served: what it has in memory of others is no more sent."""

    config: str

    @property
    def text(self) -> str:
        return "static tell edge"


@dataclass(frozen=True, slots=True)
class StopStatic(StaticStep):
    @property
    def text(self) -> str:
        return "static stop"


def advance(agenda: plan.Agenda, world: World) -> None:
    """Put on the agenda what it is to do now."""
    seen, edge = world.observed.static, world.observed.edge
    if not world.static_config:
        routed = edge.state in ("running", "starting")
        routed &= not (world.desired.running and edge.config == world.edge_config)
        unused = seen.state in ("running", "starting") and not routed
        if unused and agenda.may_stop("static", seen.stopping_at):
            agenda.do(StopStatic(cause="no files are served"))
    elif seen.state in ("absent", "dead"):
        cause = "the stack needs it" if seen.state == "absent" else "it has died"
        agenda.do(StartStatic(cause=cause))
    elif seen.state == "starting":
        agenda.wait("the server of files answers")
    elif seen.config != world.static_config:
        agenda.do(ReloadStatic(world.static_config, cause="its folders change"))
    elif not world.static_told:
        agenda.do(TellFiles(world.static_config, cause="other files are served"))
