"""In steady state the edge spreads requests evenly."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gapless import errors
from gapless.drills import base, figures, generator, mix, traffic, verdict
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "spread"
PROMISE = "requests are spread evenly over the replicas"
REQUESTS = 3_000


@dataclass(frozen=True, slots=True)
class Table:
    """``served``: replica to requests that the edge gave it meanwhile."""

    traffic: Traffic
    wanted: int
    served: dict[str, int]


def judge(table: Table, strict: bool = False) -> Reasons:
    return (
        *base.traffic_reasons(table.traffic, table.wanted, strict=False),
        *verdict.even("requests by replica", table.served.values()),
    )


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    count = len(state.serving(name))
    if count < 2:
        raise errors.MissingSubject(
            f"{name} has {count} replica: there is nothing to spread over",
            hint=f"gapless scale {name}=3",
        )
    return f"{count} replicas of {name}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    name = base.published(stage.target, before)
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = max(REQUESTS, stage.options.requests or 0)  # fewer would be noise
    rates = traffic.capacity(chosen)
    before = stage.look()
    spec = chosen.spec(chosen.open(rates), traffic.LONGEST)
    with generator.Load(spec) as load:
        load.mark("during")
        load.until(requests=wanted, seconds=stage.options.seconds or 120.0)
        measured = load.finish(spec.timeout + 5.0)
    whole = traffic.Measurement(measured, 0)
    served = counted(stage, before, name, whole.requests)
    table = Table(whole.traffic(), wanted, served)
    spread = figures.spread(served.values())
    detail = {**whole.detail(), "served": served, "spread": spread}
    return Outcome(NAME, judge(table), table.traffic, detail)


def counted(stage: Stage, before: State, service: str, requests: int) -> dict[str, int]:
    """What each replica got; the controller's look may be a moment older than the last answer."""
    deadline = time.monotonic() + 5.0
    while True:
        served = difference(before, stage.look(), service)
        if sum(served.values()) >= requests or time.monotonic() > deadline:
            return served
        time.sleep(0.2)


def difference(before: State, after: State, service: str) -> dict[str, int]:
    """Requests that each replica of a service got between two looks. Raises WorkFailed."""
    began = {one.id: one.served for one in before.serving(service)}
    served = {}
    for one in after.serving(service):
        if one.served is None:
            raise errors.WorkFailed("the edge's counters cannot be read", hint="gapless ps")
        served[one.id] = one.served - (began.get(one.id) or 0)
    return served
