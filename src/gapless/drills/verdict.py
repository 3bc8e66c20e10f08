"""Rules over measured values that several drills share. Pure: each gives reasons why *not* held.

Counts and the order of events decide. Times are told, and decide only where strictness is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gapless.drills import figures

SLOWER = 2.0
"""Strict: p99 during a change may be so many times the p99 before it."""
EVEN = 0.20
"""A spread (max - min) / mean below this is even."""

Reasons = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the clients saw. Times in milliseconds, of complete good answers on fast routes.

    ``p99`` and ``baseline_p99`` come from open loop at the same rates; None: not measured.
    ``slow_begun`` and ``slow_done`` count requests on the slow route.
    """

    requests: int = 0
    failed: int = 0
    unknown: int = 0
    reused_failed: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    slow_begun: int = 0
    slow_done: int = 0
    handovers: int = 0
    seconds: float = 0.0
    p50: float | None = None
    p99: float | None = None
    baseline_p99: float | None = None
    sockets: figures.Sockets = field(default_factory=figures.Sockets)


def lossless(traffic: Traffic) -> Reasons:
    """No request failed, and none is in doubt; and there were some."""
    reasons = []
    if traffic.requests == 0:
        reasons.append("not one request was sent")
    if traffic.failed:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(traffic.kinds.items()))
        reasons.append(f"{traffic.failed:,} of {traffic.requests:,} requests failed ({kinds})")
    if traffic.unknown:
        reasons.append(f"{traffic.unknown:,} requests have an unknown outcome: the drill was cut")
    return tuple(reasons)


def slow_finished(traffic: Traffic) -> Reasons:
    """Every slow request got its whole answer."""
    if traffic.slow_done == traffic.slow_begun:
        return ()
    return (f"{traffic.slow_begun - traffic.slow_done} of {traffic.slow_begun} slow ones cut",)


def enough(traffic: Traffic, wanted: int) -> Reasons:
    """As many requests as were asked for: fewer prove less than was promised."""
    if traffic.requests >= wanted:
        return ()
    return (f"only {traffic.requests:,} of {wanted:,} requests were sent in the time given",)


def handed_over(traffic: Traffic) -> Reasons:
    """Something was replaced at all: without a handover nothing was put to the test."""
    return () if traffic.handovers else ("no replica was replaced",)


def sockets_told(traffic: Traffic) -> Reasons:
    """Long-lived clients were told before they lost their connection, and found a new one."""
    sockets = traffic.sockets
    reasons = []
    if sockets.dropped:
        reasons.append(f"{sockets.dropped} sockets dropped without notice")
    if sockets.refused:
        reasons.append(f"{sockets.refused} times a socket could not connect")
    if sockets.clients and not sockets.connected:
        reasons.append("no socket ever connected")
    return tuple(reasons)


def quick(traffic: Traffic, strict: bool) -> Reasons:
    """Strict: the p99 of fast routes stayed within twice what it was."""
    if not strict:
        return ()
    if traffic.p99 is None or traffic.baseline_p99 is None:
        return ("p99 was not measured",)
    if traffic.p99 <= SLOWER * traffic.baseline_p99:
        return ()
    return (
        f"p99 {traffic.p99:.1f} ms during, {traffic.baseline_p99:.1f} ms before: "
        f"more than {SLOWER:g} times",
    )


def even(name: str, counts: Iterable[int]) -> Reasons:
    """(max - min) / mean stays under 20 %."""
    values = list(counts)
    spread = figures.spread(values)
    if spread is None:
        return (f"{name}: nothing to compare",)
    if spread < EVEN:
        return ()
    return (f"{name}: spread {spread:.0%} over {sorted(values)}, {EVEN:.0%} allowed",)


def nothing(what: str, found: Iterable[str]) -> Reasons:
    """``found`` is empty; else it is listed after ``what``."""
    names = sorted(found)
    return (f"{what}: {', '.join(names)}",) if names else ()


def equal(what: str, before: object, after: object) -> Reasons:
    """The same before and after."""
    return () if before == after else (f"{what}: {before} before, {after} after",)
