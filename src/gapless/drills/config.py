"""A change of configuration reaches every replica and drops nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gapless.drills import base, mix, rollback, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "config"
PROMISE = "a change of configuration drops nothing"
REQUESTS = 5_000
UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class Table:
    """``seen``: replica to the value of the drill's variable in it; ``wanted_value``: what it is
    to be. ``release`` before and after: the drill takes its change back."""

    traffic: Traffic
    wanted: int
    wanted_value: str
    seen: dict[str, str | None]
    release_before: int | None = None
    release_after: int | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    others = [
        f"{name} ({value})" for name, value in table.seen.items() if value != table.wanted_value
    ]
    return (
        *base.traffic_reasons(table.traffic, table.wanted, strict),
        *verdict.handed_over(table.traffic),
        *(() if table.seen else ("no replica was looked at",)),
        *verdict.nothing("without the new value", others),
        *verdict.equal("release", table.release_before, table.release_after),
    )


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    return f"the environment of {name}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = stage.options.requests or REQUESTS
    value, seen = "", {}
    stage.later("release", lambda: rollback.back(stage, before))

    def change(number: int) -> int:
        nonlocal value, seen
        old = stage.look()
        value = f"config-{number}"
        stage.must("/v1/deploy", services=[], env={rollback.MARK: value}, wait=True, drill=True)
        new = stage.settle()
        seen = {one.id: environment(one.pid, rollback.MARK) for one in new.serving()}
        return states.handovers(old, new)

    whole = traffic.under_load(stage, chosen, wanted, change)
    rollback.back(stage, before)
    stage.forget("release")
    after = stage.look()
    table = Table(whole.traffic(), wanted, value, seen, before.release, after.release)
    detail = {**whole.detail(), "seen": seen}
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, detail)


def environment(pid: int | None, name: str) -> str | None:
    """One variable in the environment that a process was started with; None: not there."""
    if pid is None:
        return None
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return UNREADABLE
    for entry in text.split("\0"):
        key, _, value = entry.partition("=")
        if key == name:
            return value
    return None
