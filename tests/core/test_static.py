"""The server of files in plans: there before pages ask, turned at the commit, gone at the end."""

from __future__ import annotations

from dataclasses import replace

from gapless.core import simulate, static
from gapless.core.reconcile import reconcile
from gapless.core.world import EdgeConfigs, World
from gapless.observed import Static
from tests.core import worlds


def with_files(world: World, base: str, rolling: str, switched: str) -> World:
    return replace(world, static_configs=EdgeConfigs(base, rolling, switched))


def texts(world: World) -> list[str]:
    return [step.text for step in simulate.unroll(world).steps]


def test_a_deploy_serves_the_new_files_first_of_all() -> None:
    first = with_files(worlds.fresh(worlds.stack()), "a", "a", "a")
    assert "static start" in texts(first)
    rest = worlds.run(first)
    assert rest.observed.static == Static("running", config="a")
    assert rest.observed.edge.files == "a"
    steps = texts(with_files(worlds.deploying(rest, worlds.stack()), "a", "ab", "ba"))
    assert steps.count("static reload") == 2
    assert steps.index("static reload") < steps.index("web.1@r2 enter edge")
    assert steps.count("static tell edge") == 2
    assert "static stop" not in steps


def test_no_new_replica_enters_while_its_files_are_not_served() -> None:
    rest = worlds.run(with_files(worlds.fresh(worlds.stack()), "a", "a", "a"))
    world = with_files(worlds.deploying(rest, worlds.stack()), "a", "ab", "ba")
    rollout = world.desired.rollout
    assert rollout is not None
    rolling = replace(world.desired, rollout=replace(rollout, phase="rolling"))
    decision = reconcile(replace(world, desired=rolling))
    assert [step.text for step in decision.steps] == ["static reload"]
    assert "the new release's files are served" in decision.waits


def test_the_edge_is_told_once_they_are_served_and_before_a_page_asks() -> None:
    """What it has in memory of the files before must not be sent any more."""
    rest = worlds.run(with_files(worlds.fresh(worlds.stack()), "a", "a", "a"))
    world = with_files(worlds.deploying(rest, worlds.stack()), "a", "ab", "ba")
    rollout = world.desired.rollout
    assert rollout is not None
    rolling = replace(world.desired, rollout=replace(rollout, phase="rolling"))
    served = replace(world.observed, static=Static("running", config="ab"))
    decision = reconcile(replace(world, desired=rolling, observed=served))
    assert decision.steps == (static.TellFiles("ab", cause="other files are served"),)
    assert "the new release's files are served" in decision.waits


def test_an_edge_that_has_forgotten_is_told_again() -> None:
    rest = worlds.run(with_files(worlds.fresh(worlds.stack()), "a", "a", "a"))
    edge = replace(rest.observed.edge, files="")
    assert texts(replace(rest, observed=replace(rest.observed, edge=edge))) == ["static tell edge"]


def test_a_dead_one_is_started_and_costs_no_replica() -> None:
    rest = worlds.run(with_files(worlds.fresh(worlds.stack()), "a", "a", "a"))
    dead = replace(rest, observed=replace(rest.observed, static=Static("dead")))
    assert texts(dead) == ["static start"]


def test_it_stops_once_no_edge_asks_it() -> None:
    rest = worlds.run(with_files(worlds.fresh(worlds.stack()), "a", "a", "a"))
    down = replace(rest, desired=replace(rest.desired, running=False))
    steps = texts(down)
    assert steps.index("edge stop") < steps.index("static stop")
    unrouted = with_files(rest, "", "", "")
    edge = replace(rest.observed.edge, config="other")
    waiting = replace(unrouted, observed=replace(rest.observed, edge=edge))
    assert static.StopStatic() not in reconcile(waiting).steps
    assert texts(waiting) == ["edge reload", "static stop"]
