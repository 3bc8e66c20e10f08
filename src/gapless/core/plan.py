"""Steps and plans: printable data with a cause on each step.

A step is one small act on the world, quick to do and safe to repeat. The executor knows how;
``text`` is what the user reads and what golden tests compare. Here are those on replicas; those on
another noun are where it is decided on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gapless.model.desired import Generation
from gapless.model.process import ReplicaId

TELL_AGAIN = 30.0
"""Seconds after which a store, or what is in front of replicas, is told again to stop."""


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

    def may_stop(self, name: str, told_at: float | None) -> bool:
        """Whether to tell it now: once, and again only when it seems not to have heard."""
        if told_at is None or self.now >= told_at + TELL_AGAIN:
            return True
        self.wait(f"{name} stops", told_at + TELL_AGAIN)
        return False

    def decision(self) -> Decision:
        """What was collected, frozen."""
        return Decision(tuple(self.steps), self.wake_at, tuple(self.waits))
