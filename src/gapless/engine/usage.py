"""Live use of cpu and memory, and queues, as ``ps`` and ``top`` show them, by name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapless import errors
from gapless.edge import programs
from gapless.engine import clock
from gapless.engine import traffic as numbers
from gapless.engine.vitals import Vitals

if TYPE_CHECKING:
    from gapless.engine.controller import Controller


LATELY = 10.0
"""Seconds of which ``top`` tells the traffic."""


async def top(c: Controller) -> dict[str, Any]:
    """The answer of ``GET /v1/top``: replicas, stores by their name, and the edge."""
    found = None
    with contextlib.suppress(errors.UsageError):
        found = await traffic(c, LATELY)
    return {
        "at": time.time(),
        "traffic": found,
        "rows": [_row(id, signs) for id, signs in (await c.vitals.read()).items()],
        "backlogs": {
            name: tasks for name in c.desired.vector if (tasks := backlog(c, name)) is not None
        },
    }


async def traffic(c: Controller, seconds: float) -> dict[str, Any]:
    """The answer of ``GET /v1/traffic``. Raises UsageError where nothing is written down."""
    stack = None if c.desired.stack is None else c.site.readable(c.desired.stack)
    if stack is None or not stack.edge.access_log:
        raise errors.UsageError(
            "traffic: there is no access log", hint="[edge] access_log = true, and gapless deploy"
        )
    if not 0 < seconds <= numbers.LONGEST:
        raise errors.UsageError(f"traffic: seconds must be above 0, {numbers.LONGEST:g} at most")
    routes = {
        name: f"{service.route.host or ''}{service.route.path}"
        for name, service in stack.services.items()
        if service.http and service.route is not None
    }
    log = c.site.runtime.log("edge")
    return await asyncio.to_thread(numbers.report, log, seconds, clock.wall(), routes)


def backlog(c: Controller, name: str) -> int | None:
    """Tasks in the queue that a service follows; None without one, or when it cannot be told."""
    table = None if c.world is None else c.world.service(name, c.desired.vector.get(name))
    return None if table is None else c.demand.backlog(table)


def _row(id: str, signs: Vitals) -> dict[str, Any]:
    name = id.removeprefix("data.")
    service = name.partition(".")[0]
    return {
        "id": service if service == programs.ID else name,
        "service": service,
        "cpu": round(signs.cores or 0.0, 3),
        "memory": signs.memory,
    }


def living(c: Controller) -> tuple[str, ...]:
    """Ids, as the runtime knows them, of all programs that the last look found alive."""
    seen = c.observed
    ids = [str(r.id) for r in seen.replicas if r.alive]
    ids += [f"data.{node.name}" for node in seen.data.values() if node.pid is not None]
    beside = {seen.edge.program: seen.edge.pid, "static": seen.static.pid}
    return (*ids, *(name for name, pid in beside.items() if pid is not None))


def rounded(signs: Mapping[str, Vitals], id: str) -> tuple[float | None, int | None]:
    """Cores and bytes of one program for people; cores are 0.0 until they can be known."""
    known = signs.get(id)
    if known is None:
        return None, None
    return round(known.cores or 0.0, 3), known.memory
