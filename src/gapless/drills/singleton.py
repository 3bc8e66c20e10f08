"""Never two of a singleton, and no write of a leader of yesterday: by the holders' own evidence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gapless.drills import base, figures, rivalry, rivals, scratch, siblings, tenure
from gapless.drills.base import Outcome, Target
from gapless.drills.siblings import Own
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "singleton"
PROMISE = "never two of a singleton; no write of a leader of yesterday"
ROUNDS = 100
TAKEOVER = 5.0
"""Seconds in which a successor of a crashed one holds; judged only when strict."""


@dataclass(frozen=True, slots=True)
class Round:
    """One disturbance of the probe singleton. ``after`` "": nobody held again in time.

    ``gap``: seconds between the last word of the old main process and the first of the new one.
    """

    kind: str
    before: str
    after: str
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Leaders:
    """Replicas with a leader. ``gaps``: seconds to the next leader; None: none came in time.

    ``late``: writes of leaders of yesterday that were tried and not accepted; ``runs``: token and
    number of writes, in the order in which the table accepted them.
    """

    gaps: tuple[float | None, ...]
    paused: int
    late: int
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """``leaders`` None: not tried here, for the reason ``without``."""

    rounds: tuple[Round, ...]
    wanted: int
    overlaps: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    intruders: tuple[str, ...] = ()
    leaders: Leaders | None = None
    without: str = ""
    own: tuple[Own, ...] = field(default_factory=tuple)


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons: list[str] = []
    if len(table.rounds) < table.wanted:
        reasons.append(f"only {len(table.rounds)} of {table.wanted} rounds")
    tried = {one.kind for one in table.rounds}
    due = set(rivalry.kinds(table.wanted))
    reasons += [f"{kind}: not tried" for kind in sorted(due - tried)]
    reasons += [f"two at once: {one}" for one in (*table.overlaps, *table.refusals)]
    reasons += table.intruders
    reasons += [
        f"{one.kind}: nobody held after {one.before}" for one in table.rounds if not one.after
    ]
    if strict:
        crashes = [one for one in table.rounds if one.kind in rivalry.CRASHES]
        slow = [one for one in crashes if one.gap is not None and one.gap >= TAKEOVER]
        reasons += [f"{one.kind}: {one.gap:.1f} s until the next held" for one in slow]
    if table.leaders is not None:
        reasons += _judge_leaders(table.leaders, strict)
    for own in table.own:
        reasons += siblings.judge(own)
    return tuple(reasons)


def _judge_leaders(leaders: Leaders, strict: bool) -> Reasons:
    reasons = [f"leaders: {one}" for one in tenure.stale(leaders.runs)]
    if len(leaders.runs) < 2:
        reasons.append("leaders: no second leader ever wrote")
    if leaders.paused and not leaders.late:
        reasons.append("leaders: no leader of yesterday tried to write, so nothing was refused")
    missing = sum(gap is None for gap in leaders.gaps)
    if missing:
        reasons.append(f"leaders: {missing} times nobody led again")
    slow = [gap for gap in leaders.gaps if gap is not None and gap >= TAKEOVER]
    if strict and slow:
        reasons.append(f"leaders: {max(slow):.1f} s until the next led")
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    names = siblings.found(target, state)
    probes = "a probe singleton and probe leaders in a scratch stack"
    return f"{', '.join(names)}; {probes}" if names else probes


def run(stage: Stage) -> Outcome:
    began = time.monotonic()
    own = [siblings.trial(stage, name) for name in siblings.found(stage.target, stage.look())]
    without = rivals.why_no_leaders()
    if without:
        stage.say(f"leaders are not tried: {without}")
    ground = scratch.Ground.of(stage.target.stack)
    source = rivals.Rivals(leaders=0 if without else 3, ground=ground)
    folder = stage.paths.state / "drill"
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"a scratch stack {name} of probes is used for the rounds")
    options = base.Options(strict=stage.options.strict, rounds=stage.options.rounds)
    with scratch.stack(name, folder, stage.say, source, options) as probes:
        return attack(probes, tuple(own), without, began)


def attack(
    probes: scratch.Scratch, own: tuple[Own, ...] = (), without: str = "", began: float = 0.0
) -> Outcome:
    """All rounds on a scratch stack of ``rivals``."""
    began = began or time.monotonic()
    wanted = probes.options.rounds or ROUNDS
    match = rivalry.Match(probes, leaders=rivals.LEAD in probes.look().services)
    match.play(rivalry.kinds(wanted))
    lines = match.holders.read()
    rounds = tuple(
        Round(kind, before, after, tenure.gap(lines, before, after))
        for kind, before, after in match.rounds
    )
    table = Table(
        rounds,
        wanted,
        tenure.overlaps(lines),
        tenure.refusals(lines),
        tuple(match.intruders),
        _leaders(match),
        without,
        own,
    )
    traffic = Traffic(
        handovers=len(rounds),
        failed=len(table.overlaps) + len(table.refusals),
        seconds=time.monotonic() - began,
    )
    detail = {**_detail(table), "told": told(table, len(lines))}
    return Outcome(NAME, judge(table, probes.options.strict), traffic, detail)


def _leaders(match: rivalry.Match) -> Leaders | None:
    if not match.leaders:
        return None
    late = sum(line.word == "late" for line in match.leading.read())
    return Leaders(tuple(match.leader_gaps), match.leaders_paused, late, match.tally())


def longest(table: Table) -> dict[str, float]:
    """Kind to the longest gap, in seconds."""
    found: dict[str, float] = {}
    for one in table.rounds:
        if one.gap is not None:
            found[one.kind] = max(round(one.gap, 3), found.get(one.kind, 0.0))
    return found


def _detail(table: Table) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "rounds": dict(Counter(one.kind for one in table.rounds)),
        "longest_gap_seconds": longest(table),
        "overlaps": [*table.overlaps, *table.refusals],
        "own": [asdict(one) for one in table.own],
    }
    if table.leaders is not None:
        known = sorted(gap for gap in table.leaders.gaps if gap is not None)
        detail["leaders"] = {
            "changes": len(table.leaders.gaps),
            "longest_gap_seconds": round(known[-1], 3) if known else None,
            "paused": table.leaders.paused,
            "late_writes_refused": table.leaders.late,
            "writes": sum(count for _, count in table.leaders.runs),
            "tokens": len(table.leaders.runs),
        }
    else:
        detail["leaders"] = {"not_tried": table.without}
    return detail


def told(table: Table, lines: int) -> list[str]:
    """The figures for people."""
    gaps = sorted(one.gap for one in table.rounds if one.gap is not None)
    counts = Counter(one.kind for one in table.rounds)
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    twice = len(table.overlaps) + len(table.refusals)
    out = [f"{len(table.rounds)} rounds ({kinds}): {twice} times two holders, by {lines:,} lines"]
    if gaps:
        middle = figures.percentile(gaps, 0.5)
        worst = ", ".join(f"{kind} {gap:.2f} s" for kind, gap in longest(table).items())
        out.append(f"without a holder: {middle:.2f} s in the middle; longest: {worst}")
    out += _told_leaders(table)
    out += [siblings.told(one) for one in table.own]
    return out


def _told_leaders(table: Table) -> Sequence[str]:
    if table.leaders is None:
        return [f"leaders not tried: {table.without}"] if table.without else []
    leaders = table.leaders
    known = [gap for gap in leaders.gaps if gap is not None]
    writes = sum(count for _, count in leaders.runs)
    return [
        f"leaders (PostgreSQL): {writes:,} writes with {len(leaders.runs)} tokens, "
        f"{len(tenure.stale(leaders.runs))} of a leader of yesterday accepted, "
        f"{leaders.late} refused; next leader after at most {max(known, default=0.0):.2f} s"
    ]
