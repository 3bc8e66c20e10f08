"""Jobs by the clock: each occurrence of a schedule begins one run, at most.

==========================  =====================================================================
an occurrence comes         what happens
==========================  =====================================================================
in time                     the job runs, with the release in force
while nothing could start   the last one missed runs at the next chance, if it is late by no more
it (machine off, no         than ``catch_up``; those before it are passed over
controller, a rollout)
while a run of it is on     it is skipped: never two runs of one job at once
before the stack was up,    never: a schedule is counted from when it came into force
or the job was scheduled
==========================  =====================================================================

What makes this hold wherever a controller dies: a run bears the moment it was due at, it is
recorded before its program runs, that moment is made durable after it was recorded (``NoteRun``),
and only then may the run's own record go (``ForgetRun``).

A wall clock that is set forward makes occurrences late; set back, by up to ``SET_BACK``, nothing is
due again that was dealt with. Set back by more it had been wrong before: then it is counted anew.
"""

from __future__ import annotations

from gapless.core import jobruns, plan
from gapless.core.world import World
from gapless.model import cron
from gapless.model.service import Job
from gapless.observed import JobRun

IN_TIME = 60.0
"""Seconds within which a run is not late: looks and steps take a while."""
SET_BACK = 86_400.0
"""Seconds that the wall clock may go back without anything being due again."""
GRACE = 10.0
"""Seconds between TERM and KILL of a run that ``down`` ends."""


def advance(agenda: plan.Agenda, world: World) -> None:
    """Put on the agenda what is due, and what is to be noted of runs."""
    _note(agenda, world)
    desired = world.desired
    if not desired.running:
        _end_all(agenda, world)
        return
    if desired.rollout is not None or desired.stack is None:
        return
    stack = world.stacks.get(desired.stack)
    jobs = {} if stack is None else stack.jobs
    for name, job in jobs.items():
        if job.schedule is not None:
            _due(agenda, world, name, job)
    for name in desired.schedules:
        known = jobs.get(name)
        running = any(run.job == name and run.due is not None for run in world.observed.jobs)
        if (known is None or known.schedule is None) and not running:
            agenda.do(jobruns.Count(name, "", world.wall, cause="no longer in the stack"))


def counted(job: Job) -> str:
    """What a schedule is counted by: the expression and its zone."""
    return f"{job.schedule} {job.zone}"


def upcoming(job: Job, after: float, now: float) -> float | None:
    """When it runs next, as far as is known; None: never."""
    if job.schedule is None:
        return None
    return cron.following(job.schedule, job.zone, after if after > now else now)


def _due(agenda: plan.Agenda, world: World, name: str, job: Job) -> None:
    assert job.schedule is not None
    now = world.wall
    known = world.desired.schedules.get(name)
    if known is None or known.counted != counted(job):
        agenda.do(jobruns.Count(name, counted(job), now, cause="counted from now on"))
        return
    if known.after > now + SET_BACK:
        agenda.do(jobruns.Count(name, counted(job), now, cause="the clock was set back"))
        return
    found = cron.last_due(job.schedule, job.zone, known.after, now)
    if found is None:
        return
    due, passed = found
    runs = [run for run in world.observed.jobs if run.job == name]
    if any(run.due == due for run in runs):
        return  # it is being noted
    late = now - due
    if any(run.state == "running" for run in runs):
        agenda.do(jobruns.SkipRun(name, due, cause="another run of it is under way"))
    elif late > max(job.catch_up, IN_TIME):
        agenda.do(jobruns.SkipRun(name, due, cause=f"missed, and late by {_span(late)}"))
    elif not world.missing_stores(name):
        release = world.desired.stack
        assert release is not None
        agenda.do(jobruns.RunDue(name, release, due, cause=_cause(job, late, passed)))


def _cause(job: Job, late: float, passed: int) -> str:
    text = f"schedule {job.schedule}"
    if late > IN_TIME:
        text += f", late by {_span(late)}"
    if passed:
        many = f"{passed} or more" if passed == cron.FAR else str(passed)
        text += f", {many} before it missed"
    return text


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _note(agenda: plan.Agenda, world: World) -> None:
    """Runs by a schedule into the record; then what they leave may go."""
    for run in world.observed.jobs:
        if run.due is None:
            continue
        known = world.desired.schedules.get(run.job)
        last = 0.0 if known is None else known.due
        possible = run.due <= world.wall + SET_BACK
        if possible and run.due >= last and not _noted(world, run):
            agenda.do(jobruns.NoteRun(run.job, run.due, run.state, run.reason, cause=run.reason))
        elif run.state != "running":
            agenda.do(jobruns.ForgetRun(run.job, run.id))


def _noted(world: World, run: JobRun) -> bool:
    known = world.desired.schedules.get(run.job)
    return known is not None and (known.due, known.state) == (run.due, run.state)


def _end_all(agenda: plan.Agenda, world: World) -> None:
    """The stack is to stop: so are runs of its jobs, whoever began them."""
    for run in world.observed.jobs:
        if run.state != "running":
            continue
        if run.signalled_at is None:
            agenda.do(jobruns.EndJob(run.job, run.id, cause="down"))
            continue
        at = (run.killed_at or run.signalled_at) + GRACE
        if agenda.now >= at:
            agenda.do(jobruns.EndJob(run.job, run.id, kill=True, cause="its time to end is over"))
        else:
            agenda.wait(f"{run.id} ends", at)
