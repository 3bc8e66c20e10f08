"""Steps and plans: printable data with a cause on each step.

A step is one small act on the world, quick to do and safe to repeat. The executor knows how;
``text`` is what the user reads and what golden tests compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gapless.model import cron, units
from gapless.model.desired import Generation, Hold, Phase
from gapless.model.process import ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``cause`` says why, in words; it never decides anything."""

    cause: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """What happens, without the cause."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """Replica, job or store that it acts on; ``edge`` or ``record`` where it is none."""
        for name in ("id", "job", "name"):
            if (value := getattr(self, name, None)) is not None:
                return str(value)
        return "edge"


@dataclass(frozen=True, slots=True)
class _NetworkStep(Step):
    @property
    def subject(self) -> str:
        return "network"


@dataclass(frozen=True, slots=True)
class OpenNetwork(_NetworkStep):
    """Of the programs that have one of their own; what they ask for listens there, too."""

    @property
    def text(self) -> str:
        return "network open"


@dataclass(frozen=True, slots=True)
class CloseNetwork(_NetworkStep):
    @property
    def text(self) -> str:
        return "network close"


@dataclass(frozen=True, slots=True)
class StartEdge(Step):
    @property
    def text(self) -> str:
        return "edge start"


@dataclass(frozen=True, slots=True)
class ReloadEdge(Step):
    """``config``: digest of the wanted configuration."""

    config: str

    @property
    def text(self) -> str:
        return "edge reload"


@dataclass(frozen=True, slots=True)
class ReplaceEdge(Step):
    """Another program takes over from the one that serves; done when it has."""

    config: str

    @property
    def text(self) -> str:
        return "edge replace"


@dataclass(frozen=True, slots=True)
class StopEdge(Step):
    @property
    def text(self) -> str:
        return "edge stop"


@dataclass(frozen=True, slots=True)
class _StaticStep(Step):
    @property
    def subject(self) -> str:
        return "static"


@dataclass(frozen=True, slots=True)
class StartStatic(_StaticStep):
    """Of the server of files; done when it serves."""

    @property
    def text(self) -> str:
        return "static start"


@dataclass(frozen=True, slots=True)
class ReloadStatic(_StaticStep):
    """Other folders, or another order of them; done when they are served."""

    config: str

    @property
    def text(self) -> str:
        return "static reload"


@dataclass(frozen=True, slots=True)
class TellFiles(_StaticStep):
    """Tell the edge which files are served: what it has in memory of others is no more sent."""

    config: str

    @property
    def text(self) -> str:
        return "static tell edge"


@dataclass(frozen=True, slots=True)
class StopStatic(_StaticStep):
    @property
    def text(self) -> str:
        return "static stop"


@dataclass(frozen=True, slots=True)
class SetMaintenance(Step):
    on: bool

    @property
    def text(self) -> str:
        return f"edge maintenance {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True)
class MakeCertificate(Step):
    """Without anybody else: a self-signed one, a stand-in, or the given one read."""

    certificate: str
    kind: Literal["self-signed", "stand-in", "given"]
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        if self.kind == "stand-in":
            return f"certificate {self.certificate} make a stand-in"
        return f"certificate {self.certificate} {'read' if self.kind == 'given' else 'make'}"


@dataclass(frozen=True, slots=True)
class OrderCertificate(Step):
    """Begin an order at the authority; its outcome is observed, not returned."""

    certificate: str
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"certificate {self.certificate} order"

    @property
    def subject(self) -> str:
        return f"{CERTIFICATE}{self.certificate}"


@dataclass(frozen=True, slots=True)
class InstallCertificate(Step):
    """New connections are shown it from now on; the others go on."""

    certificate: str

    @property
    def text(self) -> str:
        return f"certificate {self.certificate} put in force"

    @property
    def subject(self) -> str:
        return f"{CERTIFICATE}{self.certificate}"


CERTIFICATE = "certificate "
"""Begins the subject of steps that no rollout stands or falls with."""


@dataclass(frozen=True, slots=True)
class SetHold(Step):
    """Let requests wait at the edge, or let those go that do (None)."""

    hold: Hold | None

    @property
    def text(self) -> str:
        if self.hold is None:
            return "edge release requests"
        return f"edge hold requests for {units.format_duration(self.hold.seconds)}"


@dataclass(frozen=True, slots=True)
class Await(Step):
    """While all replicas of a service are gone requests wait (``begin``), or do no more (``end``).

    Who waits for one of the latter is told at once that nobody comes.
    """

    begin: tuple[str, ...] = ()
    end: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        begun = f"requests wait for {', '.join(self.begin)}" if self.begin else ""
        ended = f"nobody wait for {', '.join(self.end)}" if self.end else ""
        return f"edge let {' and '.join(filter(None, (begun, ended)))}"


@dataclass(frozen=True, slots=True)
class RemoveServer(Step):
    """Drop a server of the edge that belongs to no replica."""

    backend: str
    name: str

    @property
    def text(self) -> str:
        return f"edge drop {self.name}"


@dataclass(frozen=True, slots=True)
class CreateData(Step):
    name: str

    @property
    def text(self) -> str:
        return f"{self.name} create"


@dataclass(frozen=True, slots=True)
class StartData(Step):
    name: str

    @property
    def text(self) -> str:
        return f"{self.name} start"


@dataclass(frozen=True, slots=True)
class StopData(Step):
    name: str

    @property
    def text(self) -> str:
        return f"{self.name} stop"


@dataclass(frozen=True, slots=True)
class ApplyData(Step):
    """Put changed settings in force, as far as no restart is needed; the rest is told."""

    name: str

    @property
    def text(self) -> str:
        return f"{self.name} apply settings"


@dataclass(frozen=True, slots=True)
class RunJob(Step):
    """Once per rollout; its outcome is observed, not returned."""

    job: str
    rollout: int
    release: int

    @property
    def text(self) -> str:
        return f"{self.job}@r{self.release} run"


@dataclass(frozen=True, slots=True)
class RunDue(Step):
    """The run that a schedule asks for; ``due`` (seconds since 1970) names it for good."""

    job: str
    release: int
    due: float

    @property
    def text(self) -> str:
        return f"{self.job}@r{self.release} run, due {cron.show(self.due)}"


@dataclass(frozen=True, slots=True)
class EndJob(Step):
    """Ask a run of a job to end (TERM), or make it (KILL)."""

    job: str
    run: str
    kill: bool = False

    @property
    def text(self) -> str:
        return f"{self.run} {'kill' if self.kill else 'stop'}"


@dataclass(frozen=True, slots=True)
class ForgetRun(Step):
    """Clear what a run that is noted leaves. Its log stays."""

    job: str
    run: str

    @property
    def text(self) -> str:
        return f"{self.run} clear"


@dataclass(frozen=True, slots=True)
class Count(Step):
    """A job's schedule is counted from this moment on; "": it has none any more."""

    job: str
    schedule: str
    after: float

    @property
    def text(self) -> str:
        return f"{self.job} {'schedule ' + self.schedule if self.schedule else 'unschedule'}"


@dataclass(frozen=True, slots=True)
class NoteRun(Step):
    """Make durable that a run that was due has begun, or how it ended."""

    job: str
    due: float
    state: Literal["running", "succeeded", "failed", "unknown"]
    reason: str = ""

    @property
    def text(self) -> str:
        return f"{self.job} {self.state}, due {cron.show(self.due)}"


@dataclass(frozen=True, slots=True)
class SkipRun(Step):
    """What was due up to here is not going to run."""

    job: str
    due: float

    @property
    def text(self) -> str:
        return f"{self.job} skip, due {cron.show(self.due)}"


@dataclass(frozen=True, slots=True)
class StartReplica(Step):
    id: ReplicaId
    generation: Generation

    @property
    def text(self) -> str:
        return f"{self.id} start"


@dataclass(frozen=True, slots=True)
class Enter(Step):
    """Into the edge's rotation; done when the edge acknowledges it."""

    id: ReplicaId

    @property
    def text(self) -> str:
        return f"{self.id} enter edge"


@dataclass(frozen=True, slots=True)
class Leave(Step):
    """Out of the edge's rotation; done when the edge acknowledges it. It keeps its requests."""

    id: ReplicaId
    park: bool = False

    @property
    def text(self) -> str:
        return f"{self.id} leave edge{' (parked)' if self.park else ''}"


@dataclass(frozen=True, slots=True)
class Flip(Step):
    """Swap whole generations in one exchange with the edge."""

    enter: tuple[ReplicaId, ...]
    leave: tuple[ReplicaId, ...]

    @property
    def text(self) -> str:
        return (
            f"flip edge to {', '.join(map(str, self.enter))}"
            f" from {', '.join(map(str, self.leave)) or 'nothing'}"
        )


@dataclass(frozen=True, slots=True)
class Tell(Step):
    """Let it know that it is leaving: now it may ask its long-lived clients to come back.

    ``rate``: so many a second at most; None: as it likes.
    """

    id: ReplicaId
    rate: float | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        return f"{self.id} tell to send clients away"


@dataclass(frozen=True, slots=True)
class ShutSockets(Step):
    """End so many WebSockets and other tunnels at the edge, by replica; requests go on."""

    counts: tuple[tuple[ReplicaId, int], ...]

    @property
    def text(self) -> str:
        return f"edge shut sockets: {', '.join(f'{n} of {id}' for id, n in self.counts)}"


@dataclass(frozen=True, slots=True)
class Signal(Step):
    """Ask it to end (TERM)."""

    id: ReplicaId

    @property
    def text(self) -> str:
        return f"{self.id} stop"


@dataclass(frozen=True, slots=True)
class Kill(Step):
    id: ReplicaId

    @property
    def text(self) -> str:
        return f"{self.id} kill"


@dataclass(frozen=True, slots=True)
class Forget(Step):
    """Clear what a dead replica leaves: server, socket, record. Its log stays."""

    id: ReplicaId

    @property
    def text(self) -> str:
        return f"{self.id} clear"


@dataclass(frozen=True, slots=True)
class Advance(Step):
    """The rollout reaches a phase; durable before anything that follows from it."""

    rollout: int
    phase: Phase

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: {self.phase}"


@dataclass(frozen=True, slots=True)
class Undo(Step):
    """The rollout has failed: back to its base. ``culprit``: replica or job, if it was one."""

    rollout: int
    reason: str
    culprit: str = ""

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: undo"


@dataclass(frozen=True, slots=True)
class Commit(Step):
    """Every service has switched and every smoke job passed: the target is what is desired."""

    rollout: int

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: commit"


@dataclass(frozen=True, slots=True)
class Settle(Step):
    """Undone: nothing of the target is left and the base serves."""

    rollout: int

    @property
    def text(self) -> str:
        return f"rollout {self.rollout}: undone"


@dataclass(frozen=True, slots=True)
class Rescale(Step):
    """Another count for a service that follows its load; durable before it is acted upon."""

    name: str
    count: int

    @property
    def text(self) -> str:
        return f"{self.name} scale to {self.count}"


@dataclass(frozen=True, slots=True)
class EndHold(Step):
    """Its time is over: it is not wanted any more."""

    until: float

    @property
    def text(self) -> str:
        return "edge hold over"


Recorded = Advance | Undo | Commit | Settle | Rescale | Count | NoteRun | SkipRun | EndHold
"""Steps that change the record and nothing else."""
Timed = RunDue | EndJob | ForgetRun
"""Steps of schedules: no rollout stands or falls with them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, all of it independent; when to look again at the latest; what is awaited."""

    steps: tuple[Step, ...] = ()
    wake_at: float | None = None
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps to the goal, in order, as far as can be foreseen (nothing fails)."""

    batches: tuple[tuple[Step, ...], ...]
    complete: bool = True

    @property
    def steps(self) -> tuple[Step, ...]:
        """The batches in a row."""
        return tuple(step for batch in self.batches for step in batch)

    def __str__(self) -> str:
        shown = (step for step in self.steps if not isinstance(step, Forget))
        lines = [
            f"[{n}] {step.text}{', ' + step.cause if step.cause else ''}"
            for n, step in enumerate(shown, 1)
        ]
        if not self.complete:
            lines.append("… and more")
        return "\n".join(lines) if lines else "nothing to do"


@dataclass(slots=True)
class Agenda:
    """Collects one decision. Local to a call of ``reconcile``; never kept."""

    now: float
    steps: list[Step] = field(default_factory=list)
    wake_at: float | None = None
    waits: list[str] = field(default_factory=list)

    def do(self, *steps: Step) -> None:
        """To be done now."""
        self.steps.extend(steps)

    def wait(self, why: str, until: float | None = None) -> None:
        """Something is awaited; look again at ``until`` at the latest."""
        self.waits.append(why)
        if until is not None:
            self.wake_at = until if self.wake_at is None else min(self.wake_at, until)

    def decision(self) -> Decision:
        """What was collected, frozen."""
        return Decision(tuple(self.steps), self.wake_at, tuple(self.waits))
