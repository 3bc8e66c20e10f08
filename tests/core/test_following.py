"""Services that follow their load, over whole worlds: what is done, and what holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.core import following, plan, record, simulate
from gapless.core.autoscale import behaviour, deciding, proposals
from gapless.core.autoscale.behaviour import Behaviour
from gapless.core.autoscale.proposals import Member
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.engine import rollouts, wishes
from gapless.model.desired import Hold
from gapless.observed import Load, Measure, Moment
from tests.core import worlds
from tests.core.worlds import loaded

SCALE = {"max": 6, "rps": 100, "down_after": "60s"}
TABLE = worlds.stack(web={"scale": SCALE})


def following_world(**changes: Any) -> World:
    """Three of web serve; it may have up to six."""
    return worlds.at_rest(worlds.stack(web={"scale": {**SCALE, **changes}}))


def rescales(world: World) -> list[plan.Step]:
    return [step for step in reconcile(world).steps if isinstance(step, record.Rescale)]


def test_more_load_more_replicas() -> None:
    world = loaded(following_world(), 5, 160)
    (step,) = rescales(world)
    assert step == record.Rescale("web", 5)
    assert step.text == "web scale to 5"
    assert step.cause == "from 3: 160 requests/s a replica, target 100"
    after = worlds.run(world)
    assert after.desired.auto == {"web": 5}
    assert [r.id.ordinal for r in after.of("web") if r.alive] == [1, 2, 3, 4, 5]


def test_less_load_takes_the_highest_ordinals_after_the_window() -> None:
    world = worlds.run(loaded(following_world(), 6, 200))
    early = loaded(world, 3, 10, earlier=(Moment(world.now - 59, 6),))
    assert rescales(early) == []
    late = loaded(world, 3, 10, earlier=(Moment(world.now - 61, 6),))
    (step,) = rescales(late)
    assert isinstance(step, record.Rescale)
    assert step.count == 3
    down = simulate.apply(late, step)
    steps = [s for s in simulate.unroll(down).steps if isinstance(s, plan.Leave | plan.Signal)]
    left = [s for s in steps if isinstance(s, plan.Leave)]
    assert [s.id.ordinal for s in left] == [6, 5, 4]
    for step_out in left:
        signal = plan.Signal(step_out.id)
        assert steps.index(step_out) < steps.index(signal)


@pytest.mark.parametrize(
    ("wanted", "count", "why"),
    [(50, 6, "; no more are allowed"), (1, 3, "")],
)
def test_bounds(wanted: int, count: int, why: str) -> None:
    world = worlds.run(loaded(following_world(min=3), wanted))
    assert world.count("web", world.desired.vector["web"]) == count
    if why:
        (step,) = rescales(loaded(following_world(), wanted))
        assert step.cause.endswith(why)


def test_from_nothing() -> None:
    """A queue can wake a service that has no replicas."""
    scale = {"max": 4, "queue": "db:q", "backlog": 10}
    world = worlds.at_rest(worlds.stack(worker={"replicas": 0, "scale": scale}))
    assert world.of("worker") == ()
    measure = Measure("backlog", 10, 25, 3)
    load = Load(world.now, (measure,), 3)
    world = replace(world, observed=replace(world.observed, loads={"worker": load}))
    assert len(worlds.run(world).of("worker")) == 3


def test_no_faster_than_the_policies_allow() -> None:
    """From one: four more in 15 s; what comes later waits for that time to pass."""
    world = worlds.at_rest(worlds.stack(web={"replicas": 1, "scale": {"max": 100, "rps": 1}}))
    world = loaded(world, 80)
    (step,) = rescales(world)
    assert isinstance(step, record.Rescale)
    assert (step.count, step.cause.endswith("; no faster than the policy allows")) == (5, True)
    world = simulate.apply(world, step)
    assert rescales(world) == []
    assert [s.count for s in rescales(_later(world, 14)) if isinstance(s, record.Rescale)] == []
    assert [s.count for s in rescales(_later(world, 16)) if isinstance(s, record.Rescale)] == [10]


def _later(world: World, seconds: float) -> World:
    load = world.observed.loads["web"]
    now = world.now + seconds
    fresh = {"web": replace(load, at=now)}
    return replace(world, now=now, observed=replace(world.observed, loads=fresh))


def test_what_is_stale_or_unknown_moves_nothing() -> None:
    world = loaded(following_world(), 5)
    assert rescales(replace(world, now=world.now + deciding.STALE + 1)) == []
    assert rescales(loaded(following_world(), None)) == []


def held_worlds() -> dict[str, World]:
    world = following_world()
    desired = world.desired
    return {
        "deploy 2 is under way": worlds.deploying(world, TABLE),
        "maintenance is on": replace(world, desired=replace(desired, maintenance=True)),
        "requests are held": replace(world, desired=replace(desired, hold=Hold(9e9, 10.0))),
        "set by hand": replace(world, desired=replace(desired, scale={"web": 4})),
        "it is stopped": replace(world, desired=replace(desired, stopped=("web",))),
        "": world,
    }


@pytest.mark.parametrize("why", held_worlds())
def test_held(why: str) -> None:
    world = loaded(held_worlds()[why], 5)
    assert following.held(world, "web") == why
    assert bool(rescales(world)) == (not why)


def test_a_deploy_keeps_the_count_within_the_new_bounds() -> None:
    world = worlds.run(loaded(following_world(), 5))
    for most, kept in ((6, 5), (4, 4)):
        table = worlds.stack(web={"scale": {**SCALE, "max": most}})
        after = worlds.run(worlds.deploying(world, table))
        assert after.count("web", after.desired.vector["web"]) == kept
    after = worlds.run(worlds.deploying(world, worlds.stack()))
    assert after.count("web", after.desired.vector["web"]) == 3


def test_a_count_set_by_hand_is_where_it_goes_on_from() -> None:
    world = following_world()
    desired = wishes.following(replace(world.desired, scale={"web": 5}), TABLE, {"web"})
    assert desired.auto == {"web": 5}
    plain = wishes.following(replace(world.desired, scale={"api": 5}), TABLE, {"api"})
    assert plain.auto == {}


def test_a_deploy_goes_on_from_the_count_set_by_hand() -> None:
    world = following_world()
    by_hand = replace(world.desired, scale={"web": 5})
    rollout = rollouts.deploy(by_hand, 2, TABLE, (), kind="deploy", park=True)
    begun = wishes.begun(by_hand, rollout, TABLE)
    world = replace(world, desired=begun, stacks={**world.stacks, 2: TABLE})
    assert world.count("web", rollout.target["web"], scaled=False) == 5


def test_the_record_forgets_services_that_are_gone() -> None:
    world = worlds.run(loaded(following_world(), 5))
    rollout = replace(
        rollouts.deploy(world.desired, 2, TABLE, (), kind="deploy", park=True), removed=("web",)
    )
    desired = replace(world.desired, rollout=rollout)
    assert record.apply(desired, record.Commit(rollout.id)).auto == {}


# -- properties ----------------------------------------------------------------------------------

COUNTS = st.integers(0, 40)
EARLIER = st.lists(st.tuples(st.floats(0, 600), COUNTS), max_size=12)


@given(
    wanted=st.none() | COUNTS,
    count=COUNTS,
    low=st.integers(0, 20),
    room=st.integers(0, 20),
    earlier=EARLIER,
    changes=st.lists(st.tuples(st.floats(0, 60), st.integers(-5, 5)), max_size=6),
)
def test_bounds_hold_whatever_came_before(wanted, count, low, room, earlier, changes):  # type: ignore[no-untyped-def]  # hypothesis gives the arguments
    load = Load(
        1000.0,
        (),
        wanted,
        tuple(Moment(1000 - ago, n) for ago, n in earlier),
        tuple(Moment(1000 - ago, n) for ago, n in changes),
    )
    verdict = deciding.decide(load, count, (low, low + room), Behaviour(), 1000.0)
    if count == 0 and low > 0:
        assert verdict.count == 0  # nobody asked for it to run
    else:
        assert low <= verdict.count <= low + room


@given(count=COUNTS, recommendations=st.lists(COUNTS, min_size=2, max_size=60))
def test_no_flapping_within_the_window(count, recommendations):  # type: ignore[no-untyped-def]  # as above
    """One recommendation a second: none leaves that was asked for within the window."""
    rules = Behaviour().after(up=0, down=30)
    earlier: tuple[Moment, ...] = (Moment(0.0, count),)
    for second, wanted in enumerate(recommendations, 1):
        load = Load(second, (), wanted, earlier)
        verdict = deciding.decide(load, count, (0, 40), rules, second)
        asked = [m.count for m in earlier if m.at > second - 30]
        if verdict.count < count:
            assert verdict.count >= max([*asked, wanted])
        count = verdict.count
        earlier = (*earlier, Moment(second, wanted))


def members(values: list[float | None], pending: int) -> list[Member]:
    ready = [Member(value=value, request=100.0, measured_at=10.0) for value in values]
    return [*ready, *[Member(pending=True, request=100.0)] * pending]


def average(found: list[Member], count: int, target: int) -> proposals.Proposal:
    return proposals.average(found, count, target, now=10.0)


def utilization(found: list[Member], count: int, target: int) -> proposals.Proposal:
    return proposals.utilization(found, count, target, cpu=False, now=10.0)


@given(
    values=st.lists(st.none() | st.floats(0, 1000), min_size=1, max_size=12),
    more=st.floats(0, 1000),
    pending=st.integers(0, 4),
    target=st.integers(1, 200),
)
def test_more_load_never_asks_for_fewer(values, more, pending, target):  # type: ignore[no-untyped-def]  # as above
    count = len(values) + pending
    raised = [None if value is None else value + more for value in values]
    for told in (average, utilization):
        before = told(members(values, pending), count, target)
        after = told(members(raised, pending), count, target)
        assert (before.count is None) == (after.count is None)
        if before.count is not None and after.count is not None:
            assert after.count >= before.count


@given(measured=st.floats(0, 1e6), more=st.floats(0, 1e6), count=COUNTS, target=st.floats(0.1, 1e4))
def test_more_of_a_whole_never_asks_for_fewer(measured, more, count, target):  # type: ignore[no-untyped-def]  # as above
    whole = [proposals.value(m, count, count, target).count for m in (measured, measured + more)]
    shared = [proposals.share(m, count, target).count for m in (measured, measured + more)]
    for low, high in (whole, shared):
        assert low is not None and high is not None
        assert high >= low


def test_the_properties_can_fail() -> None:
    """Planted: without stabilisation a dip costs replicas; without a limit, bounds are passed."""
    load = Load(10.0, (), 1, (Moment(9.0, 9),))
    flapping = Behaviour().after(up=0, down=0)
    assert deciding.decide(load, 9, (0, 40), Behaviour(), 10.0).count == 9
    assert deciding.decide(load, 9, (0, 40), flapping, 10.0).count == 1
    assert behaviour.limited(90, 9, (0, 1000), (), Behaviour(), 10.0) == (18, "up")
