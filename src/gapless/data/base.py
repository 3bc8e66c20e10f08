"""What the engine asks of a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gapless.model.process import Process


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store lives.

    ``home``: its directory in the state, kept over ``down``. ``run``: short directory for its
    socket. ``engines``: versioned copies of server programs, shared by the stores of a stack.
    ``identity``: as root, the account name the runtime maps to an unprivileged uid, else None;
    ``uid`` is that uid (files must belong to it).
    """

    home: Path
    run: Path
    engines: Path
    port: int
    password: str
    identity: str | None = None
    uid: int | None = None


class Store(Protocol):
    """One store that we operate (external ones are only attributes). Raises DataFault."""

    def attributes(self) -> Mapping[str, str]:
        """What placeholders may ask, values with the password in them included."""

    def created(self) -> bool:
        """Whether it has been made (a half-made one has not)."""

    async def create(self) -> None:
        """Make it, atomically: interrupted at any point it is still not created. Idempotent."""

    def process(self) -> Process | None:
        """The program to run; None where the store is a folder only."""

    async def probe(self) -> str:
        """ "" when it answers a real query, else the reason in words. Takes at most 2 s."""

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """(argv, env) of the store's own shell; the password travels in env only."""
