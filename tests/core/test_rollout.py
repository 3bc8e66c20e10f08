"""Jobs of a rollout: once each, in their place, and what one that fails costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from gapless.core import jobruns, plan, record, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from tests.core import worlds

Bad = Literal["failed", "unknown"]


def deployed() -> World:
    return worlds.deploying(worlds.at_rest(worlds.stack()), worlds.stack())


def until_job(world: World, job: str) -> World:
    """The world in which ``job`` has just been begun."""
    for batch in simulate.unroll(world).batches:
        for step in batch:
            world = simulate.apply(world, step)
            if isinstance(step, jobruns.RunJob) and step.job == job:
                return world
        world = simulate.settle(world)
    raise AssertionError(f"{job} never runs")


def ended(world: World, job: str, state: Bad) -> World:
    """The job has ended badly, and what follows at once was done: the rollout is being undone."""
    jobs = tuple(
        replace(run, state=state, reason="exit code 3") if run.job == job else run
        for run in world.observed.jobs
    )
    world = replace(world, observed=replace(world.observed, jobs=jobs))
    undo = [step for step in reconcile(world).steps if isinstance(step, record.Undo)]
    assert len(undo) == 1
    assert (undo[0].culprit, "exit code 3" in undo[0].reason) == (job, True)
    return simulate.apply(world, undo[0])


def test_jobs_run_once_and_in_their_place() -> None:
    steps = list(simulate.unroll(deployed()).steps)
    jobs = [step.job for step in steps if isinstance(step, jobruns.RunJob)]
    assert jobs == ["migrate", "smoke"]
    places = {step.job: n for n, step in enumerate(steps) if isinstance(step, jobruns.RunJob)}
    starts = [n for n, step in enumerate(steps) if isinstance(step, plan.StartReplica)]
    commit = next(n for n, step in enumerate(steps) if isinstance(step, record.Commit))
    assert places["migrate"] < min(starts)
    assert max(starts) < places["smoke"] < commit


def test_a_job_that_runs_is_not_begun_again() -> None:
    decision = reconcile(until_job(deployed(), "migrate"))
    assert not decision.steps
    assert "migrate runs" in decision.waits


@pytest.mark.parametrize("state", ["failed", "unknown"])
def test_a_failing_migration_replaces_nothing(state: Bad) -> None:
    before = worlds.at_rest(worlds.stack())
    world = ended(until_job(deployed(), "migrate"), "migrate", state)
    steps = simulate.unroll(world).steps
    assert [type(step) for step in steps] == [record.Settle]
    after = worlds.run(world)
    assert after.observed.replicas == before.observed.replicas
    assert after.desired.vector == before.desired.vector
    assert after.desired.outcome is not None
    assert not after.desired.outcome.held


@pytest.mark.parametrize("state", ["failed", "unknown"])
def test_a_failing_smoke_test_undoes(state: Bad) -> None:
    before = worlds.at_rest(worlds.stack())
    old = {found.id for found in before.observed.replicas if found.id.service != "beat"}
    switched = until_job(deployed(), "smoke")
    serving = [found.id for found in switched.of("web") if found.server and found.server.takes_work]
    assert {id.release for id in serving} == {2}
    world = ended(switched, "smoke", state)
    steps = simulate.unroll(world).steps
    signalled = {step.id for step in steps if isinstance(step, plan.Signal)}
    assert {id.release for id in signalled} == {2}
    back = next(n for n, step in enumerate(steps) if isinstance(step, plan.Enter))
    out = next(n for n, step in enumerate(steps) if isinstance(step, plan.Leave))
    assert back < out
    after = worlds.run(world)
    assert old <= {found.id for found in after.observed.replicas}
    assert {found.generation.release for found in after.observed.replicas} == {1}
    assert after.desired.vector == before.desired.vector
    assert after.desired.outcome is not None
    assert not after.desired.outcome.held


def test_who_does_not_serve_just_now_is_not_parked_before_its_successor() -> None:
    """All are out because the database is: they may be back before anything new is ready."""
    world = until_job(deployed(), "migrate")
    world = simulate.settle(world)
    assert world.desired.rollout is not None
    rolling = replace(world.desired.rollout, phase="rolling")
    out = tuple(
        replace(r, ready=False, server=replace(r.server, up=False)) if r.server else r
        for r in world.observed.replicas
    )
    world = replace(
        world,
        desired=replace(world.desired, rollout=rolling),
        observed=replace(world.observed, replicas=out),
    )
    steps = reconcile(world).steps
    assert [step.text for step in steps if isinstance(step, plan.Leave)] == []
    assert any(isinstance(step, plan.StartReplica) for step in steps)
