"""Services (run for ever) and jobs (run to an end)."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gapless.model import cron
from gapless.model.image import Alias, Program
from gapless.model.private import PrivateField
from gapless.model.process import Stop
from gapless.model.scale import Scale
from gapless.model.units import (
    Bytes,
    Command,
    EnvName,
    Model,
    Rate,
    Seconds,
    UrlPath,
    VariableName,
    show,
)

LEAST_AGE = 10.0
"""Seconds; replicas that are recycled sooner would do little else."""


class Probe(Model):
    """How a replica is asked: an HTTP path, or a command that exits 0."""

    path: UrlPath | None = None
    """HTTP path; good when it answers 2xx or 3xx."""
    command: Command | None = None
    """Command run with the service's code and environment; good when it exits 0."""
    every: Seconds = 1.0
    """Time between two probes of a serving replica."""
    timeout: Seconds = 2.0
    """A probe without an answer after this long has failed."""
    after: Annotated[int, Field(ge=1, le=100)] = 3
    """So many failed probes in a row: it gets no more traffic (ready), or is replaced (live)."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.path is None) == (self.command is None):
            raise ValueError("needs either path or command")
        return self


class Route(Model):
    """Where the edge publishes a service."""

    path: UrlPath = "/"
    """Path prefix."""
    host: Annotated[str, Field(pattern=r"^[a-z0-9*]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    """Host name; absent means every host."""


class Reserve(Model):
    """What one replica is guaranteed; the sum is checked against the machine."""

    cpu: Annotated[float, Field(gt=0)] | None = None
    """Cores."""
    memory: Bytes | None = None
    """Memory of one replica."""


class LiveProbe(Probe):
    """As ``ready``; asked of the replica itself, from when it was first ready."""

    every: Seconds = 5.0
    """Time between two probes."""


class Limits(Model):
    """What one replica may use at most."""

    cpu: Annotated[float, Field(gt=0)] | None = None
    """Cores. Enforced where the machine has cgroups to give; check says whether it does."""
    memory: Bytes | None = None
    """A replica that stays above is replaced, its successor first. Where the machine has cgroups
    to give, one that runs away faster than that is killed at a quarter more (at least 64M)."""


class Recycle(Model):
    """When a healthy replica is replaced all the same, its successor first."""

    age: Seconds | None = None
    """Once it is this old, and up to a fifth more, so that replicas do not go together."""
    requests: Annotated[int, Field(ge=1)] | None = None
    """Once it has answered so many requests, and up to a fifth more."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.age is None and self.requests is None:
            raise ValueError("needs age or requests")
        if self.age is not None and self.age < LEAST_AGE:
            raise ValueError(f"age must be at least {LEAST_AGE:g} s")
        return self


def _probe(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _route(value: Any) -> Any:
    if value is False:
        return None
    return {"path": value} if isinstance(value, str) else value


WORDS = ("release", "after-release", "manual")


def _when(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a word or a schedule, got {show(value)}")
    if value in WORDS:
        return value
    if len(value.split()) < 2:
        words = ", ".join(f'"{word}"' for word in WORDS)
        near = difflib.get_close_matches(value, WORDS, 1)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(
            f'must be {words} or a schedule such as "0 3 * * *", got {show(value)}{meant}'
        )
    return cron.parse(value)


When = Annotated[
    str,
    BeforeValidator(
        _when,
        json_schema_input_type=Literal["release", "after-release", "manual"]
        | Annotated[str, Field(pattern=r"^\s*\S+(\s+\S+){4}\s*$")],
    ),
]
ProbeField = Annotated[Probe, BeforeValidator(_probe, json_schema_input_type=UrlPath | Probe)]
LiveField = Annotated[
    LiveProbe, BeforeValidator(_probe, json_schema_input_type=UrlPath | LiveProbe)
]


class Service(Program):
    """A program that runs for ever, in one or more replicas."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | Literal["cpus"] = 1
    """How many replicas run; "cpus" for one a core."""
    singleton: bool = False
    """At most one in the whole deployment; replaced stop-first."""
    cwd: str | None = None
    """Working directory, relative to the source folder."""
    env: dict[VariableName, str] = Field(default_factory=dict)
    """Environment of this service alone, over the common one."""
    secrets: tuple[EnvName, ...] | None = None
    """Names of the secrets this service sees; absent: all of the root's."""
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """A fixed port that the program listens on by itself; one replica only, but with an image."""
    aliases: tuple[Alias, ...] = ()
    """What containers of the stack call it beside its own name."""
    route: Annotated[
        Route | None,
        BeforeValidator(_route, json_schema_input_type=UrlPath | Literal[False] | Route),
    ] = Route()
    """Where an HTTP service is published: a path, { host, path }, or false to keep it private."""
    private: PrivateField | None = None
    """Who may see a published service: as edge.private, whatever its route; other services may."""
    sticky: Literal["cookie"] | None = None
    """"cookie": a client stays with its replica as long as that replica is ready."""
    ready: ProbeField | None = None
    """Readiness, the gate of traffic and deploys: a path, { path, … } or { command }."""
    live: LiveField | None = None
    """Liveness, asked of the replica itself; failing, it is replaced. Absent: its process exists
    and is not stopped. Never made of ready: a lost database is no reason to restart."""
    start: Seconds = 30.0
    """A replica that is not ready this long after its start has failed."""
    drain: Seconds = 30.0
    """How long work in flight may take to finish once the replica gets no new work."""
    goodbye: Rate = 200.0
    """So many long connections a second are sent away at most, where drain leaves the time."""
    grace: Seconds = 10.0
    """Time between TERM and KILL (HTTP services; others finish their work within drain)."""
    signal: Stop | None = None
    """What asks a replica to end: "TERM", "INT", "QUIT" or "HUP". Without it: what its image says
    (nginx QUIT, PostgreSQL INT), else TERM."""
    watch: Seconds = 5.0
    """A new replica must serve this long without a run of bad answers before an old one goes."""
    surge: Annotated[int, Field(ge=1, le=1000)] | Literal["all"] = 1
    """How many new replicas start at once during a deploy."""
    switch: Literal["rolling", "atomic"] = "rolling"
    """"atomic": all replicas change at one instant, for versions that cannot serve together.

    Bad answers of a new version are bounded less tightly than in a rolling deploy (20 in all):
    by a run of 5 for each replica and those in flight at that moment; then the old ones serve on.
    """
    timeout: Seconds = 60.0
    """The edge waits this long for an answer."""
    protocol: Literal["http/1.1", "h2"] = "http/1.1"
    """"h2": replicas speak HTTP/2 without TLS (gRPC), and HTTP/1.1 too where ready is a path."""
    tunnel: Seconds | None = None
    """A WebSocket on which nothing is said for so long is closed; absent: after a day."""
    body: Bytes | None = None
    """Largest body of a request; larger ones get 413. Absent: edge.body."""
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests and WebSockets that one replica gets at a time; more wait at the edge."""
    queue: Seconds = 5.0
    """Who waits longer than this for a replica gets 503 and Retry-After."""
    queue_length: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """So many wait, for all replicas together; who comes then gets 503 and Retry-After at once."""
    wait: Annotated[Seconds, Field(le=60)] = 20.0
    """While all its replicas are gone requests wait at the edge for one, so long at most."""
    reserve: Reserve = Reserve()
    """Guaranteed cpu and memory of one replica."""
    limits: Limits = Limits()
    """The most cpu and memory of one replica."""
    recycle: Recycle | None = None
    """Replace replicas by age or number of requests, without a gap."""
    scale: Scale | None = None
    """Replicas follow the load, from replicas up to scale.max; absent: a fixed number."""

    @property
    def http(self) -> bool:
        """Whether the edge stands before it (stackfile.md, rule 2)."""
        if self.port is not None:
            return True
        return any(
            mark in text
            for text in (*self.run, *self.env.values())
            for mark in ("${socket}", "${port}")
        )

    @property
    def cpu_base(self) -> float | None:
        """Cores that ``scale.cpu`` is a percentage of."""
        return self.limits.cpu if self.reserve.cpu is None else self.reserve.cpu

    @property
    def memory_base(self) -> int | None:
        """Bytes that ``scale.memory`` is a percentage of."""
        return self.limits.memory if self.reserve.memory is None else self.reserve.memory

    def count(self, cpus: int) -> int:
        """How many replicas the table asks for, on a machine of so many cores."""
        return cpus if self.replicas == "cpus" else self.replicas

    def bounds(self, cpus: int) -> tuple[int, int]:
        """Fewest and most replicas that ``scale`` allows; without it both are their number."""
        count = self.count(cpus)
        if self.scale is None:
            return count, count
        fewest = count if self.scale.min is None else self.scale.min
        return min(fewest, self.scale.max), self.scale.max

    @model_validator(mode="after")
    def _logical(self) -> Self:
        problems = []
        if self.singleton and self.replicas not in (0, 1):
            problems.append("singleton and replicas contradict each other")
        if self.sticky and not self.http:
            problems.append(
                "sticky needs an HTTP service (one whose run uses ${socket} or ${port})"
            )
        if self.ready is not None and self.ready.path and not self.http:
            problems.append("ready is a path, but no HTTP server is declared: use { command }")
        if self.live is not None and self.live.path and not self.http:
            problems.append("live is a path, but no HTTP server is declared: use { command }")
        if self.recycle is not None and self.recycle.requests is not None and not self.http:
            problems.append("recycle.requests needs an HTTP service: the edge counts them")
        problems += self._edge_faults()
        for key in ("cpu", "memory"):
            least, most = getattr(self.reserve, key), getattr(self.limits, key)
            if least is not None and most is not None and most < least:
                problems.append(f"limits.{key} is less than reserve.{key}")
        if self.port is not None and not self.packed and self.replicas not in (0, 1):
            problems.append("a fixed port allows one replica: use ${port} in run instead")
        if self.protocol != "http/1.1" and not self.http:
            problems.append("protocol needs an HTTP service")
        if self.switch == "atomic" and self.singleton:
            problems.append("switch = atomic and singleton contradict each other")
        problems += self._scale_faults()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _edge_faults(self) -> list[str]:
        """What is asked of the edge for a service that it does not know."""
        needs = "needs an HTTP service (one whose run uses ${socket} or ${port})"
        asked = ("private", "tunnel", "body", "concurrency", "wait", "queue", "queue_length")
        given = [key for key in asked if key in self.model_fields_set]
        if not self.http:
            return [f"{key} {needs}" for key in given]
        if self.private is not None and self.route is None:
            return ["private is about who may ask from outside, and nobody may: route = false"]
        if self.concurrency is None:
            return [f"{key} needs concurrency" for key in given if key.startswith("queue")]
        return []

    def _scale_faults(self) -> list[str]:
        """What of ``scale`` contradicts the rest of the table."""
        scale = self.scale
        if scale is None:
            return []
        faults = []
        if self.singleton:
            faults.append("scale and singleton contradict each other")
        if self.port is not None and not self.packed:
            faults.append("scale needs more replicas than a fixed port allows: use ${port} in run")
        if self.replicas != "cpus":
            if scale.max < self.replicas:
                faults.append(f"scale.max is {scale.max} and replicas {self.replicas}")
            if scale.min is not None and scale.min > self.replicas:
                faults.append(f"scale.min is {scale.min} and replicas {self.replicas}")
            if self.replicas == 0 and scale.queue is None:
                faults.append("scale from replicas = 0 needs a queue: nothing else can wake it")
        if not self.http:
            asked = [k for k in ("rps", "connections", "latency") if getattr(scale, k) is not None]
            faults += [
                f"scale.{key} needs an HTTP service (one whose run uses ${{socket}} or ${{port}})"
                for key in asked
            ]
        for key, base in (("cpu", self.cpu_base), ("memory", self.memory_base)):
            if getattr(scale, key) is not None and base is None:
                of = f"reserve.{key} or limits.{key}"
                faults.append(f"scale.{key} is a percentage of {of}: neither is there")
        return faults


class Job(Program):
    """A program that runs to an end."""

    when: When = "manual"
    """"release": once a deploy, before traffic. "after-release": smoke test; failing, it undoes.

    "manual": by gapless run alone. Five fields such as "0 3 * * *": by that schedule (cron).
    """
    zone: Annotated[str, AfterValidator(cron.parse_zone)] = "UTC"
    """The time zone of a schedule, such as "Europe/Berlin"."""
    catch_up: Seconds = 86_400.0
    """A scheduled run that was missed begins once, late, if it is late by no more than this."""
    timeout: Seconds = 600.0
    """A job that runs longer has failed."""
    reversible: bool = True
    """false: a rollback past this release job asks first."""
    cwd: str | None = None
    """Working directory, relative to the source folder."""
    env: dict[VariableName, str] = Field(default_factory=dict)
    """Environment of this job alone, over the common one."""
    secrets: tuple[EnvName, ...] | None = None
    """Names of the secrets this job sees; absent: all of the root's."""

    @property
    def schedule(self) -> str | None:
        """Its cron expression; None for a job that no clock starts."""
        return None if self.when in WORDS else self.when

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if self.schedule is None:
            given = [key for key in ("zone", "catch_up") if key in self.model_fields_set]
            if given:
                raise ValueError("; ".join(f"{key} is of a schedule alone" for key in given))
        return self
