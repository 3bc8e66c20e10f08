"""The edge is killed under load: the controller starts another, and all that serves is in it.

An outage it is, so requests fail; the drill counts them, and none may fail once the next edge has
answered. How long that takes is told, and judged only where strictness is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gapless import errors
from gapless.drills import base, blow, mix, toll, traffic
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import asking

NAME = "edge-crash"
PROMISE = "a killed load balancer is back at once, with all that it served"
ROUNDS = 3
REQUESTS = 300
"""Sent between two blows, at least."""
QUICK = 1.0
"""Strict: seconds in which it serves again."""
POLL = 0.002


@dataclass(frozen=True, slots=True)
class Crash:
    """Seconds since the kill; None: it did not come in the time given.

    ``served``: the first good answer of the next edge. ``full``: as many replicas are in its
    rotation as before. ``lost``: replicas that are not the same process any more. ``at`` and
    ``until``: the window (unix seconds) in which requests may fail. ``same``: whether the edge's
    pid is what it was, so that nothing was killed.
    """

    served: float | None = None
    full: float | None = None
    lost: tuple[str, ...] = ()
    at: float = 0.0
    until: float = 0.0
    same: bool = False

    def told(self) -> str:
        """One line for people."""
        served, full = _ms(self.served), _ms(self.full)
        return f"killed: serves again after {served}, at full strength after {full}"


@dataclass(frozen=True, slots=True)
class Table:
    """``outside``: requests that failed though they were sent when an edge served. ``refused``:
    of all failures, those whose connection was refused."""

    traffic: Traffic
    crashes: tuple[Crash, ...]
    wanted: int
    outside: int
    refused: int = 0


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons = [] if table.traffic.requests else ["not one request was sent"]
    if len(table.crashes) < table.wanted:
        reasons.append(f"only {len(table.crashes)} of {table.wanted} blows fell")
    for number, one in enumerate(table.crashes, 1):
        if one.same:
            reasons.append(f"blow {number}: the edge has not ended")
        if one.served is None:
            reasons.append(f"blow {number}: no edge served again")
        elif one.full is None:
            reasons.append(f"blow {number}: replicas are missing in its rotation")
        if one.lost:
            reasons.append(f"blow {number}: replicas were replaced: {', '.join(one.lost)}")
        if strict and one.served is not None and one.served > QUICK:
            reasons.append(f"blow {number}: {one.served:.2f} s of outage, {QUICK:g} s allowed")
    if table.outside:
        reasons.append(f"{table.outside} requests failed that were sent while an edge served")
    if table.traffic.unknown:
        reasons.append(f"{table.traffic.unknown:,} requests have an unknown outcome")
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    return f"the edge before {base.published(target, state)}"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    wanted = stage.options.rounds or ROUNDS
    spec = chosen.spec(chosen.closed(), traffic.LONGEST, keep_failures=1000)
    crashes: list[Crash] = []

    def blow() -> bool:
        crashes.append(strike(stage, chosen))
        stage.say(crashes[-1].told())
        return crashes[-1].full is not None

    began = time.monotonic()
    measured = traffic.between(spec, wanted, stage.options.requests or REQUESTS, blow)
    whole = measured.total()
    found = Traffic(
        requests=whole.requests,
        failed=whole.failed,
        unknown=whole.unknown,
        reused_failed=whole.reused_failed,
        kinds=whole.kinds,
        handovers=sum(one.full is not None for one in crashes),
        seconds=time.monotonic() - began,
    )
    table = Table(
        found,
        tuple(crashes),
        wanted,
        outside(whole.failed, measured.failures, crashes),
        whole.kinds.get("refused", 0),
    )
    detail = {
        "crashes": [asdict(one) for one in crashes],
        "refused": table.refused,
        "outside": table.outside,
        "failures": measured.failures[:20],
    }
    return Outcome(NAME, judge(table, stage.options.strict), found, detail)


def outside(failed: int, failures: Sequence[Mapping[str, Any]], crashes: Sequence[Crash]) -> int:
    """Failures of requests that were sent in no window; those that nobody listed count too."""
    listed = sum(
        any(
            one["sent"] <= crash.until + toll.SLACK and one["at"] >= crash.at - toll.SLACK
            for crash in crashes
        )
        for one in failures
    )
    return failed - listed


def strike(stage: Stage, chosen: mix.Mix) -> Crash:
    """Kill master and workers, and follow what comes after."""
    before = stage.settle()
    edge = asking.Asking(stage.paths.run, stage.paths.stack)
    strength = asyncio.run(_serving(edge))
    handles = _handles(asyncio.run(edge.pids()))
    at, began = time.time(), time.monotonic()
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    served = _until(lambda: answers(chosen), began)
    until = time.time()
    full = None
    if served is not None:
        full = _until(lambda: asyncio.run(_serving(edge)) >= strength, began)
    after = stage.look()
    same = after.edge_pid is not None and after.edge_pid == before.edge_pid
    return Crash(served, full, states.lost(before, after), at, until, same)


def _handles(pids: Sequence[int]) -> list[int]:
    """Holds on processes. Raises WorkFailed for one that is no HAProxy."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
            with open(f"/proc/{pid}/cmdline", "rb") as line:  # noqa: PTH123  # no file of ours
                if b"haproxy" not in line.read().split(b"\0")[0]:
                    raise errors.WorkFailed(f"pid {pid} is no edge: it is left alone")
        except OSError as error:
            raise errors.WorkFailed(f"edge: pid {pid}: {error.strerror}") from None
    return handles


def _until(true: Callable[[], bool], began: float) -> float | None:
    """Seconds since ``began`` when it is so; None: it never was."""
    while time.monotonic() - began < blow.PATIENCE:
        with contextlib.suppress(errors.EdgeRefused, OSError):
            if true():
                return time.monotonic() - began
        time.sleep(POLL)
    return None


def answers(chosen: mix.Mix) -> bool:
    """Whether the edge gives a good answer, on a connection of its own."""
    try:
        return mix.ask(replace(chosen, timeout=2.0), chosen.get[0])[0] < 400
    except (OSError, http.client.HTTPException):
        return False


async def _serving(edge: asking.Asking) -> int:
    return sum(one.takes_work for one in (await edge.seen()).values())


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value * 1000:.0f} ms"
