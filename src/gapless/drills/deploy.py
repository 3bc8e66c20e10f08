"""A deploy drops nothing: the code that runs is rolled out again, under load."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.drills import base, mix, rollback, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "deploy"
PROMISE = "a deploy drops nothing"
REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class Table:
    """``ready`` before and after: replicas that served, by service."""

    traffic: Traffic
    wanted: int
    ready_before: dict[str, int]
    ready_after: dict[str, int]
    edge_before: int | None = None
    edge_after: int | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    return (
        *base.traffic_reasons(table.traffic, table.wanted, strict),
        *verdict.handed_over(table.traffic),
        *verdict.equal("ready replicas", table.ready_before, table.ready_after),
        *verdict.equal("the edge's pid", table.edge_before, table.edge_after),
    )


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    return f"{state.services[name].desired} replicas of {name}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = stage.options.requests or REQUESTS
    stage.later("release", lambda: rollback.back(stage, before))

    def again(_: int) -> int:
        old = stage.look()
        stage.must("/v1/deploy", services=[], force=True, wait=True, drill=True)
        return states.handovers(old, stage.settle())

    whole = traffic.under_load(stage, chosen, wanted, again)
    after = stage.settle()
    table = Table(
        whole.traffic(), wanted, ready(before), ready(after), before.edge_pid, after.edge_pid
    )
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, whole.detail())


def ready(state: State) -> dict[str, int]:
    """Replicas that serve, by service."""
    return {name: one.ready for name, one in sorted(state.services.items())}
