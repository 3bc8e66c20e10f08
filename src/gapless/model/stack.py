"""The whole file as one value."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gapless.model.data import Data
from gapless.model.edge import EdgeTable
from gapless.model.service import Job, Service
from gapless.model.units import Bytes, Commands, EnvName, Model, Name, Seconds, UrlPath


class DrillTable(Model):
    """What drills may ask of your application."""

    get: tuple[UrlPath, ...] = ()
    """Fast GET paths; absent: the readiness path of the first published service."""
    post: tuple[UrlPath, ...] = ()
    """POST paths that are safe to call."""
    slow: UrlPath | None = None
    """A GET path that takes a while (2 s, say) and must finish during a deploy."""
    socketio: UrlPath | None = None
    """Path of a Socket.IO endpoint, say "/socket.io"."""
    websocket: UrlPath | None = None
    """Path of a WebSocket that may be held open, say "/ws"."""
    host: str | None = None
    """Host header, where routes need one."""
    body: Bytes = 64
    """Size of a POST body."""
    timeout: Seconds = 30.0
    """A request without a complete answer by then has failed."""


class Stack(Model):
    """Everything that ``gapless.toml`` says, overlay merged."""

    gapless: Literal[1]
    """Version of the file format."""
    name: Name
    """Name of the stack."""
    overlay: Name | None = Field(default=None, exclude=True)
    secrets: tuple[EnvName, ...] = ()
    """Names of secrets; their values come from the store or the environment."""
    env: dict[EnvName, str] = Field(default_factory=dict)
    """Environment of every service and job."""
    source: str = "."
    """Folder that is released, relative to the file."""
    include: tuple[str, ...] = ()
    """Globs of ignored files that are released all the same (built assets)."""
    setup: Commands = ()
    """Commands that make a release runnable, in its own virtual environment."""
    keep: Annotated[int, Field(ge=2, le=100)] = 5
    """How many releases are kept."""
    services: Annotated[dict[Name, Service], Field(alias="service")] = Field(default_factory=dict)
    """Programs that run for ever."""
    jobs: Annotated[dict[Name, Job], Field(alias="job")] = Field(default_factory=dict)
    """Programs that run to an end."""
    data: dict[Name, Data] = Field(default_factory=dict)
    """State that gapless operates."""
    edge: EdgeTable = EdgeTable()
    """The load balancer."""
    drill: DrillTable = DrillTable()
    """What drills may ask of your application."""

    @property
    def id(self) -> str:
        """A stack is its name + overlay: ``chat`` or ``chat-staging``."""
        return self.name if self.overlay is None else f"{self.name}-{self.overlay}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that it is published under, sorted."""
        routes = (s.route for s in self.services.values() if s.http and s.route is not None)
        found = {route.host for route in routes if route.host not in (None, "*")}
        found |= {source for source in self.edge.redirects if not source.startswith("/")}
        return tuple(sorted(host for host in found if host is not None))

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if not self.services:
            raise ValueError("needs at least one [service.NAME]")
        seen: dict[str, str] = {}
        for kind, names in (("service", self.services), ("job", self.jobs), ("data", self.data)):
            for name in names:
                if name in seen:
                    raise ValueError(f'"{name}" is both a {seen[name]} and a {kind}')
                if name in RESERVED:
                    raise ValueError(f'"{name}" is a reserved name')
                seen[name] = kind
        return self


RESERVED = frozenset({"edge", "env", "secret", "gapless", "socket", "host", "port"})
"""Names that would be ambiguous in a placeholder or in ``ps``."""
