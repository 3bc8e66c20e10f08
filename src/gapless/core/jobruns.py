"""Steps about runs of jobs; ``rollout`` and ``schedule`` decide on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gapless.core import plan
from gapless.model import cron


@dataclass(frozen=True, slots=True)
class RunStep(plan.Step):
    """On the program of a job's run."""

    job: str


@dataclass(frozen=True, slots=True)
class RunJob(RunStep):
    """Once per rollout; its outcome is observed, not returned."""

    rollout: int
    release: int

    @property
    def text(self) -> str:
        return f"{self.job}@r{self.release} run"


@dataclass(frozen=True, slots=True)
class RunDue(RunStep):
    """The run that a schedule asks for; ``due`` (seconds since 1970) names it for good."""

    release: int
    due: float

    @property
    def text(self) -> str:
        return f"{self.job}@r{self.release} run, due {cron.show(self.due)}"


@dataclass(frozen=True, slots=True)
class EndJob(RunStep):
    """Ask a run of a job to end (TERM), or make it (KILL)."""

    run: str
    kill: bool = False

    @property
    def text(self) -> str:
        return f"{self.run} {'kill' if self.kill else 'stop'}"


@dataclass(frozen=True, slots=True)
class ForgetRun(RunStep):
    """Clear what a run that is noted leaves. Its log stays."""

    run: str

    @property
    def text(self) -> str:
        return f"{self.run} clear"


@dataclass(frozen=True, slots=True)
class Count(plan.Step):
    """A job's schedule is counted from this moment on; "": it has none any more."""

    job: str
    schedule: str
    after: float

    @property
    def text(self) -> str:
        return f"{self.job} {'schedule ' + self.schedule if self.schedule else 'unschedule'}"


@dataclass(frozen=True, slots=True)
class NoteRun(plan.Step):
    """Make durable that a run that was due has begun, or how it ended."""

    job: str
    due: float
    state: Literal["running", "succeeded", "failed", "unknown"]
    reason: str = ""

    @property
    def text(self) -> str:
        return f"{self.job} {self.state}, due {cron.show(self.due)}"


@dataclass(frozen=True, slots=True)
class SkipRun(plan.Step):
    """What was due up to here is not going to run."""

    job: str
    due: float

    @property
    def text(self) -> str:
        return f"{self.job} skip, due {cron.show(self.due)}"


Timed = RunDue | EndJob | ForgetRun
"""Steps of schedules: no rollout stands or falls with them."""
