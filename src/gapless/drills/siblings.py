"""The user's own singletons, struck a few times, with all processes of the machine looked at.

Each program of a stack carries a mark of its very start in its environment, in a container that of
the container; two marks of one singleton at the same time are two of it, whatever the records say.
A mark leads to the state it belongs to: a stack of the same name under another roof is another one.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gapless import errors
from gapless.drills import strike
from gapless.drills.base import Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons
from gapless.runtimes import base as runtimes
from gapless.runtimes.machine import files, proc
from gapless.runtimes.process import records

KILLS = 3
PERIOD = 0.02
WAIT = 60.0
"""Seconds in which the next one must be ready."""


@dataclass(frozen=True, slots=True)
class Own:
    """One singleton of the user's. ``most``: so many starts of it alive at one look.

    ``gaps``: seconds from each kill to the next one's readiness; None: not in time.
    """

    service: str
    gaps: tuple[float | None, ...]
    looks: int
    most: int


def judge(own: Own) -> Reasons:
    reasons = []
    if own.most > 1:
        reasons.append(f"{own.service}: {own.most} at once, seen in /proc")
    if own.most == 0:
        reasons.append(f"{own.service}: none of its processes was ever seen")
    missing = sum(gap is None for gap in own.gaps)
    if missing or not own.gaps:
        reasons.append(f"{own.service}: not ready again after {missing} of {len(own.gaps)} kills")
    return tuple(reasons)


def told(own: Own) -> str:
    """For people."""
    known = [gap for gap in own.gaps if gap is not None]
    return (
        f"{own.service}: killed {len(own.gaps)} times, at most {own.most} at once in {own.looks:,} "
        f"looks; ready again after at most {max(known, default=0.0):.2f} s"
    )


def found(target: Target, state: State) -> tuple[str, ...]:
    """Singletons of the stack that run and are ready."""
    return tuple(
        name
        for name, service in target.stack.services.items()
        if service.singleton and (seen := state.services.get(name)) and seen.ready
    )


def trial(stage: Stage, name: str) -> Own:
    """Kill it -9 a few times. Raises WorkFailed when none is there to be killed."""
    stage.settle()
    gaps: list[float | None] = []
    with _Looker(stage.paths.stack, files.home(stage.paths.state), name) as looker:
        gaps.extend(_kill(stage, name) for _ in range(KILLS))
    own = Own(name, tuple(gaps), looker.looks, looker.most)
    stage.say(told(own))
    return own


def _kill(stage: Stage, name: str) -> float | None:
    one = next((r for r in stage.look().serving(name)), None)
    if one is None or one.pid is None:
        raise errors.WorkFailed(f"{name}: no replica of it is ready", hint="gapless ps")
    with strike.held(one.id, [one.pid]) as struck:
        at = time.monotonic()
        struck.send(signal.SIGKILL)
        while time.monotonic() < at + WAIT:
            after = stage.look()
            if any(r.id != one.id for r in after.serving(name)):
                return time.monotonic() - at
            time.sleep(0.02)
    return None


@dataclass
class _Looker:
    """Counts, in a thread of its own, how many starts of one service are alive."""

    stack: str
    home: str
    service: str
    looks: int = 0
    most: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> _Looker:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            seen = at_once(self.stack, self.home, self.service, proc.scan())
            self.most = max(self.most, seen)
            self.looks += 1
            self._over.wait(PERIOD)


def at_once(stack: str, home: str, service: str, everyone: Iterable[proc.Stat]) -> int:
    """How many starts of a service have a living process at one and the same moment.

    ``home``: that of the stack's state (``files.home``). A look takes its time, and one may have
    died before the next was born: where there seem to be several, only those count that were
    there before and after all of them had been seen.
    """
    found: dict[str, list[proc.Stat]] = {}
    for each in everyone:
        mark = None if each.dead else _mark(each.pid)
        if mark is not None and _leads_to(mark, stack, home, service):
            found.setdefault(mark, []).append(each)
    if len(found) < 2:
        return len(found)
    return max(1, sum(any(map(_lives, family)) for family in found.values()))


def _leads_to(mark: str, stack: str, home: str, service: str) -> bool:
    """``STACK/ID/HOME`` of a container, ``STACK/ID/HOME-NONCE`` of a program of the machine."""
    start, _, nonce = mark.rpartition("/")
    return start.startswith(f"{stack}/{service}.") and nonce.partition("-")[0] == home


def _mark(pid: int) -> str | None:
    return proc.variable(pid, records.MARK) or proc.variable(pid, runtimes.CONTAINED)


def _lives(before: proc.Stat) -> bool:
    now = proc.stat(before.pid)
    return now is not None and now.start == before.start and not now.dead
