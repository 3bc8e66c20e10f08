"""Vital signs: cpu, memory and standstill of each living program, sampled beside the loop.

Every reader (decisions, ``ps``, ``top``) sees these samples; nobody measures a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from gapless import errors
from gapless.engine import clock
from gapless.runtimes import base

SHORTEST = 0.5
"""Seconds between two samples from which cores may be told: use is counted in 10 ms."""
LASTING = 3
"""Samples of memory in a row that make a use lasting."""
TICK = 0.5
"""Seconds between looks at whether programs stand still."""
SAMPLE_EVERY = 2.0
"""Seconds between samples of cpu and memory."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One program's signs. ``cores`` and ``memory`` are None until it was sampled often enough:
    once for memory (resident bytes), twice for cores (their mean between the last two samples).
    """

    sampled_at: float = 0.0
    cpu_seconds: float | None = None
    cores: float | None = None
    memory: int | None = None
    memories: tuple[int, ...] = ()
    """The last ``LASTING`` samples of memory."""
    frozen: str = ""
    """How it stood still at the last look, in the runtime's word: ``stopped``, ``zombie``."""
    still_since: float | None = None
    """When it was first seen to stand still, without a break since (CLOCK_BOOTTIME)."""
    still_looks: int = 0
    """Looks in a row at which it stood still."""

    @property
    def memory_low(self) -> int | None:
        """The least of the last samples; None while they are too few to speak of lasting use."""
        return min(self.memories) if len(self.memories) == LASTING else None

    @property
    def frozen_since(self) -> float | None:
        """When it ceased to move; None: it moves, or was seen to stand still only once. (Profilers
        and debuggers stop programs for a moment.)
        """
        return self.still_since if self.still_looks > 1 else None


NOTHING = Vitals()


def after_sample(before: Vitals, used: base.Usage, now: float) -> Vitals:
    """The signs after one more sample of use."""
    memories = (*before.memories, used.memory)[-LASTING:]
    signs = replace(
        before,
        sampled_at=now,
        cpu_seconds=used.cpu_seconds,
        memory=used.memory,
        memories=memories,
    )
    if before.cpu_seconds is None:
        return signs
    span = now - before.sampled_at
    if span < SHORTEST:
        return replace(before, memory=used.memory)
    return replace(signs, cores=max(0.0, used.cpu_seconds - before.cpu_seconds) / span)


def after_look(before: Vitals, word: str, now: float) -> Vitals:
    """The signs after one more look at whether it stands still; ``word`` "": it does not."""
    if not word:
        return (
            before
            if not before.frozen
            else replace(before, frozen="", still_since=None, still_looks=0)
        )
    since = before.still_since if before.frozen else now
    return replace(before, frozen=word, still_since=since, still_looks=before.still_looks + 1)


class Sampler:
    """Takes the signs of all programs that ``living`` names, until it is cancelled.

    ``wake`` is called when one begins or ceases to stand still.
    """

    def __init__(
        self,
        runtime: base.Runtime,
        living: Callable[[], Iterable[str]],
        wake: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._living = living
        self._wake = wake
        self._signs: dict[str, Vitals] = {}
        self._sampled_at = 0.0

    def of(self, id: str) -> Vitals:
        """The last known signs of one program."""
        return self._signs.get(id, NOTHING)

    async def run(self) -> None:
        """For ever; cancel it. A runtime that cannot tell leaves the signs as they were."""
        while True:
            with contextlib.suppress(errors.GaplessError, OSError):
                await self.look()
                if clock.now() - self._sampled_at >= SAMPLE_EVERY - TICK / 2:
                    await self.sample()
            await asyncio.sleep(TICK)

    async def look(self) -> None:
        """See who stands still, where the runtime can tell."""
        if not isinstance(self._runtime, base.SeesStandstill):
            return
        ids = tuple(self._living())
        words = await self._runtime.standstill(ids)
        now = clock.now()
        changed = False
        for id in ids:
            before = self.of(id)
            after = after_look(before, words.get(id, ""), now)
            if after is not before:
                self._signs[id] = after
                changed |= (after.frozen_since is None) != (before.frozen_since is None)
        if changed:
            self._wake()

    async def sample(self) -> None:
        """Measure cpu and memory of all, and drop the signs of those that are gone."""
        ids = tuple(self._living())
        used = await self._runtime.usage(ids)
        now = clock.now()
        self._sampled_at = now
        self._signs = {id: after_sample(self.of(id), use, now) for id, use in used.items()}

    async def read(self) -> Mapping[str, Vitals]:
        """The signs of all living programs for people: one that was never sampled is, now."""
        ids = tuple(self._living())
        if any(self.of(id).cpu_seconds is None for id in ids):
            with contextlib.suppress(errors.GaplessError, OSError):
                await self.sample()
        return {id: signs for id in ids if (signs := self._signs.get(id)) is not None}
