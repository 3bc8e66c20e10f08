"""What a blow cost the clients: failures sorted by whether another replica could have helped. Pure.

A request that fails is *safe* when it may be repeated and nothing of an answer had come: not one
of these may fail. An answer that was *cut* had begun, and the client has half of it. A *lost* one
may not be repeated and was sent before the replica that had it was out of rotation. Any other
failure is a *stray*: no blow explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gapless.drills.blow import Blow
from gapless.drills.verdict import Reasons

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SLACK = 0.05
"""Seconds by which two processes may be late in reading one clock."""


@dataclass(frozen=True, slots=True)
class Toll:
    """Counts of failed requests; ``untold``: failures of which too little is known."""

    safe: int = 0
    cut: int = 0
    lost: int = 0
    stray: int = 0
    untold: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    def told(self) -> str:
        """One line for people."""
        return (
            f"{self.safe} failed that are safe to repeat; {self.lost} that are not, in flight on "
            f"a replica that was struck; {self.cut} answers cut that had begun"
        )


def sort(failed: int, failures: Iterable[Mapping[str, Any]], blows: Iterable[Blow]) -> Toll:
    """``failures``: as the load generator records them; ``failed``: how many there were."""
    windows = [(one.at - SLACK, one.until + SLACK) for one in blows]
    counts = {"safe": 0, "cut": 0, "lost": 0, "stray": 0}
    known = 0
    for one in failures:
        known += 1
        struck = any(one["sent"] <= until and one["at"] >= at for at, until in windows)
        begun = not one["before_byte"] and one["status"] is None
        if one["method"] in SAFE:
            kind = "cut" if begun and struck else "safe"
        else:
            kind = "lost" if struck else "stray"
        counts[kind] += 1
    return Toll(**counts, untold=max(0, failed - known))


def judge(toll: Toll) -> Reasons:
    """Only what no blow excuses counts against it."""
    reasons = []
    if toll.safe:
        reasons.append(f"{toll.safe} requests failed that are safe to repeat")
    if toll.stray:
        reasons.append(f"{toll.stray} requests failed that were in no struck replica's hands")
    if toll.untold:
        reasons.append(f"{toll.untold} failed requests were too many to be looked at")
    return tuple(reasons)
