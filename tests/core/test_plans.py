"""Plan texts, as the user reads them, against files in tests/plans.

``GAPLESS_WRITE_PLANS=1`` writes them anew; the difference is then read like code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gapless.core import simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.engine import rollouts, wishes
from gapless.observed import DataNode, Edge, EdgeForm, JobRun, Observed, Static
from tests.core import worlds

PLANS = Path(__file__).parents[1] / "plans"


def _contained() -> World:
    return replace(worlds.fresh(worlds.stack()), bridges=True)


def _other_image() -> World:
    """The release that is deployed has the load balancer of another image."""
    world = worlds.deploying(worlds.at_rest(worlds.stack()), worlds.stack())
    old, new = EdgeForm("sha256:1"), EdgeForm("sha256:2")
    edge = replace(world.observed.edge, form=old)
    world = replace(world, observed=replace(world.observed, edge=edge))
    return worlds.with_edges(world, "a", "a", "b", forms={"a": old, "b": new})


def _rolled_back() -> World:
    world = worlds.run(worlds.deploying(worlds.at_rest(worlds.stack()), worlds.stack()))
    rollout = rollouts.rollback(world.desired, world.stacks.__getitem__, None, None)
    return worlds.wanting(world, rollout)


def _restarted() -> World:
    world = worlds.at_rest(worlds.stack())
    rollout = rollouts.restart(world.desired, world.stacks[1], ("web",), park=True)
    return worlds.wanting(world, rollout)


def _scaled(count: int) -> World:
    world = worlds.at_rest(worlds.stack())
    return replace(world, desired=replace(world.desired, scale={"web": count}))


def _undone() -> World:
    """Half of web has switched when the deploy is undone."""
    world = worlds.deploying(worlds.at_rest(worlds.stack()), worlds.stack())
    for batch in simulate.unroll(world).batches[:7]:
        for step in batch:
            world = simulate.apply(world, step)
        world = simulate.settle(world)
    assert world.desired.rollout is not None
    rollout = replace(world.desired.rollout, phase="undoing", reason="aborted")
    return worlds.wanting(world, rollout)


def _ailing(service: str, **facts: Any) -> World:
    """The first of the service has one fault."""
    limits = {"limits": {"memory": "512M"}, "recycle": {"age": "2h"}}
    world = worlds.at_rest(worlds.stack(web=limits, beat=limits))
    replicas = tuple(
        replace(r, **facts) if (r.id.service, r.id.ordinal) == (service, 1) else r
        for r in world.observed.replicas
    )
    return replace(world, observed=replace(world.observed, replicas=replicas))


CASES: dict[str, Callable[[], World]] = {
    "first-up": lambda: worlds.fresh(worlds.stack()),
    "deploy-one-by-one": lambda: worlds.deploying(worlds.at_rest(worlds.stack()), worlds.stack()),
    "deploy-all-at-once": lambda: worlds.deploying(
        worlds.at_rest(worlds.stack()), worlds.stack(), surge_all=True
    ),
    "deploy-atomic": lambda: worlds.deploying(
        worlds.at_rest(worlds.stack()), worlds.stack(web={"switch": "atomic"})
    ),
    "deploy-without-room": lambda: worlds.deploying(
        worlds.at_rest(worlds.stack()), worlds.stack(), park=False
    ),
    "undo": _undone,
    "rollback": _rolled_back,
    "restart-web": _restarted,
    "scale-up": lambda: _scaled(5),
    "scale-down": lambda: _scaled(1),
    "down": lambda: replace(
        (world := worlds.at_rest(worlds.stack())),
        desired=replace(world.desired, running=False),
    ),
    "heal-stopped": lambda: _ailing("web", frozen_since=1000.0, ready=False),
    "heal-not-live": lambda: _ailing("web", live_failed_since=1000.0, live="GET /live: 500"),
    "heal-memory": lambda: _ailing("web", memory=700 << 20, memory_low=600 << 20),
    "heal-old-singleton": lambda: _ailing("beat", started_at=-9000.0),
    "scale-far-up": lambda: _scaled(12),
    "first-up-in-containers": _contained,
    "deploy-another-edge": _other_image,
    "nothing": lambda: worlds.at_rest(worlds.stack()),
}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_reads_as_agreed(name: str) -> None:
    plan = simulate.unroll(CASES[name]())
    assert plan.complete
    file = PLANS / f"{name}.txt"
    if os.environ.get("GAPLESS_WRITE_PLANS"):
        file.write_text(f"{plan}\n")
    assert f"{plan}\n" == file.read_text()


def test_the_network_is_open_before_anything_and_closed_after_all() -> None:
    world = worlds.run(_contained())
    assert world.observed.bridge is not None
    world = replace(world, desired=wishes.down(world.desired))
    texts = [step.text for step in simulate.unroll(world).steps]
    assert texts[-1] == "network close" and "edge stop" in texts and "db stop" in texts
    assert worlds.run(world).observed.bridge is None
    # Another controller has not opened it: it does nothing else before, whatever there is to do.
    world = replace(worlds.run(_contained()), now=2000.0)
    later = replace(world, observed=replace(world.observed, bridge=None, edge=Edge()))
    assert [step.text for step in reconcile(later).steps] == ["network open"]
    assert [step.text for step in reconcile(replace(later, bridges=False)).steps] != []


def test_planted_who_closes_it_too_early_is_seen() -> None:
    world = worlds.run(_contained())
    down = replace(world, desired=wishes.down(world.desired))
    first = reconcile(down).steps
    assert "network close" not in [step.text for step in first]
    # Files are there as ever: there is no program to wait for, nor to stop.
    files = {"site": DataNode("site", "files", "ready", served=False)}
    gone = replace(down.observed, replicas=(), edge=Edge(), data=files)
    assert [s.text for s in reconcile(replace(down, observed=gone)).steps] == ["network close"]
    assert gone.programless
    for left in (
        {"replicas": down.observed.replicas[:1]},
        {"edge": Edge("starting")},
        {"static": Static("running")},
        {"data": {"db": DataNode("db", "postgres", "ready")}},
        {"jobs": (JobRun("ask", -1, "running"),)},
    ):
        seen: Observed = replace(gone, **left)
        steps = reconcile(replace(down, observed=seen)).steps
        assert not seen.programless and "network close" not in [step.text for step in steps]
