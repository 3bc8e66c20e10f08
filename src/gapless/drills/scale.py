"""Scaling up and down leaves what runs alone and drops nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gapless import errors
from gapless.drills import base, mix, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "scale"
PROMISE = "scaling by hand leaves what runs alone"
REQUESTS = 3_000
MORE = 2


@dataclass(frozen=True, slots=True)
class Table:
    """``counts``: ready replicas after each change, beside what was asked for.
    ``touched``: replicas from before that are not the same process after it."""

    traffic: Traffic
    wanted: int
    counts: tuple[tuple[int, int], ...]
    touched: tuple[str, ...]
    desired_before: int
    desired_after: int
    drift_before: bool = False
    drift_after: bool = False


def judge(table: Table, strict: bool = False) -> Reasons:
    missed = [f"{got} instead of {asked}" for asked, got in table.counts if asked != got]
    return (
        *base.traffic_reasons(table.traffic, table.wanted, strict),
        *verdict.handed_over(table.traffic),
        *verdict.nothing("replicas that ran were touched", table.touched),
        *verdict.nothing("ready", missed),
        *verdict.equal("wanted replicas", table.desired_before, table.desired_after),
        *verdict.equal("set by hand", table.drift_before, table.drift_after),
    )


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    if target.stack.services[name].singleton:
        raise errors.MissingSubject(f"{name} is a singleton: it does not scale")
    count = state.services[name].desired
    return f"{name}: {count} to {count + MORE} replicas and back"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    name = base.published(stage.target, before)
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = stage.options.requests or REQUESTS
    counts: list[tuple[int, int]] = []
    touched: set[str] = set()
    stage.later("replicas", lambda: back(stage, before, name))
    low = before.services[name].desired

    def up_and_down(_: int) -> int:
        stage.must("/v1/scale", counts={name: low + MORE})
        high = stage.settle()
        counts.append((low + MORE, high.services[name].ready))
        touched.update(states.lost(before, high))
        stage.must("/v1/scale", counts={name: low})
        down = stage.settle()
        counts.append((low, down.services[name].ready))
        touched.update(states.lost(before, down))
        return states.handovers(high, down)

    whole = traffic.under_load(stage, chosen, wanted, up_and_down)
    back(stage, before, name)
    stage.forget("replicas")
    after = stage.settle()
    was, now = before.services[name], after.services[name]
    table = Table(
        whole.traffic(),
        wanted,
        tuple(counts),
        tuple(sorted(touched | set(states.lost(before, after)))),
        was.desired,
        now.desired,
        was.drift,
        now.drift,
    )
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, whole.detail())


def back(stage: Stage, before: State, name: str) -> None:
    """The count from before, and whether a hand had set it. Raises WorkFailed."""
    stage.calm()
    was = before.services[name]
    stage.must("/v1/scale", counts={name: was.desired})
    if not was.drift:  # one that follows its load goes on from the count that it had
        stage.must("/v1/scale", counts={name: None})
    stage.settle()
