"""Live use of cpu and memory: differences between two readings, taken when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapless.runtimes.base import Usage

if TYPE_CHECKING:
    from gapless.engine.controller import Controller

WINDOW = 60.0
"""Seconds after which an old reading says nothing about the present."""


class Meter:
    """Cores used since the reading before; 0.0 cores at the first one."""

    def __init__(self, controller: Controller) -> None:
        self.c = controller
        self._last: dict[str, tuple[float, float]] = {}

    async def read(self) -> dict[str, tuple[float, Usage]]:
        """Id to (cores, use) of all living replicas, stores and the edge."""
        ids = [str(r.id) for r in self.c.observed.replicas if r.alive]
        ids += [*self.c.observed.data, "edge"]
        usage: Mapping[str, Usage] = await self.c.site.runtime.usage(ids)
        now = time.monotonic()
        answer = {}
        for id, used in usage.items():
            at, before = self._last.get(id, (now, used.cpu_seconds))
            span = now - at
            cores = (used.cpu_seconds - before) / span if 0 < span < WINDOW else 0.0
            answer[id] = (max(0.0, cores), used)
            self._last[id] = (now, used.cpu_seconds)
        self._last = {id: known for id, known in self._last.items() if id in usage}
        return answer

    async def top(self) -> dict[str, Any]:
        """The answer of ``GET /v1/top``."""
        rows = [
            {
                "id": id,
                "service": id.partition(".")[0],
                "cpu": round(cores, 3),
                "memory": used.memory,
            }
            for id, (cores, used) in (await self.read()).items()
        ]
        return {"at": time.time(), "rows": rows}
