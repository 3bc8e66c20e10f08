"""Requests held at the edge, as the plan sees it: begun, taken back, and forgotten in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapless import errors
from gapless.core import balancer, plan, record, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.edge import hold as edge_hold
from gapless.engine import wishes
from gapless.model.desired import Hold
from gapless.model.stack import Stack
from tests.core import worlds

STACK = worlds.stack()
REST = worlds.at_rest(STACK)
WALL = 1_800_000_000.0


def world(hold: Hold | None, held: float | None = None, wall: float = WALL) -> World:
    edge = replace(REST.observed.edge, held_until=held)
    return replace(
        REST,
        desired=replace(REST.desired, hold=hold),
        observed=replace(REST.observed, edge=edge),
        wall=wall,
    )


HOLD = Hold(WALL + 10, 10.0, REST.now)
CASES: list[tuple[World, list[plan.Step]]] = [
    (world(None), []),
    (world(HOLD), [balancer.SetHold(HOLD)]),
    (world(HOLD, HOLD.until), []),
    (world(HOLD, HOLD.until - 5), [balancer.SetHold(HOLD)]),  # one that was lengthened
    (world(HOLD, None, HOLD.until - 0.1), []),  # the edge has ended it, a moment early
    (world(HOLD, None, HOLD.until), [record.EndHold(HOLD.until)]),
    (world(HOLD, HOLD.until, HOLD.until + 1), [record.EndHold(HOLD.until)]),
    (world(None, HOLD.until), [balancer.SetHold(None)]),
    # Somebody has set the clock back an hour; the machine has been booted.
    (replace(world(HOLD, HOLD.until, WALL - 3600), now=REST.now + 9.9), []),
    (replace(world(HOLD, None, WALL - 3600), now=REST.now + 10), [record.EndHold(HOLD.until)]),
    (replace(world(HOLD, None), now=REST.now - 1), [record.EndHold(HOLD.until)]),
]


@pytest.mark.parametrize(("at", "steps"), CASES)
def test_each_case_has_its_step(at: World, steps: list[plan.Step]) -> None:
    assert list(reconcile(at).steps) == steps


def test_the_plan_is_one_step_and_then_nothing() -> None:
    assert str(simulate.unroll(world(HOLD))) == "[1] edge hold requests for 10s, by hand"
    assert str(simulate.unroll(world(None, HOLD.until))) == "[1] edge release requests, by hand"


def test_only_the_one_whose_time_is_over_is_forgotten() -> None:
    desired = replace(REST.desired, hold=HOLD)
    assert record.apply(desired, record.EndHold(HOLD.until)).hold is None
    assert record.apply(desired, record.EndHold(HOLD.until - 5)).hold == HOLD


def test_what_cannot_be_wished_for_is_refused() -> None:
    calm = REST.desired
    wish = wishes.held(calm, STACK, 10.0, REST.now, WALL)
    assert wish.hold == HOLD
    assert wishes.maintained(wish, STACK, False).hold is None
    assert wishes.maintained(wish, STACK, True).hold is None
    for seconds in (0.0, -1.0, edge_hold.LONGEST + 0.1, float("nan")):
        with pytest.raises(errors.UsageError, match="at most"):
            wishes.held(calm, STACK, seconds, REST.now, WALL)
    with pytest.raises(errors.Refused, match="no request is held"):
        wishes.held(replace(calm, maintenance=True), STACK, 10.0, REST.now, WALL)
    work = {"gapless": 1, "name": "work", "service": {"worker": {"run": "work"}}}
    with pytest.raises(errors.Refused, match="no edge"):
        wishes.held(calm, Stack.model_validate(work), 10.0, REST.now, WALL)
