"""One thing to start, whichever runtime starts it: a replica, a job, a store or the edge."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Stop = Literal["TERM", "INT", "QUIT", "HUP"]
"""Signals that may ask a program to end."""
Signal = Literal["TERM", "INT", "QUIT", "HUP", "KILL"]
"""Those, and the one that nobody hears."""
Nets = Literal["stack", "stores", "both"]
"""Which of a stack's networks a container is in."""


@dataclass(frozen=True, slots=True)
class ReplicaId:
    """``web.1@r12``: service, ordinal (from 1), release number; ``.2`` marks a later attempt.

    An ordinal is reused by successors; the whole is never reused while its stack lives.
    """

    service: str
    ordinal: int
    release: int
    attempt: int = 1

    def __str__(self) -> str:
        head = f"{self.service}.{self.ordinal}@r{self.release}"
        return head if self.attempt == 1 else f"{head}.{self.attempt}"

    @property
    def server(self) -> str:
        """Its name at the edge, where ``@`` is not allowed."""
        return str(self).replace("@", ":")

    @classmethod
    def parse(cls, text: str) -> ReplicaId:
        """The inverse of ``str``. Raises ValueError."""
        return _replica_id(text)


@functools.lru_cache(maxsize=4096)  # every look reads the same ones
def _replica_id(text: str) -> ReplicaId:
    name, _, version = text.partition("@r")
    service, _, ordinal = name.rpartition(".")
    release, _, attempt = version.partition(".")
    if not service:
        raise ValueError(f"not a replica: {text!r}")
    return ReplicaId(service, int(ordinal), int(release), int(attempt or "1"))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a program listens: a Unix socket path, or host and port (never both)."""

    socket: str | None = None
    host: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The inverse of ``str``."""
        if text.startswith("unix:"):
            return cls(socket=text[5:])
        host, _, port = text.rpartition(":")
        return cls(host=host, port=int(port))


@dataclass(frozen=True, slots=True)
class Bridge:
    """Where programs with a network of their own reach this machine: its address there, and that
    network (``172.18.0.0/16``)."""

    host: str
    network: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the machine, and where a program finds it."""

    source: str
    place: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """What to start. ``labels`` come back unchanged from every later look."""

    id: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    identity: str | None = None
    """As root: the account name that the runtime maps to an unprivileged uid; None: as we are."""
    address: Address | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    record_exit: bool = False
    """True: the exit code must survive the controller's death (jobs)."""
    timeout: float | None = None
    """Seconds after which a job is killed by whoever watches it."""
    log: str | None = None
    """Whose log it goes on with; None: its own."""
    background: bool = False
    """True: it gives way to what serves until ``Runtime.background`` says otherwise."""
    stop: Stop | None = None
    """The signal that asks it to end (PostgreSQL's fast shutdown is INT); None: what its image
    says, else TERM."""
    memory_limit: int | None = None
    """Bytes at which the kernel ends it, where the runtime can have that."""
    cpu_limit: float | None = None
    """Cores that it gets at most, where the runtime can have that."""
    image: str | None = None
    """What its container is made from, where it runs in one; None: what the runtime has."""
    entrypoint: tuple[str, ...] | None = None
    """Instead of the image's own; ``argv`` follows it, or is empty for the image's own command."""
    user: str | None = None
    """Who runs it within its image, as the image's people are called; None: the image's own."""
    sealed: bool = False
    """True: its image is of our making, and asks for no right and no place to write but /tmp."""
    at_machine: bool = False
    """True: its container has the machine's network and processes, and none of its own."""
    nets: Nets = "stack"
    """Which of the stack's networks its container is in; stores are in one that leads nowhere."""
    shown: float | None = None
    """Seconds that it may take to be ready, where its container is to show whether it is."""
    alias: str | None = None
    """What it is called in its network, beside its own name; where it has one of its own."""
    aliases: tuple[str, ...] = ()
    """What else it is called there."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Names that it finds at an address of its own; "host-gateway" is this machine's."""
    mounts: tuple[Mount, ...] = ()
    """What it finds of the machine, where it would not see that of itself."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: ``code`` >= 0, or ``signal`` > 0, or neither: nobody saw it."""

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    """Whether it was made to end because its timeout had passed."""
    out_of_memory: bool = False
    """Whether the kernel ended it because it reached its memory limit."""

    def __str__(self) -> str:
        if self.timed_out:
            return "stopped after its timeout"
        if self.out_of_memory:
            return "killed at its memory limit"
        if self.signal is not None:
            return f"killed by signal {self.signal}"
        return "ended unseen" if self.code is None else f"exit code {self.code}"
