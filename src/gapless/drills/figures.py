"""Arithmetic over what was measured. Pure. Times are milliseconds unless said otherwise."""

from __future__ import annotations

import base64
import math
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONFIDENCE = 0.95


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest sample that at least ``share`` (0 to 1) of all samples do not exceed.

    ``ordered`` is ascending and holds *every* sample; no interpolation, no buckets. None if empty.
    """
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def rule_of_three(tries: int) -> float | None:
    """Upper bound (95 %) of a failure rate after so many tries without one; None without tries."""
    return None if tries < 1 else min(1.0, -math.log(1 - CONFIDENCE) / tries)


def spread(counts: Iterable[int]) -> float | None:
    """(max - min) / mean; None without counts, or when all are 0."""
    values = list(counts)
    total = sum(values)
    if not values or total == 0:
        return None
    return (max(values) - min(values)) / (total / len(values))


def pack(samples: array[int]) -> str:
    """Microseconds (array of unsigned 32-bit integers) as text that travels in JSON."""
    return base64.b64encode(zlib.compress(samples.tobytes(), 1)).decode("ascii")


def unpack(text: str) -> array[int]:
    """The inverse of ``pack``."""
    samples = array("I")
    samples.frombytes(zlib.decompress(base64.b64decode(text)))
    return samples


@dataclass(slots=True)
class Count:
    """What one stream did in one phase. ``samples``: microseconds of complete good answers.

    ``reused_failed``: of the failed ones, those on a reused connection before any byte.
    """

    requests: int = 0
    failed: int = 0
    unknown: int = 0
    reused_failed: int = 0
    slow: bool = False
    kinds: dict[str, int] = field(default_factory=dict)
    samples: array[int] = field(default_factory=lambda: array("I"))

    def add(self, other: Count) -> None:
        """Take the other's figures in."""
        self.requests += other.requests
        self.failed += other.failed
        self.unknown += other.unknown
        self.reused_failed += other.reused_failed
        self.slow = self.slow or other.slow
        for kind, number in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + number
        self.samples.extend(other.samples)

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failed": self.failed,
            "unknown": self.unknown,
            "reused_failed": self.reused_failed,
            "slow": self.slow,
            "kinds": self.kinds,
            "samples": pack(self.samples),
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Count:
        """The inverse of ``as_json``."""
        rest = {key: value[key] for key in value if key != "samples"}
        return cls(**rest, samples=unpack(value["samples"]))


@dataclass(slots=True)
class Sockets:
    """What became of the long-lived clients.

    ``told``: times a client was told to go (close frame, or the server's own goodbye) and
    ``moved``: came back after it. ``dropped``: lost without notice. ``refused``: could not come
    (back). ``open``: connected at the end.
    """

    clients: int = 0
    connected: int = 0
    told: int = 0
    moved: int = 0
    dropped: int = 0
    refused: int = 0
    open: int = 0

    def add(self, other: Sockets) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Cookies:
    """Affinity seen from the clients: ``by`` counts clients by the cookie they held first."""

    clients: int = 0
    without: int = 0
    moved: int = 0
    by: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Measured:
    """Everything that one load run gave. ``phases[phase][stream]``."""

    phases: dict[str, dict[str, Count]] = field(default_factory=dict)
    sockets: Sockets = field(default_factory=Sockets)
    cookies: dict[str, Cookies] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    late_p99_ms: float | None = None
    """How late the generator itself woke up for a scheduled request: its own noise."""

    def total(self, *phases: str) -> Count:
        """The sum over streams of some phases; without names, of all. No samples of slow ones."""
        whole = Count()
        for name, streams in self.phases.items():
            if phases and name not in phases:
                continue
            for count in streams.values():
                whole.add(count)
        return whole

    def fast(self, *phases: str) -> list[float]:
        """All samples of fast streams in some phases, ascending, in milliseconds."""
        gathered = array("I")
        for name, streams in self.phases.items():
            if name in phases:
                for count in streams.values():
                    if not count.slow:
                        gathered.extend(count.samples)
        return [value / 1000 for value in sorted(gathered)]

    def merge(self, other: Measured) -> None:
        """Take in what another process measured at the same time."""
        for phase, streams in other.phases.items():
            mine = self.phases.setdefault(phase, {})
            for name, count in streams.items():
                mine.setdefault(name, Count()).add(count)
        self.sockets.add(other.sockets)
        self.cookies.update(other.cookies)
        self.failures = sorted(self.failures + other.failures, key=lambda one: one["at"])
        self.seconds = max(self.seconds, other.seconds)
        late = [x for x in (self.late_p99_ms, other.late_p99_ms) if x is not None]
        self.late_p99_ms = max(late, default=None)
