"""Steps that change the durable record and nothing else, and what they make of it.

One function for the executor and the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gapless.core import jobruns, plan
from gapless.model.desired import Desired, Outcome, Past, Phase, Schedule


@dataclass(frozen=True, slots=True)
class Advance(plan.Step):
    """The rollout reaches a phase; durable before anything that follows from it."""

    rollout: int
    phase: Phase

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: {self.phase}"


@dataclass(frozen=True, slots=True)
class Undo(plan.Step):
    """The rollout has failed: back to its base. ``culprit``: replica or job, if it was one."""

    rollout: int
    reason: str
    culprit: str = ""

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: undo"


@dataclass(frozen=True, slots=True)
class Commit(plan.Step):
    """Every service has switched and every smoke job passed: the target is what is desired."""

    rollout: int

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: commit"


@dataclass(frozen=True, slots=True)
class Settle(plan.Step):
    """Undone: nothing of the target is left and the base serves."""

    rollout: int

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: undone"


@dataclass(frozen=True, slots=True)
class Rescale(plan.Step):
    """Another count for a service that follows its load; durable before it is acted upon."""

    name: str
    count: int

    @property
    def text(self) -> str:
        return f"{self.name} scale to {self.count}"


@dataclass(frozen=True, slots=True)
class EndHold(plan.Step):
    """Its time is over: it is not wanted any more."""

    until: float

    @property
    def text(self) -> str:
        return "edge hold over"


Counted = jobruns.Count | jobruns.NoteRun | jobruns.SkipRun
Recorded = Advance | Undo | Commit | Settle | Rescale | EndHold | Counted
"""All of them."""


def apply(desired: Desired, step: plan.Step) -> Desired:
    """The record after the step; unchanged for steps that only touch the world."""
    if isinstance(step, Counted):
        return _scheduled(desired, step)
    if isinstance(step, EndHold):
        over = desired.hold is not None and desired.hold.until == step.until
        return replace(desired, hold=None) if over else desired
    if isinstance(step, Rescale):
        return replace(desired, auto={**desired.auto, step.name: step.count})
    rollout = desired.rollout
    if rollout is None:
        return desired
    match step:
        case Advance(rollout=number, phase=phase) if number == rollout.id:
            return replace(desired, rollout=replace(rollout, phase=phase))
        case Undo(rollout=number, reason=reason) if number == rollout.id:
            return replace(desired, rollout=replace(rollout, phase="undoing", reason=reason))
        case Settle(rollout=number) if number == rollout.id:
            outcome = Outcome(rollout.id, rollout.kind, False, rollout.reason)
            return replace(desired, rollout=None, outcome=outcome)
        case Commit(rollout=number) if number == rollout.id:
            vector = {**desired.vector, **rollout.base, **rollout.target}
            scale = dict(desired.scale)
            auto = {n: c for n, c in desired.auto.items() if n not in rollout.removed}
            for name in rollout.removed:
                vector.pop(name, None)
            if rollout.kind == "deploy":
                scale = {n: c for n, c in scale.items() if n not in rollout.target}
            previous = desired.previous
            if rollout.kind != "restart" and not rollout.rehearsal and desired.stack is not None:
                previous = Past(desired.vector, desired.stack)
            return replace(
                desired,
                previous=previous,
                vector=vector,
                stack=rollout.stack,
                scale=scale,
                auto=auto,
                inputs=rollout.inputs or desired.inputs,
                rollout=None,
                outcome=Outcome(rollout.id, rollout.kind, True),
            )
    return desired


def _scheduled(
    desired: Desired, step: jobruns.Count | jobruns.NoteRun | jobruns.SkipRun
) -> Desired:
    book = dict(desired.schedules)
    known = book.get(step.job, Schedule("", 0.0))
    match step:
        case jobruns.Count(job=job, schedule="", after=after):
            book.pop(job, None)
        case jobruns.Count(job=job, schedule=counted, after=after):
            if known.due > after:  # of a clock that was wrong
                known = Schedule("", 0.0)
            book[job] = replace(known, counted=counted, after=after)
        case jobruns.NoteRun(job=job, due=due, state=state, reason=reason):
            after = max(known.after, due)
            book[job] = replace(known, after=after, due=due, state=state, reason=reason)
        case jobruns.SkipRun(job=job, due=due):
            book[job] = replace(known, after=max(known.after, due))
    return replace(desired, schedules=book)


def interrupted(desired: Desired, reason: str) -> Desired:
    """The record as a new controller takes it up.

    A rollout whose services had not all switched is undone; a later one goes on.
    """
    rollout = desired.rollout
    if rollout is None or rollout.phase not in ("release-jobs", "rolling"):
        return desired
    return replace(desired, rollout=replace(rollout, phase="undoing", reason=reason))
