"""One deploy of each peer under the same bounded load."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import machine, peers
from gapless import errors
from gapless.drills import figures, generator
from gapless.drills import spec as specs

BEFORE = 3.0
AFTER = 3.0
LIMIT = 90.0
"""A deploy that has not replaced everybody by then is given up."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one deploy cost. Times in seconds, memory in MiB; ``skipped`` says why there is none."""

    name: str
    requests: int = 0
    failed: int = 0
    slow_failed: int = 0
    slow: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    failing: float = 0.0
    """Seconds between the first and the last failure."""
    deploy: float = 0.0
    worst_ms: float = 0.0
    manager: float = 0.0
    proxy: float = 0.0
    skipped: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def load(port: int, *, post: str = "/", slow: str = "/slow") -> specs.Spec:
    """Open loop, so that everybody gets the same requests however badly it does: 500 a second,
    on kept connections and on new ones, GET and POST, and four that take a second.

    ``post``, ``slow``: where the application takes these.
    """
    return specs.Spec(
        url=f"http://127.0.0.1:{port}",
        streams=(
            specs.Stream(name="GET kept", path="/", clients=24, rate=300),
            specs.Stream(name="GET", path="/", clients=12, rate=100, keep_alive=False),
            specs.Stream(name="POST kept", path=post, method="POST", clients=12, rate=100),
            specs.Stream(name="slow", path=slow, clients=12, rate=4, slow=True),
        ),
        seconds=BEFORE + LIMIT + AFTER + 30,
        timeout=10.0,
        keep_failures=1000,
    )


def one(kind: type[Any]) -> Row:
    """Start a peer, deploy under load, stop it. Raises WorkFailed when it does not do its part."""
    with machine.folder() as folder:
        try:
            peer: peers.Peer = kind(folder)
        except errors.MissingSubject as missing:
            return Row(kind.name, skipped=missing.message)
        try:
            peer.start()
            machine.until(f"{peer.name}: 3 replicas", lambda: len(folder.booted()) == 3)
            machine.until(f"{peer.name}: its port", lambda: machine.answers(peer.port))
            return _under_load(peer, folder)
        finally:
            peer.stop()


def _under_load(peer: peers.Peer, folder: machine.Folder) -> Row:
    old = folder.booted()
    with generator.Load(load(peer.port)) as running:
        running.until(requests=1, seconds=10)
        time.sleep(BEFORE)
        running.mark("during")
        begun = time.monotonic()
        peer.deploy()
        machine.until(f"{peer.name}: replaced", lambda: _replaced(old, folder.booted()), LIMIT)
        seconds = time.monotonic() - begun
        memory = machine.memory(peer.managers()), machine.memory(peer.proxies())
        running.mark("after")
        time.sleep(AFTER)
        measured = running.finish()
    whole = measured.total()
    slow = [count for phase in measured.phases.values() for count in phase.values() if count.slow]
    at = [failure["at"] for failure in measured.failures]
    return Row(
        peer.name,
        requests=whole.requests,
        failed=whole.failed,
        slow_failed=sum(count.failed for count in slow),
        slow=sum(count.requests for count in slow),
        kinds=whole.kinds,
        failing=max(at) - min(at) if at else 0.0,
        deploy=seconds,
        worst_ms=_worst(measured),
        manager=memory[0],
        proxy=memory[1],
    )


def _worst(measured: figures.Measured) -> float:
    """The slowest good answer of the fast routes, in milliseconds."""
    counts = [count for phase in measured.phases.values() for count in phase.values()]
    return max((max(c.samples) for c in counts if c.samples and not c.slow), default=0) / 1000


def _replaced(old: set[int], now: set[int]) -> bool:
    return not old & now and len(now) == 3


def all_of(names: list[str], say: Callable[[str], None]) -> list[Row]:
    """Every peer whose name contains one of ``names`` (none: all), one after the other."""
    rows = []
    for kind in peers.ALL:
        if names and not any(name.lower() in kind.name.lower() for name in names):
            continue
        say(kind.name)
        try:
            rows.append(one(kind))
        except errors.GaplessError as error:
            rows.append(Row(kind.name, skipped=error.message))
    return rows
