"""A replica that stands still leaves rotation, and is killed and replaced: nobody wakes it up."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gapless.drills import blow, crash, mix, toll, traffic, verdict
from gapless.drills.base import Outcome, Target
from gapless.drills.blow import Blow
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.toll import Toll
from gapless.drills.verdict import Reasons, Traffic

NAME = "hang"
PROMISE = "a replica that stands still leaves rotation and is replaced"
ROUNDS = 3
AWAY = 3.0
"""Strict: seconds in which it is out of rotation."""


@dataclass(frozen=True, slots=True)
class Table:
    """``wanted``: how many blows were to fall; ``left``: what still stood still at the end."""

    traffic: Traffic
    toll: Toll
    blows: tuple[Blow, ...]
    wanted: int
    left: tuple[str, ...] = ()
    edge_before: int | None = None
    edge_after: int | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    late = [
        f"{one.victim}: {one.away:.2f} s in rotation, {AWAY:g} s allowed"
        for one in table.blows
        if one.away is not None and one.away >= AWAY
    ]
    return (
        *crash.under_load(table.traffic),
        *toll.judge(table.toll),
        *crash.replaced(table.blows, table.wanted),
        *verdict.nothing("still stopped", table.left),
        *verdict.equal("the edge's pid", table.edge_before, table.edge_after),
        *(late if strict else ()),
    )


def subject(target: Target, state: State) -> str:
    name = crash.several(target, state)
    return f"{state.services[name].desired} replicas of {name}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    name = crash.several(stage.target, before)
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    rounds = stage.options.rounds or ROUNDS
    blows: list[Blow] = []
    left: list[str] = []

    def stop(there: Stage, grip: blow.Grip) -> Blow:
        """Whatever becomes of it, it does not stay stopped."""
        try:
            return blow.strike(there, [grip], signal.SIGSTOP)
        finally:
            if grip.stopped:
                left.append(grip.replica.id)
            grip.send(signal.SIGCONT)

    def all_blows(_: int) -> int:
        return crash.volley(stage, name, rounds, stop, blows)

    whole = traffic.under_load(stage, chosen, 1, all_blows)
    after = stage.look()
    found = whole.traffic()
    table = Table(
        found,
        toll.sort(found.failed, whole.measured.failures, blows),
        tuple(blows),
        rounds,
        tuple(left),
        before.edge_pid,
        after.edge_pid,
    )
    detail = {
        **whole.detail(),
        "told": [*(one.told() for one in blows), table.toll.told()],
        "toll": table.toll.as_json(),
        "blows": [one.as_json() for one in blows],
    }
    return Outcome(NAME, judge(table, stage.options.strict), found, detail)
