"""Another load balancer beside the one that serves: decided apart from a reload, waited for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gapless.core import balancer, simulate
from gapless.core.balancer import HEIR_LIMIT
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.engine import wishes
from gapless.observed import Edge, EdgeForm
from tests.core import worlds

OLD, NEW = EdgeForm("sha256:1"), EdgeForm("sha256:2")


def renewing(old: EdgeForm, new: EdgeForm) -> World:
    """The configuration that is wanted asks for another form than that which runs."""
    world = worlds.at_rest(worlds.stack())
    edge = replace(world.observed.edge, form=old)
    world = worlds.with_edges(world, "b", "b", "b", forms={"a": old, "b": new})
    return replace(world, observed=replace(world.observed, edge=edge))


def due(world: World) -> list[str]:
    return [f"{step.text}, {step.cause}" for step in reconcile(world).steps]


def changed(world: World, **facts: Any) -> World:
    edge = replace(world.observed.edge, **facts)
    return replace(world, observed=replace(world.observed, edge=edge))


def test_another_image_or_a_low_port_is_another_program_and_all_else_a_reload() -> None:
    low = EdgeForm("sha256:1", frozenset({"*:80", "*:443"}))
    reload = "edge reload, its configuration changes"
    assert due(renewing(OLD, OLD)) == [reload]
    assert due(renewing(low, OLD)) == [reload]
    assert due(renewing(OLD, NEW)) == ["edge replace, its image changes"]
    assert due(renewing(OLD, low)) == ["edge replace, it may not listen at *:443, *:80 by itself"]
    # A program of the machine becomes another one by a reload; a container does not become one.
    assert due(renewing(EdgeForm(), EdgeForm())) == [reload]
    assert due(renewing(OLD, EdgeForm())) == [reload]
    after = simulate.apply(renewing(OLD, NEW), balancer.ReplaceEdge("b"))
    assert after.observed.edge.form == NEW and due(after) == []


def test_while_one_is_on_its_way_nothing_is_told_to_the_other() -> None:
    world = worlds.deploying(renewing(OLD, NEW), worlds.stack())
    assert due(world) != []
    waiting = changed(world, heir_since=world.now - 1)
    decision = reconcile(waiting)
    assert decision.steps == () and decision.waits == ("another edge takes over",)
    assert decision.wake_at == world.now - 1 + HEIR_LIMIT
    # It serves, or it has died: all goes on.
    assert "edge replace" not in str(due(changed(waiting, heir_since=None, config="b", form=NEW)))
    assert "edge replace, its image changes" in due(changed(waiting, heir_since=None))
    # It never will: another one is begun, also where what runs would do by now.
    late = changed(waiting, heir_since=world.now - HEIR_LIMIT)
    assert "edge replace, who was to take over has not" in due(late)
    assert "edge replace, who was to take over has not" in due(changed(late, config="b"))


def test_what_has_died_and_what_is_to_stop_waits_for_nobody() -> None:
    waiting = changed(renewing(OLD, NEW), heir_since=1000.0)
    dead = replace(waiting, observed=replace(waiting.observed, edge=Edge("dead")))
    assert due(dead) == ["edge start, it has died"]
    assert simulate.apply(dead, balancer.StartEdge()).observed.edge.form == NEW
    down = replace(waiting, desired=wishes.down(waiting.desired))
    assert "edge stop" in [step.text for step in simulate.unroll(down).steps]
