"""Requests a second from counters that are read now and then.

All replicas of a service are counted over the same time, so that their sum is what the service
was asked: one that has just come has answered little, and that counts as little. The time is the
shortest that holds enough answers to tell: long where few come, short where a spike has begun.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gapless.observed import Moment

WINDOWS = (2.0, 3.0, 5.0, 8.0, 15.0)
"""Seconds to count over, the shortest first."""
ENOUGH = 100
"""Answers that tell a rate to one part in ten, when they come at random."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """What one counter showed, by time; as old as the longest window needs."""

    moments: list[Moment] = field(default_factory=list)

    def note(self, at: float, count: int) -> None:
        """One more reading. A count that went back is a new counter."""
        if self.moments and count < self.moments[-1].count:
            self.moments.clear()
        self.moments.append(Moment(at, count))
        while len(self.moments) > 2 and self.moments[1].at <= at - WINDOWS[-1]:
            del self.moments[0]

    @property
    def span(self) -> float:
        """Seconds between the first and the last reading."""
        return self.moments[-1].at - self.moments[0].at

    def since(self, at: float) -> int:
        """By how much it grew from the last reading at or before ``at``, else from the first."""
        first = self.moments[0]
        for moment in reversed(self.moments):
            if moment.at <= at:
                first = moment
                break
        return self.moments[-1].count - first.count


@dataclass(frozen=True, slots=True)
class Counted(Generic[Key]):
    """``answers`` by replica, over the last ``seconds``; 0.0: too early to tell."""

    seconds: float
    answers: Mapping[Key, int]

    @property
    def rates(self) -> Mapping[Key, float]:
        """Answers a second."""
        if not self.seconds:
            return {}
        return {key: number / self.seconds for key, number in self.answers.items()}


def counted(tallies: Mapping[Key, Tally], now: float) -> Counted[Key]:
    """What all of them counted over the shortest time that tells enough.

    They are read together: the time goes back to a reading, so that it is the true one.
    """
    oldest = max(tallies.values(), key=lambda tally: tally.span, default=None)
    found: Counted[Key] = Counted(0.0, {})
    for start in _starts(oldest, now):
        answers = {key: tally.since(start) for key, tally in tallies.items()}
        found = Counted(now - start, answers)
        if sum(answers.values()) >= ENOUGH:
            break
    return found


def _starts(tally: Tally | None, now: float) -> Iterator[float]:
    """Readings to count from, the latest first: one for each window, as far as they go back."""
    times = [] if tally is None else [moment.at for moment in tally.moments if moment.at < now]
    if not times:
        return
    last = None
    for window in WINDOWS:
        start = max((at for at in times if at <= now - window), default=times[0])
        if start != last:
            yield start
        if start == times[0]:
            return
        last = start
