"""What of a recommendation may happen now: stabilisation windows, policies, and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from gapless.observed import Moment

Limit = Literal["", "fewest", "most", "up", "down"]
"""What kept a count from being as recommended: a bound, or the policies of a direction."""


@dataclass(frozen=True, slots=True)
class Policy:
    """So many replicas, or so many percent of those at its start, within ``period`` seconds."""

    kind: Literal["replicas", "percent"]
    amount: int
    period: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction. ``window``: seconds of recommendations that have to agree.

    ``select``: the policy that allows most or least of all decides, or nothing is allowed.
    """

    window: float
    policies: tuple[Policy, ...]
    select: Literal["max", "min", "disabled"] = "max"


UP = Rules(0.0, (Policy("replicas", 4, 15.0), Policy("percent", 100, 15.0)))
DOWN = Rules(300.0, (Policy("percent", 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Both directions."""

    up: Rules = UP
    down: Rules = DOWN

    def after(self, up: float, down: float) -> Behaviour:
        """The same with other windows (seconds)."""
        return Behaviour(replace(self.up, window=up), replace(self.down, window=down))

    @property
    def memory(self) -> float:
        """Seconds for which moments can still matter."""
        periods = [p.period for rules in (self.up, self.down) for p in rules.policies]
        return max(self.up.window, self.down.window, *periods)


def stabilised(
    wanted: int, count: int, earlier: Iterable[Moment], behaviour: Behaviour, now: float
) -> int:
    """Up to the lowest recommendation of the upward window, down to the highest of the other.

    ``wanted``: the recommendation of now. ``earlier``: those before it, unstabilised.
    """
    lowest = highest = wanted
    for moment in earlier:
        if moment.at > now - behaviour.up.window:
            lowest = min(lowest, moment.count)
        if moment.at > now - behaviour.down.window:
            highest = max(highest, moment.count)
    return min(max(count, lowest), highest)


def limited(
    wanted: int,
    count: int,
    bounds: tuple[int, int],
    changes: Iterable[Moment],
    behaviour: Behaviour,
    now: float,
) -> tuple[int, Limit]:
    """As far as policies and ``bounds`` (fewest, most) allow, and which of them stood against it.

    ``changes``: by how many replicas the count was changed, and when.
    """
    fewest, most = bounds
    recent = tuple(changes)
    if wanted > count:
        allowed = max(count, _most_up(count, recent, behaviour.up, now))
        ceiling = min(most, allowed)
        if wanted > ceiling:
            return ceiling, "most" if most <= allowed else "up"
    elif wanted < count:
        allowed = min(count, _most_down(count, recent, behaviour.down, now))
        floor = max(fewest, allowed)
        if wanted < floor:
            return floor, "fewest" if fewest >= allowed else "down"
    return wanted, ""


def changed(changes: Iterable[Moment], period: float, now: float) -> int:
    """By how many replicas the count was changed within the last ``period`` seconds."""
    return sum(moment.count for moment in changes if moment.at > now - period)


def _most_up(count: int, changes: tuple[Moment, ...], rules: Rules, now: float) -> int:
    if rules.select == "disabled":
        return count
    choose = min if rules.select == "min" else max
    return choose(_raised(count - changed(changes, p.period, now), p) for p in rules.policies)


def _most_down(count: int, changes: tuple[Moment, ...], rules: Rules, now: float) -> int:
    if rules.select == "disabled":
        return count
    choose = max if rules.select == "min" else min
    return choose(_lowered(count - changed(changes, p.period, now), p) for p in rules.policies)


def _raised(start: int, policy: Policy) -> int:
    if policy.kind == "replicas":
        return start + policy.amount
    return math.ceil(start * (100 + policy.amount) / 100)


def _lowered(start: int, policy: Policy) -> int:
    if policy.kind == "replicas":
        return start - policy.amount
    return math.trunc(start * (100 - policy.amount) / 100)
