"""Ends that nobody had asked for: each told once, "crashed" apart from "cannot start"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapless.engine import logfiles
from gapless.observed import Replica, Slot

if TYPE_CHECKING:
    from gapless.engine.controller import Controller

LINES = 3
"""Log lines that history keeps of an end."""


@dataclass(frozen=True, slots=True)
class End:
    """One end. ``lasted``: seconds from its start until the end was seen."""

    id: str
    crashed: bool
    """It had been ready; else it never was: it cannot start."""
    how: str
    at: float
    lasted: float

    @property
    def word(self) -> str:
        """What happened to it."""
        return "crashed" if self.crashed else "cannot start"

    def __str__(self) -> str:
        return f"{self.id} {self.word}: {self.how}, {self.lasted:.1f} s after its start"


class Ends:
    """The last end of each slot, and those that are still to be told."""

    def __init__(self) -> None:
        self._last: dict[Slot, End] = {}
        self._untold: list[End] = []

    def note(self, seen: Replica, now: float) -> None:
        """It was found dead, for the first time. One that was asked to end is no news."""
        if seen.signalled_at is not None or seen.killed_at is not None:
            return
        how = str(seen.exit) if seen.exit else "nobody saw how"
        end = End(str(seen.id), seen.ever_ready, how, now, max(0.0, now - seen.started_at))
        self._last[seen.id.service, seen.id.ordinal] = end
        self._untold.append(end)

    def last(self, slot: Slot) -> End | None:
        """The last end of the slot's replicas since the controller began."""
        return self._last.get(slot)

    def take(self) -> list[End]:
        """What is to be told now."""
        untold, self._untold = self._untold, []
        return untold


def tell(c: Controller) -> None:
    """New ends into history and to whoever listens, with the last words of the replica."""
    for end in c.observer.ends.take():
        lines, _ = logfiles.read(c.site.runtime.log(end.id), LINES)
        words = [c.mask(line) for line in lines]
        c.site.journal.add(
            f"{end.id} {end.word}",
            cause=f"{end.how}, {end.lasted:.1f} s after its start"
            + ("; its last words: " + " | ".join(words) if words else ""),
            outcome="note",
        )
        c.events.publish({"event": "note", "text": str(end)})
        for line in words:
            c.events.publish({"event": "note", "text": f"{end.id} | {line}"})
