"""A real controller with 200 small replicas: how long ``up`` takes, what idling and ``ps`` cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench import machine, peers

HTTP = 100
WORKERS = 100
IDLE = 20.0
PS = 11


class Many(peers.Gapless):
    """Half of them behind the load balancer, half workers."""

    name = "many replicas"

    def _file(self) -> str:
        return f"""
gapless = 1
name    = "bench"

[service.web]
run      = ["/usr/bin/python3", "-I", "-S", "tiny.py", "${{socket}}"]
replicas = {HTTP}
ready    = "/"
start    = "60s"
surge    = "all"

[service.work]
run      = ["/bin/sleep", "1000000"]
replicas = {WORKERS}
start    = "60s"
surge    = "all"

[edge]
listen = "127.0.0.1:{self.port}"
"""


def measure(say: Callable[[str], None]) -> tuple[float, float, float, float]:
    """Seconds of ``up``, percent of a core and MiB when idle, ms of ``ps`` (median)."""
    with machine.folder("many") as folder:
        stack = Many(folder)
        try:
            say(f"up with {HTTP + WORKERS} replicas")
            begun = time.monotonic()
            stack.start()
            up = time.monotonic() - begun
            say(f"{HTTP + WORKERS} replicas, idle")
            cpu, memory = idle(stack)
            times = []
            for _ in range(PS):
                begun = time.monotonic()
                stack.command("ps")
                times.append(1000 * (time.monotonic() - begun))
            return up, cpu, memory, statistics.median(times)
        finally:
            stack.stop()


def idle(stack: peers.Gapless) -> tuple[float, float]:
    """(percent of a core, MiB) of the controller with nothing to do."""
    [pid] = stack.managers()
    time.sleep(5)
    before = machine.cpu_seconds(pid)
    time.sleep(IDLE)
    return 100 * (machine.cpu_seconds(pid) - before) / IDLE, machine.memory([pid])
