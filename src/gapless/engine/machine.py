"""What this machine has."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from gapless.core.capacity import Limits
from gapless.core.sizing import Machine

DEFAULT_PORTS = 28_232
"""Of Linux, where it does not tell."""


def now() -> Machine:
    """Cores that we may use, memory in total and available (bytes), a cgroup's limit included."""
    facts: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        facts[name] = int(rest.split()[0]) * 1024
    memory = facts["MemTotal"]
    available = facts["MemAvailable"]
    limit = _cgroup_limit()
    if limit is not None:
        memory, available = min(memory, limit), min(available, limit)
    return Machine(len(os.sched_getaffinity(0)), memory, available)


def limits(asked: int | None = None) -> Limits:
    """What bounds connections here. ``asked``: ``[edge] max_connections``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        ports = int(high) - int(low) + 1
    except (OSError, ValueError):
        ports = DEFAULT_PORTS
    descriptors = None if hard == resource.RLIM_INFINITY else hard
    return Limits(descriptors, ports, now().available, asked)


def _cgroup_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return None
