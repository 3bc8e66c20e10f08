"""Verdicts over probes: one good answer makes ready or live, a run of bad ones ends it."""

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


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is known from liveness probes. ``failed_since``: when it was judged to have failed."""

    failed_since: float | None = None
    ever: bool = False
    bad: int = 0
    last: str = ""


def judge_live(before: Liveness, ok: bool, text: str, now: float, *, after: int) -> Liveness:
    """The liveness after one more probe; ``after`` bad ones in a row end it, one good one is it."""
    if ok:
        return Liveness(ever=True, last=text)
    bad = before.bad + 1
    since = before.failed_since
    if since is None and bad >= after:
        since = now
    return Liveness(since, before.ever, bad, text)


def judge(health: Health, ok: bool, text: str, now: float, *, after: int) -> Health:
    """The health after one more probe; ``after`` bad ones in a row end readiness."""
    if ok:
        since = health.since if health.ready else now
        return Health(True, since, True, 0, text)
    bad = health.bad + 1
    if health.ready and bad < after:
        return replace(health, bad=bad, last=text)
    return replace(health, ready=False, since=None, bad=bad, last=text)
