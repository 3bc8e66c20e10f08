"""One metric to the count that it asks for.

The base is ``ceil(count * measured / wanted)``. Within the tolerance nothing changes. Replicas
that nothing is known of are assumed to be at their target where that would otherwise take
replicas away, and idle where it would add some; replicas that are not ready yet are assumed idle
where it would add some, and do not count where it would take some away. Where such assumptions
would turn the direction, nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

MOST = 2**31 - 1
"""No proposal is higher, whatever the figures."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as a difference, and when cpu begins to tell something.

    ``down``, ``up``: relative distances from the target that change nothing.
    ``initialization``: seconds from its start in which a replica's cpu counts only once a whole
    window of it lies after it got ready. ``delay``: seconds from its start in which a loss of
    readiness counts as still getting ready.
    """

    down: float = 0.1
    up: float = 0.1
    initialization: float = 300.0
    delay: float = 30.0

    def covers(self, ratio: float) -> bool:
        """Whether measured / wanted is near enough to 1."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


DEFAULT = Rules()


@dataclass(frozen=True, slots=True)
class Member:
    """One replica. Times in seconds of one clock.

    ``value``: measured, over ``window`` seconds until ``measured_at``; None: nothing is known.
    ``request``: what 100 % of it is. ``pending``: it does not run yet. ``gone``: ended, or on
    its way out. ``ready`` None: not known; else since ``ready_changed_at``.
    """

    value: float | None = None
    request: float = 0.0
    started_at: float | None = None
    ready: bool | None = True
    ready_changed_at: float = 0.0
    measured_at: float = 0.0
    window: float = 0.0
    pending: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Groups:
    """Positions of the members by what they tell. Those that are gone are in none of them."""

    telling: tuple[int, ...]
    unready: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """``count`` replicas, because ``measured`` was found. None: it cannot be told, see ``fault``.

    ``measured`` is in the unit of the target: whole percent, or per replica, or of the service.
    """

    count: int | None
    measured: float = 0.0
    fault: str = ""


def group(members: Sequence[Member], *, cpu: bool, now: float, rules: Rules = DEFAULT) -> Groups:
    """Who tells something. ``cpu``: its figure misleads while a replica is getting ready."""
    telling, unready, missing = [], [], []
    for position, member in enumerate(members):
        if member.gone:
            continue
        if member.pending:
            unready.append(position)
        elif member.value is None:
            missing.append(position)
        elif cpu and _warming(member, now, rules):
            unready.append(position)
        else:
            telling.append(position)
    return Groups(tuple(telling), tuple(unready), tuple(missing))


def _warming(member: Member, now: float, rules: Rules) -> bool:
    if member.ready is None or member.started_at is None:
        return True
    if now < member.started_at + rules.initialization:
        fresh = member.measured_at >= member.ready_changed_at + member.window
        return not member.ready or not fresh
    return not member.ready and member.started_at + rules.delay > member.ready_changed_at


def utilization(
    members: Sequence[Member],
    count: int,
    target: int,
    *,
    cpu: bool,
    now: float,
    rules: Rules = DEFAULT,
) -> Proposal:
    """A resource in whole percent of what each replica requests. ``count``: wanted at present."""
    groups = group(members, cpu=cpu, now=now, rules=rules)
    if not groups.telling:
        return Proposal(None, fault="no replica has told its use")
    if any(m.request <= 0 for m in members if not m.gone):
        return Proposal(None, fault="it has no reservation to be a percentage of")
    values = _values(members, groups.telling)

    def ratio(found: Mapping[int, float]) -> tuple[float, int]:
        requested = sum(members[position].request for position in found)
        percent = math.floor(100.0 * sum(found.values()) / requested + 1e-9)
        return percent / target, percent

    share = max(100, target) / 100.0  # none is assumed to use less than all that it reserved
    assumed = {n: members[n].request * share for n in groups.missing}
    first, percent = ratio(values)
    wanted = _rebalanced(
        first, lambda found: ratio(found)[0], values, groups, assumed, count, rules
    )
    return Proposal(wanted, percent)


def average(
    members: Sequence[Member],
    count: int,
    target: float,
    *,
    now: float,
    rules: Rules = DEFAULT,
) -> Proposal:
    """A figure that each replica has (requests/s, connections) against one for each."""
    groups = group(members, cpu=False, now=now)
    if not groups.telling:
        return Proposal(None, fault="no replica has told its figure")
    values = _values(members, groups.telling)

    def ratio(found: Mapping[int, float]) -> float:
        return sum(found.values()) / len(found) / target

    first = ratio(values)
    assumed = dict.fromkeys(groups.missing, target)
    wanted = _rebalanced(first, ratio, values, groups, assumed, count, rules)
    return Proposal(wanted, first * target)


def value(
    measured: float, count: int, ready: int, target: float, *, rules: Rules = DEFAULT
) -> Proposal:
    """A figure of the service as a whole (latency), said to shrink as replicas are added."""
    ratio = measured / target
    if count == 0:
        return Proposal(_ceil(ratio), measured)
    if rules.covers(ratio):
        return Proposal(count, measured)
    return Proposal(_ceil(ratio * ready), measured)


def share(measured: float, count: int, target: float, *, rules: Rules = DEFAULT) -> Proposal:
    """A figure of the service as a whole (backlog) to be divided among its replicas."""
    if count and rules.covers(measured / (target * count)):
        return Proposal(count, measured / count)
    return Proposal(_ceil(measured / target), measured / max(1, count))


def _values(members: Sequence[Member], positions: Iterable[int]) -> dict[int, float]:
    return {n: found for n in positions if (found := members[n].value) is not None}


def _rebalanced(
    first: float,
    ratio: Callable[[Mapping[int, float]], float],
    values: dict[int, float],
    groups: Groups,
    assumed: Mapping[int, float],
    count: int,
    rules: Rules,
) -> int:
    """The count, once those that tell nothing have been given assumed figures."""
    up_with_unready = bool(groups.unready) and first > 1.0
    if not up_with_unready and not groups.missing:
        return count if rules.covers(first) else _ceil(first * len(values))
    found = dict(values)
    if first < 1.0:
        found.update(assumed)
    elif first > 1.0:
        found.update(dict.fromkeys(assumed, 0.0))
    if up_with_unready:
        found.update(dict.fromkeys(groups.unready, 0.0))
    second = ratio(found)
    turned = (first < 1.0 < second) or (second < 1.0 < first)
    if rules.covers(second) or turned:
        return count
    wanted = _ceil(second * len(found))
    against = (second < 1.0 and wanted > count) or (second > 1.0 and wanted < count)
    return count if against else wanted


def _ceil(value: float) -> int:
    """Up to the next whole number; what is above it by rounding alone does not count."""
    return min(MOST, math.ceil(value - 1e-9)) if value < MOST else MOST
