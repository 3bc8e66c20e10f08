"""Bad answers that come slowly. Pure: what looks tell, and which servers are to go.

HAProxy forgets a run of bad answers at each good check, so alone it takes a server out only when
``judging.ERROR_LIMIT`` of them come between two checks. At a few requests a second they never do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gapless.edge import judging
from gapless.observed import EdgeServer

Key = tuple[str, str]
UNEASY = 2.0
"""Seconds after a bad answer for which it is worth while to look soon."""
MANY = 10
"""Good answers between two looks from which on HAProxy itself is quick enough: where each
hundredth answer of a busy server is bad, nobody has to look all the time."""


@dataclass(frozen=True, slots=True)
class Run:
    """``good`` and ``bad``: answers of a server in all; ``run``: bad ones since a good one;
    ``seen_at``: when the last bad one of a server that is not busy was seen, None: never."""

    good: int
    bad: int
    run: int = 0
    seen_at: float | None = None


def follow(before: Run | None, good: int, bad: int, now: float) -> Run:
    """After one more look. What came between two looks has no order: one good one ends a run.

    Figures that fell are those of another worker, which counts anew.
    """
    if before is None or good < before.good or bad < before.bad:
        return Run(good, bad)
    worth = bad > before.bad and good - before.good < MANY
    seen_at = now if worth else before.seen_at
    run = 0 if good > before.good else before.run + bad - before.bad
    return Run(good, bad, run, seen_at)


class Breaker:
    """Follows all servers of an edge; forgets those that are gone or out."""

    def __init__(self) -> None:
        self._runs: dict[Key, Run] = {}
        self._out: dict[Key, str] = {}

    def look(self, servers: Iterable[EdgeServer], now: float) -> list[EdgeServer]:
        """Those that must leave rotation now, until enough of their checks are good.

        ``now``: in seconds of any clock that only goes forward.
        """
        runs, trips = {}, []
        for server in servers:
            key = (server.backend, server.name)
            if not server.takes_work:
                continue
            self._out.pop(key, None)
            found = follow(self._runs.get(key), server.served - server.bad, server.bad, now)
            if found.run >= judging.SLOW_LIMIT:
                self._out[key] = f"{found.run} bad answers in a row, {server.bad} in all"
                trips.append(server)
            else:
                runs[key] = found
        self._runs = runs
        return trips

    def uneasy(self, now: float) -> bool:
        """Whether a run may have begun: the sooner the next look, the shorter it is."""
        times = [one.seen_at for one in self._runs.values() if one.seen_at is not None]
        return any(now - at < UNEASY for at in times)

    def reason(self, server: EdgeServer) -> str:
        """Why a server that is down was taken out here; "" when it was not."""
        down = server.admin == "ready" and not server.up
        return self._out.get((server.backend, server.name), "") if down else ""
