"""What holders wrote, read: who held when, whether two ever did, how long nobody did. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a diary (``holder_app``, ``leader_app``). ``at``: seconds of CLOCK_BOOTTIME.

    ``holder`` is who writes; of leaders, ``role`` is the token.
    """

    holder: str
    role: str
    pid: int
    at: float
    word: str


def holder_line(text: str) -> Line:
    """Raises ValueError."""
    holder, role, pid, at, word = text.split()
    return Line(holder, role, int(pid), float(at), word)


def leader_line(text: str) -> Line:
    """Raises ValueError."""
    token, holder, pid, at, word = text.split()
    return Line(holder, token, int(pid), float(at), word)


def overlaps(lines: Iterable[Line]) -> tuple[str, ...]:
    """Holders that wrote after another had begun. The order of the lines decides, no clock."""
    begun: list[str] = []
    found = []
    for line in lines:
        if begun and line.holder == begun[-1]:
            continue
        if line.holder not in begun:
            begun.append(line.holder)
        else:
            found.append(f"{line.holder} ({line.role}) still wrote when {begun[-1]} held")
    return tuple(dict.fromkeys(found))


def refusals(lines: Iterable[Line]) -> tuple[str, ...]:
    """Holders that began while another's lock was not free."""
    return tuple(f"{line.holder} found it held" for line in lines if line.word == "refused")


def gap(lines: Sequence[Line], before: str, after: str) -> float | None:
    """Seconds from the last word of one main process to the first of its successor."""
    last = [line.at for line in lines if (line.holder, line.role) == (before, "main")]
    first = [line.at for line in lines if (line.holder, line.role) == (after, "main")]
    return first[0] - last[-1] if last and first else None


def runs(text: str) -> tuple[tuple[int, int], ...]:
    """``3:100 4:7`` to ((3, 100), (4, 7)). Raises ValueError."""
    pairs = (word.split(":") for word in text.split())
    return tuple((int(token), int(count)) for token, count in pairs)


def stale(found: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Runs of writes with a smaller token than one that was accepted before."""
    return tuple(
        f"{count} writes with token {token} after token {before}"
        for (before, _), (token, count) in itertools.pairwise(found)
        if token < before
    )
