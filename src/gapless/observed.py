"""What one look at the world found. Times are seconds of CLOCK_BOOTTIME, shared across restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gapless.model.desired import Generation
from gapless.model.front import Claim
from gapless.model.process import Address, Bridge, Exit, ReplicaId


@dataclass(frozen=True, slots=True)
class EdgeServer:
    """One server of the load balancer.

    ``admin``: what we told it. ``up``: what its own checks say. ``tripped``: taken out by a run
    of bad answers. ``in_flight``: current sessions plus queued, over all edge workers.
    """

    name: str
    backend: str
    admin: Literal["ready", "drain", "maint"]
    up: bool = False
    in_flight: int = 0
    tripped: bool = False
    served: int = 0
    bad: int = 0
    check: str = ""
    latency: float = 0.0
    """Mean seconds from a request's arrival to the answer's head, over the last 1024 requests."""

    @property
    def takes_work(self) -> bool:
        """Whether new requests can reach it."""
        return self.admin == "ready" and self.up


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica, alive or dead and not yet forgotten."""

    id: ReplicaId
    generation: Generation
    alive: bool
    started_at: float
    address: Address | None = None
    pid: int | None = None
    exit: Exit | None = None
    ready: bool = False
    ready_since: float | None = None
    """Start of the present unbroken readiness."""
    ever_ready: bool = False
    asked: bool = True
    """False: this controller, just begun, has had no answer from it yet."""
    probe: str = ""
    """The last probe in words, for reasons: ``GET /health/ready: 503, "db: refused"``."""
    server: EdgeServer | None = None
    entered_at: float | None = None
    """When the edge last acknowledged it as ready; None: never, or out again."""
    left_at: float | None = None
    """When the edge acknowledged that it gets no new work."""
    sockets: int | None = None
    """WebSockets and other tunnels that the edge still carries to it; None: nobody asked."""
    told_at: float | None = None
    """When it was told that it is leaving."""
    told_sockets: int | None = None
    """How many sockets it had when it was told."""
    told_rate: float | None = None
    """Sockets a second that it was asked not to exceed."""
    shut_at: float | None = None
    """When the edge last shut some of its sockets."""
    signalled_at: float | None = None
    killed_at: float | None = None
    cores: float | None = None
    """Mean use between the last two samples; None: not sampled twice yet."""
    memory: int | None = None
    """Resident bytes of it and its descendants; None: not sampled yet."""
    memory_low: int | None = None
    """Least of the last samples of memory; None: too few to call it lasting."""
    frozen_since: float | None = None
    """When it was first seen to stand still (stopped by a signal, or a zombie); None: it runs."""
    live_failed_since: float | None = None
    """When its liveness probe was judged to have failed; None: it is live, or not asked."""
    live: str = ""
    """The last liveness probe in words."""


@dataclass(frozen=True, slots=True)
class EdgeForm:
    """What no reload changes of a running load balancer: for another one, another program is
    started beside it.

    ``image``: the content that it runs in; "": it is a program of the machine. ``low``: addresses
    that it may not listen at by itself.
    """

    image: str = ""
    low: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Edge:
    """``config`` is the digest of the configuration that the running edge was started with."""

    state: Literal["absent", "starting", "running", "dead"] = "absent"
    pid: int | None = None
    program: str = "edge"
    """Its id, as the runtime knows it."""
    config: str = ""
    public: tuple[str, ...] = ()
    """Addresses where it listens for the public, as the stack file has them."""
    form: EdgeForm = EdgeForm()
    heir_since: float | None = None
    """When another program was started that is to take over and has not yet; None: none was."""
    maintenance: bool = False
    held_until: float | None = None
    """Requests wait there until then (seconds since 1970); None: they pass."""
    awaited: frozenset[str] = frozenset()
    """Services for whose replicas requests wait while all are gone."""
    files: str = ""
    """Digest of the files that it may keep in memory, as it was told last; "": none."""
    stopping_at: float | None = None
    """When it was told to stop; None once it has."""
    servers: Mapping[str, EdgeServer] = field(default_factory=dict)
    """By server name; also those that belong to no replica."""
    uneasy: bool = False
    """Bad answers have just begun: the next look is worth having soon."""


@dataclass(frozen=True, slots=True)
class Front:
    """The front that stacks share, as far as this one has to do with it.

    ``claim``: what the stack has taken; without one nobody looked further than whether it runs.
    """

    state: Literal["absent", "starting", "running", "dead"] = "absent"
    pid: int | None = None
    claim: Claim | None = None
    entered: bool = False
    """Whether the running front passes on exactly what is claimed."""
    stale: str = ""
    """Why the running front needs a reload; "": it needs none."""
    others: tuple[str, ...] = ()
    """The other stacks that share it."""
    finishing: bool = False
    """Whether it still has connections from before it gave up this stack's addresses; told only
    of a stack that has withdrawn."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that the edge is to show. Moments are seconds since 1970, of the file in force."""

    name: str
    kind: Literal["", "self-signed", "stand-in", "given", "issued"] = ""
    """"": no file is there."""
    names: tuple[str, ...] = ()
    issuer: str = ""
    serial: int = 0
    starts_at: float = 0.0
    ends_at: float = 0.0
    served: int | None = None
    """Serial number of the one that the edge shows; None: not known."""
    fresh: bool = False
    """A newer one, verified, waits to be put in force."""
    asked: bool = False
    """Somebody wants another one."""
    ordering: bool = False
    failures: Failures | None = None
    """Of orders, or of reading it, in a row."""


@dataclass(frozen=True, slots=True)
class Static:
    """The server of files. ``config``: digest of what it serves; "" while it does not answer."""

    state: Literal["absent", "starting", "running", "dead"] = "absent"
    pid: int | None = None
    config: str = ""
    stopping_at: float | None = None
    """When it was told to stop; None once it has."""


@dataclass(frozen=True, slots=True)
class DataNode:
    """A store. ``absent``: never created."""

    name: str
    type: str
    state: Literal["absent", "stopped", "starting", "ready", "failed"]
    address: str = ""
    pid: int | None = None
    role: str = "primary"
    reason: str = ""
    failures: int = 0
    """Ends in a row without having been ready."""
    ended_at: float | None = None
    stopping_at: float | None = None
    """When it was last told to stop; None once it has."""
    served: bool = True
    """Whether a program of ours serves it: none does files, or what is elsewhere."""
    stale: bool = False
    """Its table has changed since the server was told: settings may be put in force."""


RunState = Literal["running", "succeeded", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class JobRun:
    """A run of a job. ``unknown``: it ended and nobody saw how."""

    job: str
    rollout: int
    """Of a rollout: its number. 0: by a schedule. Negative: a one-off, by hand."""
    state: RunState
    reason: str = ""
    id: str = ""
    release: int = 0
    due: float | None = None
    """By a schedule: the moment (seconds since 1970) that it was due at."""
    signalled_at: float | None = None
    killed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """Ends of a slot's replicas (service, ordinal) in a row without having been ready long."""

    count: int
    last_at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A number at a time: a recommended count, or by how many a count was changed (signed)."""

    at: float
    count: int


@dataclass(frozen=True, slots=True)
class Measure:
    """What was found for one target of ``scale``: ``wanted`` replicas, as ``measured`` is so.

    Both figures are in the unit of the target: whole percent (cpu, memory), seconds (latency),
    or a figure of one replica. ``wanted`` None: it cannot be told, see ``fault``.
    """

    metric: str
    target: float
    measured: float = 0.0
    wanted: int | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What one service's load asks for.

    ``wanted``: the recommendation of ``measures`` together; None: none can be made.
    ``earlier``: those before it. ``changes``: what became of them.
    """

    at: float
    measures: tuple[Measure, ...]
    wanted: int | None
    earlier: tuple[Moment, ...] = ()
    changes: tuple[Moment, ...] = ()


Slot = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that decisions may know of the world."""

    replicas: tuple[Replica, ...] = ()
    bridge: Bridge | None = None
    """The network of programs that have one of their own; None: it is not open."""
    edge: Edge = Edge()
    front: Front = Front()
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    static: Static = Static()
    data: Mapping[str, DataNode] = field(default_factory=dict)
    jobs: tuple[JobRun, ...] = ()
    failures: Mapping[Slot, Failures] = field(default_factory=dict)
    attempts: Mapping[tuple[str, int, int], int] = field(default_factory=dict)
    """(service, ordinal, release) to the highest attempt number ever used."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Subject (replica, job, store, certificate or ``edge``) to why its last step failed."""
    loads: Mapping[str, Load] = field(default_factory=dict)
    """By service, of those that follow their load."""
    cpus: int = 1

    @property
    def programless(self) -> bool:
        """Whether no program of the stack is left: none runs, and no replica is to be cleared."""
        stores = any(n.served and n.state in ("starting", "ready") for n in self.data.values())
        jobs = any(run.state == "running" for run in self.jobs)
        servers = {self.edge.state, self.static.state} & {"starting", "running"}
        return not (self.replicas or stores or jobs or servers)
