"""What tasks wrote down about themselves, and what follows from it. Pure.

The entries are in the order in which the store took them, so that "at once" and "before" are
facts about that order and not about anybody's clock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """``what`` is ``start`` or ``end``; ``again``: the broker says that it was delivered before."""

    task: str
    what: str
    worker: str
    at: float = 0.0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Diary:
    """All entries of one run, in order."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, raw: Iterable[str]) -> Diary:
        """From the texts that ``probe_tasks`` writes."""
        return cls(tuple(Entry(**json.loads(text)) for text in raw))

    def __len__(self) -> int:
        return len(self.entries)

    def most_at_once(self) -> Mapping[str, int]:
        """Worker to executions under way, at the moment when most were under way in all."""
        now: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for entry in self.entries:
            now[entry.worker] += 1 if entry.what == "start" else -1
            if now.total() > most.total():
                most = now.copy()
        return {worker: count for worker, count in most.items() if count}

    def lost(self, tasks: Iterable[str]) -> tuple[str, ...]:
        """Tasks of which no execution came to its end."""
        ended = {entry.task for entry in self.entries if entry.what == "end"}
        return tuple(task for task in tasks if task not in ended)

    def repeated(self) -> tuple[str, ...]:
        """Tasks that were started more than once."""
        starts = Counter(entry.task for entry in self.entries if entry.what == "start")
        return tuple(sorted(task for task, count in starts.items() if count > 1))

    def in_hand(self, worker: str) -> frozenset[str]:
        """Tasks that this worker has started and not ended."""
        open_: Counter[str] = Counter()
        for entry in self.entries:
            if entry.worker == worker:
                open_[entry.task] += 1 if entry.what == "start" else -1
        return frozenset(task for task, count in open_.items() if count > 0)

    def at_work(self, workers: Collection[str]) -> int:
        """How many tasks these workers have in hand."""
        return sum(len(self.in_hand(worker)) for worker in workers)

    def touched_by(self, worker: str) -> frozenset[str]:
        """Tasks that this worker has started."""
        return frozenset(entry.task for entry in self.entries if entry.worker == worker)

    def ended_after(self, workers: Collection[str], length: int) -> int:
        """Ends that these workers wrote after the first ``length`` entries."""
        later = self.entries[length:]
        return sum(entry.what == "end" and entry.worker in workers for entry in later)


def tasks(run: str, count: int) -> tuple[str, ...]:
    """The ids that ``probe_tasks.send`` gives."""
    return tuple(f"{run}-{number}" for number in range(count))
