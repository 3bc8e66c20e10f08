"""Verdicts over probes: one good answer makes ready, a run of bad ones makes unready."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Health:
    """What is known from probes. ``since``: start of the present unbroken readiness."""

    ready: bool = False
    since: float | None = None
    ever: bool = False
    bad: int = 0
    last: str = ""


def judge(health: Health, ok: bool, text: str, now: float, *, after: int) -> Health:
    """The health after one more probe; ``after`` bad ones in a row end readiness."""
    if ok:
        since = health.since if health.ready else now
        return Health(True, since, True, 0, text)
    bad = health.bad + 1
    if health.ready and bad < after:
        return replace(health, bad=bad, last=text)
    return replace(health, ready=False, since=None, bad=bad, last=text)
