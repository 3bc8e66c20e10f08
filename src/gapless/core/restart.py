"""Back-off of restarts: 1, 2, 4 … 60 s, spread a little so that replicas do not march in step.

Only ends without having been ready count; a replica that had been ready restarts at once.
"""

from __future__ import annotations

import zlib

from gapless.observed import Failures, Slot

CAP = 60.0
"""Seconds."""
STEADY_AFTER = 10.0
"""Seconds of readiness after which an end counts as a first one again."""


def not_before(slot: Slot, failures: Failures | None) -> float:
    """When a slot may be filled again, in the clock of ``failures.last_at``; 0.0: now.

    The spread is -0 … +20 %, drawn from slot and count: the same inputs give the same answer.
    """
    if failures is None or failures.count == 0:
        return 0.0
    delay = min(CAP, 2.0 ** (failures.count - 1))
    return failures.last_at + delay * (1 + spread(f"{slot[0]}.{slot[1]}.{failures.count}"))


def spread(name: str) -> float:
    """From 0 to 0.2, always the same for one name: what keeps replicas from marching in step."""
    return 0.2 * (zlib.crc32(name.encode()) % 1000 / 1000)
