"""Commands wait for what they have asked for, round after round of the loop."""

from __future__ import annotations

from collections.abc import Callable

from gapless import errors
from gapless.engine import preflight, status
from gapless.engine.controller import Controller

GIVE_UP_AFTER = 3
"""Failed starts of one slot in a row after which waiting for readiness is given up."""


async def until(c: Controller, done: Callable[[], bool]) -> None:
    """Until ``done`` after a round of the loop."""
    c.wake()
    await c.round_done()
    while not done():
        await c.round_done()


async def ready(c: Controller, services: tuple[str, ...], *, exact: bool = False) -> None:
    """Until each has as many replicas serving as wanted (``exact``: and no others left)."""
    c.wake()
    await c.round_done()
    while not status.settled(c, services, exact=exact):
        preflight.reachable(c.observed, services)
        for (name, ordinal), failures in c.observed.failures.items():
            if name in services and failures.count >= GIVE_UP_AFTER:
                raise errors.WorkFailed(
                    f"{name}: replica {ordinal} failed to start {failures.count} times: "
                    f"{failures.reason}",
                    hint=f"gapless logs {name}",
                )
        await c.round_done()
