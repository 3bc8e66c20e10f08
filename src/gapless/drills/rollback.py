"""A rollback drops nothing and brings the release vector back."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.drills import base, mix, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "rollback"
PROMISE = "a rollback drops nothing and brings everything back"
REQUESTS = 5_000


@dataclass(frozen=True, slots=True)
class Table:
    """``between``: releases that ran after each deploy. Vectors: service to releases it runs."""

    traffic: Traffic
    wanted: int
    vector_before: dict[str, tuple[int, ...]]
    vector_after: dict[str, tuple[int, ...]]
    release_before: int | None
    release_after: int | None
    between: tuple[int | None, ...]


def judge(table: Table, strict: bool = False) -> Reasons:
    stuck = () if set(table.between) - {table.release_before} else ("no other release ever ran",)
    return (
        *base.traffic_reasons(table.traffic, table.wanted, strict),
        *verdict.handed_over(table.traffic),
        *stuck,
        *verdict.equal("release", table.release_before, table.release_after),
        *verdict.equal("releases by service", table.vector_before, table.vector_after),
    )


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    return f"release {state.release} of {name}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = stage.options.requests or REQUESTS
    between: list[int | None] = []
    stage.later("release", lambda: back(stage, before))

    def there_and_back(number: int) -> int:
        old = stage.look()
        stage.must(
            "/v1/deploy", services=[], env={MARK: f"rollback-{number}"}, wait=True, drill=True
        )
        new = stage.settle()
        between.append(new.release)
        stage.must("/v1/rollback", release=before.release, yes=True, wait=True)
        return states.handovers(old, new) + states.handovers(new, stage.settle())

    whole = traffic.under_load(stage, chosen, wanted, there_and_back)
    after = stage.settle()
    stage.forget("release")
    table = Table(
        whole.traffic(),
        wanted,
        vector(before),
        vector(after),
        before.release,
        after.release,
        tuple(between),
    )
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, whole.detail())


MARK = "GAPLESS_DRILL"
"""Environment variable by which a drill makes a release that differs in nothing else."""


def vector(state: State) -> dict[str, tuple[int, ...]]:
    """Releases that each service runs; one each when all is well."""
    return {
        name: tuple(sorted({r.release for r in state.serving(name) if r.release is not None}))
        for name in sorted(state.services)
    }


def back(stage: Stage, before: State) -> None:
    """To the release that ran before the drill. Raises WorkFailed."""
    stage.calm()
    if stage.look().release != before.release:
        stage.must("/v1/rollback", release=before.release, yes=True, wait=True)
        stage.settle()
