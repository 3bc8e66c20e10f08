"""What became of a crowd of long connections, as values, and the verdict over them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gapless.drills import crowd, figures
from gapless.drills.verdict import Reasons
from gapless.model.service import Service

QUICK_MS = 50.0
"""Strict: the p99 of a text to everybody in the largest room."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Texts to a room. ``late_p99_ms``: what the clients' own process was late by itself."""

    members: int
    sent: int
    expected: int
    heard: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    late_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """What a deploy did to the clients.

    ``lost``: connections that ended, ``told`` those with a word before. ``back``: clients that
    have another. ``away``: the longest that one was without, ``window`` the drain time (both
    seconds). ``fastest``: most that came back in any second, ``rate`` what the file allows.
    """

    handovers: int = 0
    lost: int = 0
    told: int = 0
    back: int = 0
    away: float = 0.0
    window: float = 0.0
    fastest: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """One crowd on one stack, held for ``seconds``.

    ``ended``: connections that ended while nothing was changed. ``open``: at the end of all.
    ``kib``: memory for each connection, by who holds it.
    """

    name: str
    clients: int
    arrived: int
    open: int
    seconds: float = 0.0
    ended: int = 0
    refused: int = 0
    why: tuple[str, ...] = ()
    moves: Moves = Moves()
    speeches: tuple[Speech, ...] = ()
    kib: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The stack's own route, where it has one, and the probe service's."""

    parts: tuple[Part, ...]


def judge(table: Table, strict: bool = False) -> Reasons:
    return tuple(
        f"{part.name}: {reason}" for part in table.parts for reason in _judge_one(part, strict)
    )


def _judge_one(part: Part, strict: bool) -> Reasons:
    reasons = []
    if part.arrived < part.clients:
        reasons.append(f"only {part.arrived:,} of {part.clients:,} connections came about")
    if part.ended:
        reasons.append(f"{part.ended:,} connections ended while nothing was changed")
    if part.refused:
        reasons.append(f"{part.refused:,} times refused ({'; '.join(part.why)})")
    if part.open < part.arrived:
        reasons.append(f"{part.open:,} of {part.arrived:,} connected at the end")
    for speech in part.speeches:
        if not speech.sent or speech.heard < speech.expected:
            heard = f"{speech.heard:,} of {speech.expected:,} texts heard"
            reasons.append(f"room of {speech.members:,}: {heard}")
    if strict and part.speeches:
        p99 = part.speeches[-1].p99_ms
        if p99 is None or p99 >= QUICK_MS:
            reasons.append(f"p99 of a text {p99} ms, {QUICK_MS:g} ms allowed")
    return (*reasons, *_judge_moves(part.moves))


def _judge_moves(moves: Moves) -> Reasons:
    reasons = []
    if not moves.handovers or not moves.lost:
        reasons.append("no replica with connections was replaced")
    if moves.back < moves.lost:
        reasons.append(f"{moves.lost - moves.back:,} of {moves.lost:,} did not come back")
    if moves.away > moves.window:
        reasons.append(f"one was away for {moves.away:.1f} s, drain is {moves.window:g} s")
    if moves.fastest > moves.rate:
        reasons.append(f"{moves.fastest:,} came back in one second, {moves.rate:g} allowed")
    return tuple(reasons)


def each(empty: Mapping[str, int], full: Mapping[str, int], count: int) -> dict[str, float]:
    """KiB for each connection."""
    if not count:
        return {}
    return {name: round((full[name] - empty[name]) / count / 1024, 1) for name in empty}


def moved(whole: crowd.Held, handovers: int, service: Service) -> Moves:
    """What the deploy did."""
    told, cut = whole.ends.get("deploy", [0, 0])
    return Moves(
        handovers=handovers,
        lost=told + cut,
        told=told,
        back=len(whole.backs),
        away=max((back - lost for lost, back in whole.backs), default=0.0),
        window=service.drain,
        fastest=fastest([back for _, back in whole.backs]),
        rate=service.goodbye,
    )


def fastest(moments: list[float]) -> int:
    """The most of them in any second."""
    moments = sorted(moments)
    most = first = 0
    for n, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, n - first + 1)
    return most


def speeches(whole: crowd.Held) -> tuple[Speech, ...]:
    """What was heard of each talk."""
    return tuple(
        Speech(
            members=talk.members,
            sent=talk.sent,
            expected=talk.expected,
            heard=len(talk.heard),
            p50_ms=_ms(talk.heard, 0.5),
            p99_ms=_ms(talk.heard, 0.99),
            late_p99_ms=_ms(talk.late, 0.99),
        )
        for talk in whole.talks
    )


def _ms(samples: Iterable[int], share: float) -> float | None:
    found = figures.percentile(sorted(samples), share)
    return None if found is None else round(found / 1000, 1)


def part(name: str, clients: int, arrived: int, whole: crowd.Held, moves: Moves) -> Part:
    """All of it but what is said, and what it weighs."""
    return Part(
        name=name,
        clients=clients,
        arrived=arrived,
        open=whole.open,
        ended=sum(sum(ends) for phase, ends in whole.ends.items() if phase != "deploy"),
        refused=whole.refused,
        why=tuple(dict.fromkeys(whole.why)),
        moves=moves,
    )


def lines(part: Part) -> list[str]:
    """For people."""
    moves = part.moves
    text = [
        f"{part.name}: {part.arrived:,} of {part.clients:,} connections, "
        f"{part.ended:,} lost in {part.seconds:g} s with nothing changed"
    ]
    text += [
        f"  room of {said.members:,}: {said.heard:,} of {said.expected:,} texts heard, "
        f"p50 {said.p50_ms} ms, p99 {said.p99_ms} ms "
        f"(the clients' own process was late by {said.late_p99_ms} ms, p99)"
        for said in part.speeches
    ]
    if part.kib:
        each = ", ".join(f"{name} {kib:g} KiB" for name, kib in part.kib.items())
        text.append(f"  memory for each connection: {each}")
    text.append(
        f"  deploy: {moves.lost:,} moved, {moves.told:,} of them told before, {moves.back:,} back; "
        f"at most {moves.fastest:,} in a second ({moves.rate:g} allowed); "
        f"longest away {moves.away:.1f} s"
    )
    return text
