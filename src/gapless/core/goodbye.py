"""How fast clients of leaving replicas are sent away, so that they do not all come back at once.

An application that heeds its notice closes its sockets by itself, with a reason, at the rate that
the notice names. Nobody has to acknowledge that: a straight line leads from all sockets, a moment
after the notice, to none, shortly before the drain time is over; whose sockets stay below it is
left alone, and what is above it the edge shuts. Requests are not sockets and are never shut.

Invariant: of the sockets of one service the edge shuts no more than ``goodbye`` in any second,
unless the drain time is too short for that; and none before its replica was told and had time to
act by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gapless.core import plan
from gapless.core.world import World
from gapless.observed import Replica

PATIENCE = 2.0
"""Seconds after the notice before anything is shut; at most a fifth of the drain time."""
SPREAD = 0.9
"""The share of the drain time in which all have gone."""
STEADY = 0.8
"""The share of the rate that is used: bursts must not break it."""
ENOUGH = 0.68
"""The share of the rate that is certain to come about: looks take time, too."""
SLACK = 1.6
"""Faster than the line by this where the drain time is too short for the rate."""
TICK = 0.25
"""Seconds between two rounds of goodbyes, at least."""
BURST, LATE_BURST = 0.5, 2.0
"""Seconds between rounds that one round makes up for; the longer where time runs out."""
LAST = 0.5
"""Seconds before the end of the line that are not reckoned with."""
DEFAULT_RATE = 200.0
DEFAULT_DRAIN = 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """From all sockets of a replica to none. Times in the clock of ``now``.

    ``share``: sockets a second that are this replica's part of the service's rate.
    """

    total: int
    begin: float
    end: float
    share: float

    @property
    def steady(self) -> float:
        """Sockets a second, if all leave evenly."""
        return self.total / max(1.0, self.end - self.begin)

    def credit(self, sockets: int, now: float, since: float) -> int:
        """So many may be shut now, ``since`` seconds after the last round.

        More than the share only where the time is too short for it: that is known at the
        beginning, or seen later, when rounds took long.
        """
        usual = STEADY * self.share
        if self.steady > ENOUGH * self.share:
            usual = SLACK * self.steady
        needed = sockets / max(LAST, self.end - LAST - now)
        fastest, burst = (usual, BURST) if needed <= usual else (SLACK * needed, LATE_BURST)
        return math.floor(fastest * min(since, max(burst, 1.0 / fastest)) + 1e-6)

    def left(self, now: float) -> int:
        """So many may still be open."""
        gone = (now - self.begin) / max(1.0, self.end - self.begin)
        return min(self.total, max(0, math.floor(self.total * (1.0 - gone))))


def arrange(agenda: plan.Agenda, world: World) -> None:
    """Name the rate on notices that are due, and shut what lags behind its line."""
    counts = []
    shut_before = max((r.shut_at or 0.0 for r in world.observed.replicas), default=0.0)
    for name in dict.fromkeys(r.id.service for r in world.observed.replicas):
        leaving = [r for r in world.of(name) if leaves(r)]
        if not leaving:
            continue
        share = rate(world, leaving[0]) / len(leaving)
        _name_rate(agenda, leaving, share)
        if not world.desired.running or world.now < shut_before + TICK:
            continue
        # Who is signalled now says goodbye by itself; ids of its sessions are free any moment.
        ending = {step.id for step in agenda.steps if isinstance(step, plan.Signal)}
        staying = [r for r in leaving if r.id not in ending]
        late = {r.id: overdue(r, line(world, r, share), world.now) for r in staying}
        counts += [(id, count) for id, count in late.items() if count]
    if counts:
        agenda.do(plan.ShutSockets(tuple(counts), cause="they stayed after the notice"))


def needed(sockets: int, rate: float) -> float:
    """The shortest drain time (seconds) in which so many leave at that rate."""
    return (sockets / (ENOUGH * rate) + PATIENCE) / SPREAD


def leaves(found: Replica) -> bool:
    """Out of the edge, with work in flight, and not asked to end yet. Parked ones count, too."""
    return (
        found.alive
        and found.server is not None
        and found.server.admin == "maint"
        and found.server.in_flight > 0
        and found.left_at is not None
        and found.signalled_at is None
        and found.killed_at is None
    )


def rate(world: World, found: Replica) -> float:
    """Sockets a second of its whole service."""
    service = world.own_service(found)
    return service.goodbye if service else DEFAULT_RATE


def line(world: World, found: Replica, share: float) -> Line | None:
    """Its line; None while it was not told, or nobody knows of sockets."""
    if found.told_at is None or not found.sockets:
        return None
    service = world.own_service(found)
    drain = service.drain if service else DEFAULT_DRAIN
    return Line(
        total=max(found.sockets, found.told_sockets or 0),
        begin=found.told_at + min(PATIENCE, 0.2 * drain),
        end=found.told_at + SPREAD * drain,
        share=share,
    )


def overdue(found: Replica, line: Line | None, now: float) -> int:
    """How many sockets of it to shut now."""
    if line is None or not found.sockets or now < line.begin:
        return 0
    late = found.sockets - line.left(now)
    since = now - max(line.begin, found.shut_at or 0.0)
    return max(0, min(late, line.credit(found.sockets, now, since)))


def _name_rate(agenda: plan.Agenda, leaving: Sequence[Replica], share: float) -> None:
    """On each notice that is due now; told before at a higher one: told again."""
    known = {found.id for found in leaving}
    agenda.steps[:] = [
        replace(step, rate=share) if isinstance(step, plan.Tell) and step.id in known else step
        for step in agenda.steps
    ]
    for found in leaving:
        if found.told_rate is not None and share < 0.99 * found.told_rate:
            agenda.do(plan.Tell(found.id, share, cause="others leave as well"))
