"""What a step does to the durable record. One function for the executor and the simulation."""

from __future__ import annotations

from dataclasses import replace

from gapless.core import plan
from gapless.model.desired import Desired, Outcome, Past, Schedule


def apply(desired: Desired, step: plan.Step) -> Desired:
    """The record after the step; unchanged for steps that only touch the world."""
    if isinstance(step, plan.Count | plan.NoteRun | plan.SkipRun):
        return _scheduled(desired, step)
    if isinstance(step, plan.EndHold):
        over = desired.hold is not None and desired.hold.until == step.until
        return replace(desired, hold=None) if over else desired
    if isinstance(step, plan.Rescale):
        return replace(desired, auto={**desired.auto, step.name: step.count})
    rollout = desired.rollout
    if rollout is None:
        return desired
    match step:
        case plan.Advance(rollout=number, phase=phase) if number == rollout.id:
            return replace(desired, rollout=replace(rollout, phase=phase))
        case plan.Undo(rollout=number, reason=reason) if number == rollout.id:
            return replace(desired, rollout=replace(rollout, phase="undoing", reason=reason))
        case plan.Settle(rollout=number) if number == rollout.id:
            outcome = Outcome(rollout.id, rollout.kind, False, rollout.reason)
            return replace(desired, rollout=None, outcome=outcome)
        case plan.Commit(rollout=number) if number == rollout.id:
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


def _scheduled(desired: Desired, step: plan.Count | plan.NoteRun | plan.SkipRun) -> Desired:
    book = dict(desired.schedules)
    known = book.get(step.job, Schedule("", 0.0))
    match step:
        case plan.Count(job=job, schedule="", after=after):
            book.pop(job, None)
        case plan.Count(job=job, schedule=counted, after=after):
            if known.due > after:  # of a clock that was wrong
                known = Schedule("", 0.0)
            book[job] = replace(known, counted=counted, after=after)
        case plan.NoteRun(job=job, due=due, state=state, reason=reason):
            after = max(known.after, due)
            book[job] = replace(known, after=after, due=due, state=state, reason=reason)
        case plan.SkipRun(job=job, due=due):
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
