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
    draw = zlib.crc32(f"{slot[0]}.{slot[1]}.{failures.count}".encode()) % 1000 / 1000
    return failures.last_at + delay * (1 + 0.2 * draw)
