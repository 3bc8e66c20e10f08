"""Makes the records of changes that are no rollouts: scale, stop, start, maintenance, down.

Values in, values out: ``plan`` shows what the commands do because both ask here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from gapless import errors
from gapless.edge import hold as edge_hold
from gapless.engine import preflight
from gapless.model.desired import Desired, Hold, Rollout
from gapless.model.stack import Stack

AWAITED = frozenset({"tls"})
"""Drills after which something else becomes of the stack: HSTS is sent after ``tls``."""
MOST = 1000
"""Replicas of one service at most."""


def scaled(desired: Desired, stack: Stack, counts: Mapping[str, Any]) -> Desired:
    """Counts by hand; None gives a service back to the file, or to its load.

    One that follows its load goes on from the count that it has. Raises UsageError, Refused.
    """
    preflight.known(stack, tuple(counts))
    scale = {name: count for name, count in desired.scale.items() if name not in counts}
    for name, count in counts.items():
        if count is None:
            continue
        if not 0 <= int(count) <= MOST:
            raise errors.UsageError(f"scale: {name}={count} is not within 0 and {MOST}")
        if stack.services[name].singleton and int(count) > 1:
            raise errors.UsageError(f"scale: {name} is a singleton")
        scale[name] = int(count)
    preflight.fits(stack, scale)
    released = {name for name, count in counts.items() if count is None}
    return replace(following(desired, stack, released), scale=scale)


def begun(desired: Desired, rollout: Rollout, stack: Stack) -> Desired:
    """A rollout to ``stack`` under way.

    A deploy ends what was set by hand; who follows the load goes on from that count, for the new
    replicas have the same load to bear.
    """
    if rollout.kind == "deploy":
        desired = following(desired, stack, rollout.target)
    shown = tuple(dict.fromkeys((rollout.stack, *desired.shown)))
    return replace(desired, running=True, rollout=rollout, shown=shown)


def following(desired: Desired, stack: Stack, names: Collection[str]) -> Desired:
    """With these services' counts set by hand as those from which they follow their load."""
    taken = {
        name: count
        for name, count in desired.scale.items()
        if name in names and (table := stack.services.get(name)) is not None and table.scale
    }
    return replace(desired, auto={**desired.auto, **taken})


def stopped(desired: Desired, stack: Stack, services: tuple[str, ...], stop: bool) -> Desired:
    """These services stopped, or started again; none named: all. Raises UsageError."""
    preflight.known(stack, services)
    named = set(services or stack.services)
    now = set(desired.stopped)
    return replace(desired, stopped=tuple(sorted(now | named if stop else now - named)))


def maintained(desired: Desired, stack: Stack, on: bool) -> Desired:
    """Maintenance on or off. Raises Refused where no edge is there to show it."""
    if not any(service.http for service in stack.services.values()):
        raise errors.Refused("maintenance: the stack has no HTTP service, so it has no edge")
    # Either word of it ends a hold: the page is for everybody, and off means off.
    return replace(desired, maintenance=on, hold=None)


def held(desired: Desired, stack: Stack, seconds: float, now: float, wall: float) -> Desired:
    """Requests held for so long from now on (by both clocks). Raises UsageError, Refused."""
    if not any(service.http for service in stack.services.values()):
        raise errors.Refused("maintenance: the stack has no HTTP service, so it has no edge")
    if desired.maintenance:
        raise errors.Refused(
            "maintenance: it is on, so no request is held", hint="gapless maintenance off"
        )
    if not 0 < seconds <= edge_hold.LONGEST:
        raise errors.UsageError(
            f"maintenance: requests can be held for {edge_hold.LONGEST:g} s at most",
            hint="for longer than that: gapless maintenance on",
        )
    return replace(desired, hold=Hold(round(wall + seconds, 3), round(seconds, 3), now))


def edge_restarted(desired: Desired, stack: Stack) -> Desired:
    """Another worker of the edge. Raises Refused where there is none."""
    if not any(service.http for service in stack.services.values()):
        raise errors.Refused("restart: the stack has no HTTP service, so it has no edge")
    return replace(desired, edge_epoch=desired.edge_epoch + 1)


def proven(desired: Desired, drill: str) -> Desired:
    """A drill has held. Raises UsageError for one that nothing waits for."""
    if drill not in AWAITED:
        raise errors.UsageError(f"proven: nothing waits for drill {drill}")
    return replace(desired, proven=tuple(sorted({*desired.proven, drill})))


def unshown(desired: Desired, gone: Collection[int]) -> Desired:
    """Pages of these releases are served no more."""
    return replace(desired, shown=tuple(n for n in desired.shown if n not in gone))


def anew(desired: Desired) -> Desired:
    """What is down begins as at the first ``up``: with no release that it would go back to."""
    return replace(desired, vector={}, stack=None, rollout=None, previous=None, shown=())


def down(desired: Desired) -> Desired:
    """Everything stopped, a rollout forgotten; what was set by hand holds for the next ``up``.

    What schedules ask for meanwhile is not wanted, so they are counted anew then.
    """
    schedules = {name: replace(known, counted="") for name, known in desired.schedules.items()}
    return replace(desired, running=False, rollout=None, schedules=schedules)
