"""Runs of jobs: how one is told from what the runtime found, and that no two are begun at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapless import observed
from gapless.core import schedule
from gapless.engine import clock, durable
from gapless.model.desired import Schedule
from gapless.model.process import Process
from gapless.runtimes.base import Found

if TYPE_CHECKING:
    from gapless.engine.controller import Controller
    from gapless.engine.site import Site


def run_of(found: Found, marks: durable.Marks | None = None) -> observed.JobRun:
    """What was found of one run of a job. ``marks``: what we did to it."""
    state: observed.RunState
    if found.alive:
        state, reason = "running", ""
    elif found.exit is None or (found.exit.code is None and found.exit.signal is None):
        state, reason = "unknown", "nobody saw its end"
    elif found.exit.code == 0:
        state, reason = "succeeded", ""
    else:
        state, reason = "failed", str(found.exit)
    due = found.labels.get("due")
    return observed.JobRun(
        job=found.labels.get("job", found.id),
        rollout=int(found.labels.get("rollout", "0")),
        state=state,
        reason=reason,
        id=found.id,
        release=int(found.labels.get("release", "0")),
        due=None if due is None else float(due),
        signalled_at=None if marks is None else marks.signalled_at,
        killed_at=None if marks is None else marks.killed_at,
    )


async def running(site: Site, job: str) -> str | None:
    """The id of a run of the job that is alive; None: there is none."""
    for found in await site.runtime.look():
        if found.alive and found.labels.get("kind") == "job" and found.labels.get("job") == job:
            return found.id
    return None


async def start(site: Site, process: Process) -> str | None:
    """Begin a run of a job unless another one is alive; the other one's id then.

    One that is begun by hand and one by the clock never meet: who looks also starts.
    """
    async with site.job_gate:
        other = await running(site, process.labels["job"])
        if other is None:
            await site.runtime.start(process)
        return other


def report(c: Controller) -> list[dict[str, Any]]:
    """The ``jobs`` of ``GET /v1/status``: those that a schedule starts."""
    desired = c.desired
    if desired.stack is None:
        return []
    return [
        {
            "name": name,
            "schedule": job.schedule,
            "zone": job.zone,
            "state": _state(c, name),
            "next": _next(c, name),
            "last": last(desired.schedules.get(name)),
        }
        for name, job in c.site.stack(desired.stack).jobs.items()
        if job.schedule is not None
    ]


def _state(c: Controller, name: str) -> str:
    runs = any(run.job == name and run.state == "running" for run in c.observed.jobs)
    return "running" if runs else "waiting" if c.desired.running else "stopped"


def _next(c: Controller, name: str) -> float | None:
    known = c.desired.schedules.get(name)
    if not c.desired.running or known is None or c.desired.stack is None:
        return None
    job = c.site.stack(c.desired.stack).jobs[name]
    return schedule.upcoming(job, known.after, clock.wall())


def last(known: Schedule | None) -> dict[str, Any] | None:
    """The last run as the status tells it; None: there was none."""
    if known is None or not known.state:
        return None
    return {"due": known.due, "state": known.state, "reason": known.reason}
