"""The whole file as one value."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gapless.model.data import Data
from gapless.model.edge import EdgeTable
from gapless.model.image import Registry, RegistryName
from gapless.model.service import Job, Service
from gapless.model.tls import LOCAL, Domain, GivenCertificate, Wanted
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
    domains: Annotated[tuple[Domain, ...], Field(max_length=100)] = ()
    """Names under which the stack is public; the first one is the main one."""
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
    registries: Annotated[dict[RegistryName, Registry], Field(max_length=50)] = Field(
        default_factory=dict
    )
    """Registries that ask who pulls, say { "ghcr.io" = { user = "me", password = "TOKEN" } }."""
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
        found |= set(self.domains)
        found |= {source for source in self.edge.redirects if not source.startswith("/")}
        return tuple(sorted(host for host in found if host is not None))

    @property
    def mounted(self) -> tuple[str, ...]:
        """Parts of the source folder that containers are given as they are."""
        owners = [*self.services.values(), *self.jobs.values()]
        every = (volume.folder for one in owners for volume in one.volumes.values())
        return tuple(folder for folder in every if folder and not folder.startswith("/"))

    @property
    def passwords(self) -> tuple[str, ...]:
        """Names of the secrets that the edge asks of clients, each once."""
        tables = [*self.edge.private.values(), *(s.private for s in self.services.values())]
        every = (name for table in tables if table for name in table.login.values())
        return tuple(dict.fromkeys(every))

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the secrets that nothing goes without, each once: the programs', the edge's,
        and those of registries."""
        pulling = (registry.password for registry in self.registries.values())
        return tuple(dict.fromkeys((*self.secrets, *self.passwords, *pulling)))

    @property
    def tls(self) -> Literal["auto", "self-signed"] | GivenCertificate | None:
        """Whose certificates the edge shows; None: it speaks no TLS."""
        asked = self.edge.tls
        if asked is None:
            return "auto" if self.domains else None
        return None if asked is False else asked

    @property
    def certificates(self) -> tuple[Wanted, ...]:
        """What the edge shows; the first one to whoever asks for a strange name.

        An authority is asked for each domain by itself: one that does not point here yet keeps
        no other from its certificate.
        """
        match self.tls:
            case None:
                return ()
            case "auto":
                return tuple(Wanted(name, "issued", (name,)) for name in self.domains)
            case "self-signed":
                return (Wanted("self-signed", "self-signed", (*self.domains, *LOCAL)),)
            case GivenCertificate():
                return (Wanted("given", "given", self.domains),)

    @property
    def host(self) -> str | None:
        """The name by which the public knows it: its first domain that is one host's."""
        return next((name for name in self.domains if not name.startswith("*")), None)

    @property
    def url(self) -> str:
        """Where the public finds it."""
        return self.url_from(None)

    def url_from(self, machine: str | None) -> str:
        """Where a program finds it that calls this machine so; None: as the public does."""
        return _url(self.tls is not None, self._public, self.host or machine)

    @property
    def _public(self) -> str:
        return self.edge.listen if self.tls is None else self.edge.tls_listen

    @model_validator(mode="before")
    @classmethod
    def _public_ports(cls, value: Any) -> Any:
        """With domains it listens where the public looks for it."""
        edge = value.get("edge", {}) if isinstance(value, dict) and value.get("domains") else None
        if not isinstance(edge, dict):
            return value
        return {**value, "edge": {"listen": "*:80", "tls_listen": "*:443", **edge}}

    @model_validator(mode="after")
    def _secure(self) -> Self:
        auto = self.tls == "auto"
        problems = []
        if auto and not self.domains:
            problems.append('[edge] tls = "auto" needs domains')
        wild = [name for name in self.domains if name.startswith("*")]
        if auto and wild:
            problems.append(
                f"no certificate for {wild[0]} can be had by HTTP: name each host, "
                "or give [edge] tls = { cert, key }"
            )
        if self.edge.hsts is not None and self.tls is None:
            problems.append("[edge] hsts without TLS: say domains, or [edge] tls")
        if self.tls is not None and self.edge.listen == self.edge.tls_listen:
            problems.append("[edge] listen and tls_listen are the same")
        if len(set(self.domains)) != len(self.domains):
            problems.append("domains has a name twice")
        if problems:
            raise ValueError("; ".join(problems))
        return self

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


ANYWHERE = frozenset({"*", "0.0.0.0", "[::]"})  # noqa: S104  # compared only


def _url(secure: bool, bind: str, host: str | None) -> str:
    address, _, port = bind.rpartition(":")
    name = host or ("127.0.0.1" if address in ANYWHERE else address)
    scheme, usual = ("https", "443") if secure else ("http", "80")
    # A name without its usual port is what people write; an address is for programs.
    return f"{scheme}://{name}" + ("" if host and port == usual else f":{port}")


RESERVED = frozenset({"edge", "static", "env", "secret", "gapless", "socket", "host", "port"})
"""Names that would be ambiguous in a placeholder or in ``ps``."""
