"""Stores: made, started before who needs them, told of another table, stopped when unused."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import plan, restart
from gapless.core.world import World
from gapless.observed import Failures


@dataclass(frozen=True, slots=True)
class StoreStep(plan.Step):
    """On one store."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateData(StoreStep):
    @property
    def text(self) -> str:
        return f"{self.name} create"


@dataclass(frozen=True, slots=True)
class StartData(StoreStep):
    @property
    def text(self) -> str:
        return f"{self.name} start"


@dataclass(frozen=True, slots=True)
class StopData(StoreStep):
    @property
    def text(self) -> str:
        return f"{self.name} stop"


@dataclass(frozen=True, slots=True)
class ApplyData(StoreStep):
    """Put changed settings in force, as far as no restart is needed; the rest is told."""

    @property
    def text(self) -> str:
        return f"{self.name} apply settings"


def advance(agenda: plan.Agenda, world: World) -> None:
    """Put on the agenda what each is to do now."""
    wanted = _wanted(world)
    for name, node in world.observed.data.items():
        if name in wanted:
            _start(agenda, world, name)
            continue
        unused = node.served and node.state in ("ready", "starting") and _unused(world)
        if unused and agenda.may_stop(name, node.stopping_at):
            agenda.do(StopData(name, cause="nothing uses it"))


def _unused(world: World) -> bool:
    """Whether a store that no stack in force names may stop: nobody is left who could use it."""
    if not world.desired.running:
        jobs = any(run.state == "running" for run in world.observed.jobs)
        return not world.observed.replicas and not jobs
    return world.desired.rollout is None and not any(
        r.generation != world.desired.vector.get(r.id.service) for r in world.observed.replicas
    )


def _wanted(world: World) -> set[str]:
    if not world.desired.running:
        return set()
    return {name for stack in world.in_force for name in stack.data}


def _start(agenda: plan.Agenda, world: World, name: str) -> None:
    node = world.observed.data[name]
    if node.state == "absent":
        agenda.do(CreateData(name, cause="it does not exist yet"))
    elif node.state == "ready" and node.stale and world.desired.rollout is None:
        agenda.do(ApplyData(name, cause="its table has changed"))
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
            agenda.do(StartData(name, cause=node.reason or "the stack needs it"))
