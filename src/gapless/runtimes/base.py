"""What the engine asks of a runtime. Capabilities are protocols of their own, never names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from gapless.model.process import Address, Bridge, Exit, Process, Signal

LOST = "lost"
"""Label of a program of ours whose record was lost: only its id and its pid are known."""


CONTAINED = "GAPLESS_CONTAINER"
"""Environment variable of all that runs in a container: ``STACK/ID/HOME``. Only for who looks
from outside: that they are ours is said by the container's labels."""


@dataclass(frozen=True, slots=True)
class Found:
    """One program that a look found: alive, or dead and not yet forgotten.

    ``exit`` is None while it lives; ``Exit()`` (neither code nor signal) when nobody saw the end.
    ``started_at`` is in seconds of CLOCK_BOOTTIME. One whose pid another program has by now is
    dead, and nothing is ever signalled by that number.
    """

    id: str
    alive: bool
    started_at: float
    labels: Mapping[str, str]
    pid: int | None = None
    address: Address | None = None
    exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one program and its descendants: cpu seconds since start, resident bytes."""

    cpu_seconds: float
    memory: int


class Runtime(Protocol):
    """Starting and ending programs. Every method is idempotent and safe to repeat."""

    async def start(self, process: Process) -> Found:
        """Start it, or return what already runs under that id.

        Returns once its identity is durably recorded; it does not wait for readiness.
        Raises RuntimeFault when it cannot be started (no such program, no permission, no room).
        """

    async def look(self) -> Sequence[Found]:
        """All programs of this stack. Programs of other stacks are never in it."""

    async def signal(self, id: str, signal: Signal | None) -> None:
        """Send it (KILL: to the whole group, stopped programs included). Already dead: no error.

        None: the one that its image says it is ended by, else TERM.
        """

    async def forget(self, id: str) -> None:
        """Drop the record of a dead program; its log stays.

        On return nothing that it started is left either. Raises RuntimeFault when it is alive, or
        when what it left cannot be ended.
        """

    async def usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        """Present use; ids that are gone are left out."""

    def address(self, id: str, kind: Literal["socket", "port"]) -> Address:
        """A fresh address for it to listen on. Raises EnvironmentFault (path too long, no port)."""

    def ended(self) -> AsyncIterator[str]:
        """Ids of programs as they end: the wake-up call of the loop."""

    async def background(self, id: str, on: bool) -> None:
        """Whether it gives way from now on. Where nothing can give way: no effect."""

    def log(self, id: str) -> Path:
        """Where its output is. The file outlives the program."""


@runtime_checkable
class SeesStandstill(Protocol):
    """Capability: it can tell a program that lives from one that lives and cannot do anything."""

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these, the living ones whose main process stands still, and how: ``stopped`` (a
        signal or a debugger holds it), ``zombie`` (it has ended, the program has not).

        Cheap enough to ask about hundreds twice a second.
        """


@runtime_checkable
class Confines(Protocol):
    """Capability: it can have the kernel keep ``Process.memory_limit`` and ``cpu_limit``."""

    def unconfined(self) -> str:
        """Why the limits of the program started last are not kept; "" when they are."""


@runtime_checkable
class ShowsHealth(Protocol):
    """Capability: whoever looks at its programs by other means than ours sees which are ready."""

    def show_health(self, ready: Mapping[str, bool]) -> None:
        """What is known now of all that live, by id. Cheap where nothing has changed."""


@runtime_checkable
class Asks(Protocol):
    """Capability: it can run a command where one of its programs is, and only there."""

    async def ask(self, id: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        """(exit code, end of its output); None and why: it had not ended after ``limit`` seconds,
        or could not be started. Asked again meanwhile, it goes on with the one that runs."""


@runtime_checkable
class Bridges(Protocol):
    """Capability: some of its programs have a network of their own, where others reach them and
    they reach this machine."""

    @property
    def bridge(self) -> Bridge | None:
        """That network, once it was opened by this instance; None: not yet, or closed again."""

    async def open_bridge(self) -> None:
        """Make it, or take up the one that is there. Idempotent. Raises RuntimeFault."""

    async def close_bridge(self) -> None:
        """Remove it, and that of stores, with what is left of dead programs: at once, or with the
        last one in it."""
