"""Worlds for tests: small stacks, first boot, and a world already at rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gapless.core import simulate
from gapless.core.world import EdgeConfigs, World
from gapless.engine import rollouts
from gapless.model.desired import Desired, Rollout
from gapless.model.stack import Stack
from gapless.observed import DataNode, EdgeForm, Load, Measure, Moment, Observed

CHAT: dict[str, Any] = {
    "gapless": 1,
    "name": "chat",
    "service": {
        "web": {"run": "app ${socket}", "replicas": 3, "ready": "/health", "drain": "20s"},
        "api": {"run": "api ${port}", "replicas": 2, "route": False},
        "worker": {"run": "work", "replicas": 2, "drain": "60s"},
        "beat": {"run": "beat", "singleton": True},
    },
    "job": {
        "migrate": {"run": "migrate", "when": "release"},
        "smoke": {"run": "smoke", "when": "after-release"},
    },
    "data": {"db": {"type": "postgres"}},
}
NEEDS = {"web": ("db",), "migrate": ("db",)}


def stack(**changes: Any) -> Stack:
    """The chat stack; ``web={"surge": "all"}`` changes keys of a service."""
    tables = {**CHAT, "service": {n: dict(t) for n, t in CHAT["service"].items()}}
    for name, keys in changes.items():
        tables["service"][name.replace("_", "-")] |= keys
    return Stack.model_validate(tables)


def fresh(table: Stack) -> World:
    """Nothing exists; the first ``up`` has just been asked for."""
    desired = Desired(running=True)
    rollout = rollouts.deploy(desired, 1, table, (), kind="up", park=True)
    return World(
        desired=replace(desired, rollout=rollout, counter=1),
        stacks={1: table},
        observed=Observed(data={"db": DataNode("db", "postgres", "absent")}),
        now=1000.0,
        needs=NEEDS,
        edge_configs=EdgeConfigs("a", "a", "a"),
    )


def run(world: World) -> World:
    """The world after everything that its plan foresees."""
    for batch in simulate.unroll(world).batches:
        for step in batch:
            world = simulate.apply(world, step)
        world = simulate.settle(world)
    return replace(world, now=world.now + 100)


def at_rest(table: Stack) -> World:
    """Release 1 serves and nothing is left to do."""
    return run(fresh(table))


def deploying(world: World, table: Stack, *, park: bool = True, surge_all: bool = False) -> World:
    """A deploy of release 2 has just been asked for."""
    rollout = rollouts.deploy(
        world.desired, 2, table, (), kind="deploy", park=park, surge_all=surge_all
    )
    return wanting(replace(world, stacks={**world.stacks, 2: table}), rollout)


def wanting(world: World, rollout: Rollout) -> World:
    """The world with a rollout in its record."""
    desired = replace(world.desired, rollout=rollout, counter=rollout.id)
    return replace(world, desired=desired)


def loaded(
    world: World, wanted: int | None, measured: float = 0.0, *, earlier: tuple[Moment, ...] = ()
) -> World:
    """The world in which web's load asks for so many; what was changed before stays known."""
    before = world.observed.loads.get("web")
    measure = Measure("rps", 100, measured, wanted, "" if wanted is not None else "no figure")
    changes = before.changes if before is not None else ()
    load = Load(world.now, (measure,), wanted, earlier, changes)
    return replace(world, observed=replace(world.observed, loads={"web": load}))


def with_edges(
    world: World, base: str, rolling: str, switched: str, *, forms: dict[str, EdgeForm]
) -> World:
    """The world in which other configurations of the edge are wanted, each of a form."""
    return replace(world, edge_configs=EdgeConfigs(base, rolling, switched), edge_forms=forms)
