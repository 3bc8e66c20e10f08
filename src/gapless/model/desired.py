"""What is wanted of the stack right now: the one small durable record.

Written by atomic rename before anything is done about it. The journal explains; this decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["up", "deploy", "rollback", "restart"]
Phase = Literal["release-jobs", "rolling", "smoke", "undoing"]


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """Which release a service runs, and which restart of it (epoch counts restarts)."""

    release: int
    epoch: int = 0

    def __str__(self) -> str:
        return f"r{self.release}" if not self.epoch else f"r{self.release}+{self.epoch}"


Vector = Mapping[str, Generation]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A change under way: from ``base`` to ``target``; only the services in ``target`` move.

    ``order`` lists the services in the order they switch; ``release_jobs`` and ``smoke_jobs``
    run before and after, with the code of the release ``stack``.
    """

    id: int
    kind: Kind
    base: Vector
    target: Vector
    order: tuple[str, ...]
    phase: Phase
    stack: int
    """The release whose edge, data and job tables apply once committed."""
    removed: tuple[str, ...] = ()
    """Services that the target no longer has; they serve until the commit."""
    release_jobs: tuple[str, ...] = ()
    smoke_jobs: tuple[str, ...] = ()
    park: bool = True
    """False: no room for old and new together, undo means restart."""
    surge_all: bool = False
    rehearsal: bool = False
    """A drill's: it leaves no trace in what ``rollback`` goes back to."""
    inputs: str = ""
    """Digest of the secrets that its replicas get."""
    reason: str = ""
    """Why it is being undone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last rollout ended."""

    id: int
    kind: Kind
    held: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What was in force before a commit."""

    vector: Vector
    stack: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How far the schedule of one job is dealt with. Moments are seconds since 1970.

    ``state``, ``due`` and ``reason`` are of its last run; "": it has none.
    """

    counted: str
    """The schedule (and zone) that it is counted by; another one is counted anew. "": none."""
    after: float
    """What was due up to here has run, was skipped, or never was wanted."""
    due: float = 0.0
    state: Literal["", "running", "succeeded", "failed", "unknown"] = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Requests wait at the edge ``until`` a moment (seconds since 1970, to the millisecond).

    ``seconds``: how long that is in all, and ``begun`` (CLOCK_BOOTTIME) since when: somebody may
    set the clock meanwhile.
    """

    until: float
    seconds: float
    begun: float | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """The record. ``running`` False: everything is to stop (data kept)."""

    running: bool = False
    vector: Vector = field(default_factory=dict)
    stack: int | None = None
    """The release whose edge and data tables are in force."""
    rollout: Rollout | None = None
    outcome: Outcome | None = None
    scale: Mapping[str, int] = field(default_factory=dict)
    """Replica counts set by hand, until the next deploy."""
    auto: Mapping[str, int] = field(default_factory=dict)
    """Replica counts that followed the load, of services whose table has ``scale``."""
    stopped: tuple[str, ...] = ()
    maintenance: bool = False
    hold: Hold | None = None
    """Requests are to wait at the edge; one whose time is over means nothing any more."""
    edge_epoch: int = 0
    """Counts restarts of the edge by hand: another one takes over."""
    previous: Past | None = None
    """What ``rollback`` without an argument goes back to."""
    inputs: str = ""
    """Digest of the secrets that what runs has got: a changed one is a reason to deploy."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """By job."""
    proven: tuple[str, ...] = ()
    """Drills that have held on this stack, of those that something waits for."""
    shown: tuple[int, ...] = ()
    """Releases whose pages clients may have, the last one first: their files are still served."""
    counter: int = 0
    """Source of rollout ids and epochs; only grows."""

    @property
    def needed(self) -> set[int]:
        """Releases that run or would start again, and those that ``rollback`` goes back to."""
        found = {self.stack, *(gen.release for gen in self.vector.values())}
        if self.previous is not None:
            found |= {self.previous.stack, *(g.release for g in self.previous.vector.values())}
        return {number for number in found if number is not None}
