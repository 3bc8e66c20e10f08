"""A store without a server, for tests of what stands above: held to the same contract suite.

The world is in ``Disk``: it outlives the store objects, as a disk outlives controllers. A test
says when the server runs (``disk.up``) and with which settings it was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gapless.data import base
from gapless.errors import DataFault
from gapless.model.process import Address, Bridge, Process

_HOST = "127.0.0.1"
KNOWN = ("greeting", "limit")
"""Settings that there are; ``limit`` takes effect at a restart only."""


@dataclass(slots=True)
class Disk:
    """What is there whether anybody looks or not."""

    made: bool = False
    up: bool = False
    password: str = ""
    written: dict[str, str] = field(default_factory=dict)
    in_force: dict[str, str] = field(default_factory=dict)
    queues: dict[str, int] = field(default_factory=dict)
    """Queue to tasks that are not done."""

    def start(self) -> None:
        """The server starts: it reads its settings."""
        self.up, self.in_force = True, dict(self.written)

    def kill(self) -> None:
        """The server is gone; what was written stays."""
        self.up = False


class FakeStore:
    """See ``data.base.Store`` for the methods."""

    def __init__(self, name: str, place: base.Place, disk: Disk, **settings: str) -> None:
        self.name = name
        self._place = place
        self._disk = disk
        self._settings = settings

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        port, password, host = str(self._place.port), self._place.password, host or _HOST
        url = f"fake://:{password}@{host}:{port}"
        return {"url": url, "host": host, "port": port, "password": password}

    def created(self) -> bool:
        return self._disk.made

    async def create(self) -> None:
        self._check()
        if not self._disk.made:
            self._disk.written = dict(self._settings)
            self._disk.password = self._place.password
            self._disk.made = True

    def process(self, bridge: Bridge | None = None) -> Process:
        self._must_be_made()
        return Process(
            id=f"data.{self.name}",
            argv=("fake-server", str(self._place.home)),
            identity=self._place.identity,
            address=Address(host=_HOST, port=self._place.port),
            labels={"kind": "data", "data": self.name},
        )

    async def probe(self) -> str:
        if not self._disk.up:
            return "connection refused"
        return "" if self._disk.password == self._place.password else "wrong password"

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        return ("fake-shell", str(self._place.port)), {"FAKE_PASSWORD": self._place.password}

    async def pending(self) -> tuple[base.Pending, ...]:
        return self._differences(self._disk.in_force if self._disk.up else self._disk.written)

    async def apply(self, *, stopped: bool = False) -> tuple[base.Pending, ...]:
        self._must_be_made()
        self._check()
        self._disk.written = dict(self._settings)
        self._disk.password = self._place.password
        if stopped or not self._disk.up:
            return ()
        waiting = self._differences(self._disk.in_force)
        fixed = {k: v for k, v in self._disk.in_force.items() if k == "limit"}
        loose = {k: v for k, v in self._settings.items() if k != "limit"}
        self._disk.in_force = fixed | loose
        return tuple(pending for pending in waiting if pending.restart)

    def explain(self, log: str) -> str:
        return next((line for line in reversed(log.splitlines()) if "FATAL" in line), "")

    async def backlog(self, queue: str) -> int:
        """See ``data.base.Backlog``."""
        if not self._disk.up:
            raise DataFault(f"{self.name}: queue {queue}: connection refused")
        return self._disk.queues.get(queue, 0)

    async def close(self) -> None:
        pass

    def _differences(self, now: Mapping[str, str]) -> tuple[base.Pending, ...]:
        if not self._disk.made:
            return ()
        return tuple(
            base.Pending(key, now.get(key, "default"), wanted, key == "limit")
            for key in KNOWN
            for wanted in (self._settings.get(key, "default"),)
            if now.get(key, "default") != wanted
        )

    def _must_be_made(self) -> None:
        if not self._disk.made:
            raise DataFault(f"{self.name}: was not created yet", hint="gapless up")

    def _check(self) -> None:
        for key in self._settings:
            if key not in KNOWN:
                raise DataFault(f"{self.name}: settings.{key}: not the name of a setting")
