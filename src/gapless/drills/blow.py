"""A blow at replicas, one or several, and what becomes of their places, as the edge tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from gapless import errors
from gapless.drills.stage import Stage
from gapless.drills.state import Replica
from gapless.edge import asking
from gapless.engine import clock
from gapless.model.process import Address, ReplicaId
from gapless.model.service import Service
from gapless.observed import EdgeServer
from gapless.runtimes.machine import proc

POLL = 0.01
"""Seconds between two looks at the edge."""
PATIENCE = 60.0
"""Seconds, and the service's time to start, in which its place must have been filled."""
STATUS = 0.05
"""Seconds between two looks at the controller's status."""


@dataclass(frozen=True, slots=True)
class Blow:
    """Seconds since the blow; None: it did not come in the time given.

    ``gone``: the process has ended. ``away``: the edge sends it nothing any more. ``entered``: a
    successor is in rotation, ``full``: as many are as before. ``boot``: how long the successor
    took by itself, from its start to its first good answer. ``overlap``: a successor entered while
    the victim was still in rotation. ``at``, ``until``: the window (unix seconds) in which a
    request that was sent may have been in its hands. Of several victims the last one counts, and
    of their successors the first.
    """

    victim: str
    gone: float | None = None
    away: float | None = None
    entered: float | None = None
    full: float | None = None
    boot: float | None = None
    overlap: bool = False
    at: float = 0.0
    until: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Times in milliseconds."""
        times = {
            f"{name}_ms": None if value is None else round(value * 1000)
            for name, value in asdict(self).items()
            if name in ("gone", "away", "entered", "full", "boot")
        }
        return {"victim": self.victim, **times, "overlap": self.overlap}

    def told(self) -> str:
        """One line for people."""
        return (
            f"{self.victim}: out of rotation after {_seconds(self.away)}, full strength after "
            f"{_seconds(self.full)} (boot of the successor {_seconds(self.boot)})"
        )


class Grip:
    """A hold on one replica's process: signals reach it or nobody. A context manager."""

    def __init__(self, replica: Replica) -> None:
        """Raises WorkFailed when the pid is not that replica's any more."""
        pid = replica.pid or 0
        try:
            self._handle = os.pidfd_open(pid)
        except OSError as error:
            raise errors.WorkFailed(f"{replica.id}: pid {pid}: {error.strerror}") from None
        found = proc.stat(pid)
        started = None if found is None else clock.to_unix(found.start / proc.TICKS)
        if started is None or abs(started - (replica.started_at or 0.0)) > 1.0:
            os.close(self._handle)
            raise errors.WorkFailed(f"{replica.id}: pid {pid} is another program's: left alone")
        self.replica = replica
        self.pid = pid
        self._start = found.start if found else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def send(self, number: signal.Signals) -> None:
        """Signal it; one that has ended hears nothing."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    @property
    def gone(self) -> bool:
        """Whether it has ended, and everything that it held is closed."""
        return bool(select.select([self._handle], [], [], 0)[0])

    @property
    def stopped(self) -> bool:
        """Whether it lives and stands still."""
        found = None if self.gone else proc.stat(self.pid)
        return found is not None and found.start == self._start and found.state in "Tt"


def strike(stage: Stage, grips: Sequence[Grip], number: signal.Signals) -> Blow:
    """Send the signal and follow what happens until the service is at full strength again.

    ``grips``: of replicas of one service, one at least.
    """
    return asyncio.run(_Watch(stage, grips).go(number))


class _Watch:
    def __init__(self, stage: Stage, grips: Sequence[Grip]) -> None:
        self.stage = stage
        self.grips = grips
        self.names = {ReplicaId.parse(grip.replica.id).server for grip in grips}
        self.victims = ", ".join(grip.replica.id for grip in grips)
        self.backend = grips[0].replica.service
        self.edge = asking.Asking(stage.paths.run, stage.paths.stack)
        self.service = stage.target.stack.services[self.backend]
        self.found: dict[str, float | None] = dict.fromkeys(("gone", "away", "entered", "full"))
        self.overlap = False

    async def go(self, number: signal.Signals) -> Blow:
        before = self._mine(await self.edge.seen())
        at, began = time.time(), time.monotonic()
        for grip in self.grips:
            grip.send(number)
        boot = asyncio.create_task(self._boot())
        limit = min(PATIENCE, self.service.start + PATIENCE / 2)
        while self.found["full"] is None and time.monotonic() - began < limit:
            with contextlib.suppress(errors.EdgeRefused):
                self._note(before, self._mine(await self.edge.seen()), time.monotonic() - began)
            await asyncio.sleep(POLL)
        if self.found["full"] is None:
            boot.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await boot
        away, gone = self.found["away"], self.found["gone"]
        # Whatever was sent later than that can not have come to it.
        last = max(away or 0.0, gone or 0.0) if number == signal.SIGKILL else away or limit
        return Blow(
            self.victims,
            **self.found,
            boot=None if boot.cancelled() else boot.result(),
            overlap=self.overlap,
            at=at,
            until=at + last,
        )

    def _mine(self, servers: Any) -> dict[str, EdgeServer]:
        return {n: one for n, one in servers.items() if one.backend == self.backend}

    def _note(self, before: dict[str, EdgeServer], now: dict[str, EdgeServer], at: float) -> None:
        def first(what: str, true: bool) -> None:
            if true and self.found[what] is None:
                self.found[what] = at

        inside = any(one.takes_work for name, one in now.items() if name in self.names)
        working = [name for name, one in now.items() if one.takes_work]
        new = [name for name in working if name not in before]
        first("gone", all(grip.gone for grip in self.grips))
        first("away", not inside)
        self.overlap = self.overlap or (inside and bool(new))
        first("entered", bool(new))
        strength = sum(one.takes_work for one in before.values())
        first("full", not inside and len(working) >= strength)

    async def _boot(self) -> float | None:
        """A successor's own time to its first good answer, asked of itself."""
        known = {one.pid for one in (await asyncio.to_thread(self.stage.look)).replicas}
        while True:
            state = await asyncio.to_thread(self.stage.look)
            for one in state.replicas:
                if one.service == self.backend and one.pid and one.pid not in known:
                    return await self._until_ready(one)
            await asyncio.sleep(STATUS)

    async def _until_ready(self, successor: Replica) -> float | None:
        begun = proc.stat(successor.pid or 0)
        if begun is None or not successor.address:
            return None
        address = Address.parse(successor.address)
        while not await answers(address, self.service):  # noqa: ASYNC110  # another process knows
            await asyncio.sleep(POLL)
        return clock.now() - begun.start / proc.TICKS


async def answers(address: Address, service: Service) -> bool:
    """Whether a replica says that it is ready; one without a path: whether it accepts."""
    try:
        if address.socket:
            reader, writer = await asyncio.open_unix_connection(address.socket)
        else:
            reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    try:
        if service.ready is None or service.ready.path is None:
            return True
        line = f"GET {service.ready.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(line.encode())
        words = (await reader.readline()).split()
        return len(words) > 1 and words[1][:1] in b"23" and words[1][:1] != b""
    except OSError:
        return False
    finally:
        writer.close()


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
