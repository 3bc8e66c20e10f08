"""What the engine asks of a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gapless.model.packed import Packed
from gapless.model.process import Bridge, Process

PROBE_SECONDS = 2.0
"""The longest that a probe takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store lives.

    ``home``: its directory in the state, kept over ``down``. ``run``: short directory for its
    socket. ``engines``: versioned copies of server programs, shared by the stores of a stack.
    ``identity``: as root, the account name the runtime maps to an unprivileged uid, else None;
    ``uid`` is that uid (files must belong to it). ``group``: as root, the gid that every program
    of the stack has among its groups, else None; what several services share belongs to it.
    ``packed``: where servers can run in containers. ``slot``: the number of its part of ``run``;
    None: the port, which is its alone but where each server has a network of its own.
    """

    home: Path
    run: Path
    engines: Path
    port: int
    password: str
    identity: str | None = None
    uid: int | None = None
    group: int | None = None
    packed: Packed | None = None
    slot: int | None = None

    @property
    def sockets(self) -> Path:
        """The store's own directory below ``run``."""
        return self.run / str(self.slot or self.port)


@dataclass(frozen=True, slots=True)
class Pending:
    """A declared thing that the running server does not follow yet.

    ``what`` is a setting or ``engine``; ``restart`` says that only a restart brings it about.
    """

    what: str
    now: str
    wanted: str
    restart: bool

    def __str__(self) -> str:
        mark = " (needs a restart)" if self.restart else ""
        return f"{self.what}: {self.now} -> {self.wanted}{mark}"


class Store(Protocol):
    """One store that we operate (external ones are only attributes). Raises DataFault."""

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        """What placeholders may ask, values with the password in them included. ``host``: how
        the machine is called by who asks; None: by who is on it."""

    def created(self) -> bool:
        """Whether it has been made (a half-made one has not)."""

    async def create(self) -> None:
        """Make it, atomically: interrupted at any point it is still not created. Idempotent."""

    def process(self, bridge: Bridge | None = None) -> Process | None:
        """The program to run; None where the store is a folder only. It listens on the loopback
        interface, and to the network of ``bridge``.

        Makes ready what a reboot or a crash took away (socket directory, stale lock file), so
        call it right before each start. Raises DataFault when it was not created.
        """

    async def probe(self) -> str:
        """ "" when it answers a real query, else the reason in words. Takes at most 2 s."""

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """(argv, env) of the store's own shell; the password travels in env only."""

    async def pending(self) -> tuple[Pending, ...]:
        """What is declared and not in force: settings, a newer engine. Changes nothing."""

    async def apply(self, *, stopped: bool = False) -> tuple[Pending, ...]:
        """Check and write the declared settings; put in force what needs no restart.

        Returns what still waits for one; it never restarts anything. ``stopped``: the server is
        down, so that a newer engine of the same major version may be taken as well. A faulty
        setting raises DataFault and nothing is changed.
        """

    def explain(self, log: str) -> str:
        """The line of the server's log (its tail) that says why it ended; "" when none does."""

    async def close(self) -> None:
        """Drop the connection that probes keep. The store stays usable."""


@runtime_checkable
class Backlog(Protocol):
    """A store that holds queues and can tell how long they are (``scale.queue``)."""

    async def backlog(self, queue: str) -> int:
        """Tasks of that queue that are not done: waiting, and taken but not acknowledged.

        ``queue`` is what follows the colon of ``scale.queue``; one that does not exist (yet)
        holds 0. Takes at most ``PROBE_SECONDS``. Raises DataFault when it cannot tell.
        """
