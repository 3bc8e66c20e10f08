"""The scratch stack of ``connections``: replicas that share a room, and the store it needs."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from gapless.core import goodbye
from gapless.drills import frames, ports, probe_sockets, scratch

REPLICAS = 3
RATE = 200.0
"""Goodbyes a second."""
SHORTEST = 10
"""Seconds of drain time at least."""


@dataclass(frozen=True, slots=True)
class Source:
    """See ``scratch.Source``. ``connections``: so many are to leave within the drain time."""

    connections: int
    rate: float = RATE
    mode: str = "good"
    watch: str = "3s"
    ground: scratch.Ground = scratch.MACHINE

    @property
    def drain(self) -> int:
        """Seconds; half as much again to spare, for machines that have other work besides."""
        return max(SHORTEST, math.ceil(1.5 * goodbye.needed(self.connections, self.rate)))

    def write(self, folder: Path, name: str) -> None:
        """The stack file and the package of the probe service."""
        package = folder / "probe"
        package.mkdir(exist_ok=True)
        for module in (frames, probe_sockets):
            shutil.copyfile(str(module.__file__), package / Path(str(module.__file__)).name)
        (package / "__init__.py").write_text("", encoding="utf-8")
        (folder / "mode").write_text(f"{self.mode}\n", encoding="utf-8")
        ground = self.ground
        text = f"""\
gapless = 1
name = "{name}"

[service.web]
{ground.run("-m", "probe.probe_sockets", "--socket", "${socket}")}\
replicas = {REPLICAS}
env = {{ PROBE_URL = "${{room.url}}", PYTHONDONTWRITEBYTECODE = "1" }}
ready = {{ path = "/ready", every = "500ms" }}
start = "{ground.start("20s")}"
watch = "{self.watch}"
drain = "{self.drain}s"
goodbye = "{self.rate:g}/s"
surge = "all"

[data.room]
type = "redis"

[edge]
listen = "127.0.0.1:{ports.reserve()}"
{ground.front()}
[drill]
get = ["/"]
websocket = "/ws"
"""
        (folder / scratch.FILE).write_text(text, encoding="utf-8")
