"""A service's metrics to one recommendation, and that to the count in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapless.core.autoscale import behaviour as behaviours
from gapless.core.autoscale.behaviour import Behaviour, Limit
from gapless.model.scale import Scale
from gapless.model.units import format_duration
from gapless.observed import Load, Measure

STALE = 15.0
"""Seconds after which a measurement says nothing about the present."""
UNITS = {
    "cpu": "{:.0f} % of the reserved cpu",
    "memory": "{:.0f} % of the reserved memory",
    "rps": "{:.4g} requests/s a replica",
    "connections": "{:.4g} connections a replica",
    "latency": "{} to an answer",
    "backlog": "{:.4g} queued tasks a replica",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``count`` replicas from now on; ``reason`` in words. ``limit``: what held it there."""

    count: int
    reason: str
    limit: Limit = ""


def recommend(measures: Sequence[Measure], count: int) -> int | None:
    """The most that any metric asks for; None where that cannot be relied on.

    A metric that cannot be told does not keep others from adding replicas, and keeps all from
    taking some away.
    """
    told = [measure.wanted for measure in measures if measure.wanted is not None]
    if not told or (len(told) < len(measures) and max(told) < count):
        return None
    return max(told)


def decide(
    load: Load, count: int, bounds: tuple[int, int], rules: Behaviour, now: float
) -> Verdict:
    """From the count in force to the one that is due. ``bounds``: fewest and most replicas."""
    fewest, most = bounds
    if count == 0 and fewest != 0:
        return Verdict(count, "none are wanted")
    if count < fewest or count > most:
        return Verdict(min(max(count, fewest), most), f"scale is from {fewest} to {most}")
    if load.wanted is None or now - load.at > STALE:
        return Verdict(count, _unknown(load))
    wanted = behaviours.stabilised(load.wanted, count, load.earlier, rules, now)
    due, limit = behaviours.limited(wanted, count, bounds, load.changes, rules, now)
    return Verdict(due, reason(load), limit)


def reason(load: Load) -> str:
    """What the metric that decides has shown, beside its target."""
    told = [m for m in load.measures if m.wanted is not None and m.wanted == load.wanted]
    return describe(told[0]) if told else _unknown(load)


def describe(measure: Measure) -> str:
    """``"215 requests/s a replica, target 100"``."""
    if measure.wanted is None:
        return f"{measure.metric}: {measure.fault}"
    unit = UNITS[measure.metric]
    if measure.metric == "latency":
        shown, target = format_duration(round(measure.measured, 4)), format_duration(measure.target)
    else:
        return f"{unit.format(measure.measured)}, target {measure.target:g}"
    return f"{unit.format(shown)}, target {target}"


def of(scale: Scale) -> Behaviour:
    """The behaviour that a service's table asks for."""
    return Behaviour().after(scale.up_after, scale.down_after)


def _unknown(load: Load) -> str:
    faults = [describe(measure) for measure in load.measures if measure.wanted is None]
    return "; ".join(faults) or "nothing was measured"
