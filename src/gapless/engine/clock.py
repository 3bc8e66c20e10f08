"""The one clock: CLOCK_BOOTTIME, the same for every controller until the machine reboots."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since boot, suspended time included; no jump of the wall clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> float:
    """Seconds since 1970, by a clock that may be set: for schedules and for people."""
    return time.time()


def to_unix(at: float) -> float:
    """The wall-clock time (unix seconds) of a moment of this clock."""
    return time.time() - (now() - at)
