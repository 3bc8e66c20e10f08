"""What stores and the load balancer need of an engine of containers, beside the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gapless.model.process import Bridge, Mount


class Packed(Protocol):
    """Raises RuntimeFault."""

    async def content(self, image: str) -> str:
        """Its content (``sha256:…``), pulled where it is not here."""

    async def once(
        self, image: str, argv: Sequence[str], *, user: str, mounts: Sequence[Mount]
    ) -> tuple[int, str]:
        """Run a program to its end, without a network: (exit code, what it wrote)."""

    async def network(self) -> Bridge:
        """That of stores alone, which leads nowhere: made where it is not there."""
