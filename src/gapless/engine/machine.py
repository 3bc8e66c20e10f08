"""What this machine has."""

from __future__ import annotations

import os
from pathlib import Path

from gapless.core.sizing import Machine


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


def _cgroup_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return None
