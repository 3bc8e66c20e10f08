"""gapless alone: how quick ``ps`` is, what an idle controller costs, how long a deploy takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import decisions, machine, many_replicas, peers

PS = 21
TIMES = 3
MANY = 20


@dataclass(frozen=True, slots=True)
class Own:
    """Measured, with the bound each has to keep."""

    ps_ms: float
    boot: float
    deploy: float
    drain: float
    watch: float
    idle_cpu: float
    idle_memory: float
    decisions: dict[str, float]
    """Situation to ms."""
    many_up: float
    many_cpu: float
    many_memory: float
    many_ps: float

    def lines(self) -> list[tuple[str, str, str, bool]]:
        """(what, measured, bound, kept)."""
        slowest = max(self.decisions, key=self.decisions.__getitem__)
        many = many_replicas.HTTP + many_replicas.WORKERS
        bound = 2 * self.boot + self.watch + self.drain
        return [
            ("gapless ps, median", f"{self.ps_ms:.0f} ms", "200 ms", self.ps_ms < 200),
            (
                f"deploy of 3, surge all, no load, median of {TIMES}",
                f"{self.deploy:.2f} s",
                f"2 x boot ({self.boot:.2f} s) + watch + end ({self.drain:.2f} s) = {bound:.2f} s",
                self.deploy <= bound,
            ),
            (
                f"controller idle, {MANY} replicas: cpu",
                f"{self.idle_cpu:.2f} % of a core",
                "1 %",
                self.idle_cpu < 1,
            ),
            (
                f"controller idle, {MANY} replicas: memory",
                f"{self.idle_memory:.0f} MiB",
                "80 MB",
                self.idle_memory * 1024**2 < 80e6,
            ),
            (
                f"a decision, the slowest: {slowest}",
                f"{self.decisions[slowest]:.0f} ms",
                "50 ms",
                self.decisions[slowest] < 50,
            ),
            (
                f"controller idle, {many} replicas: cpu",
                f"{self.many_cpu:.2f} % of a core ({self.many_memory:.0f} MiB)",
                "5 %",
                self.many_cpu < 5,
            ),
            (f"up of {many} replicas", f"{self.many_up:.1f} s", "60 s", self.many_up < 60),
            (
                f"gapless ps, {many} replicas, median",
                f"{self.many_ps:.0f} ms",
                "200 ms",
                self.many_ps < 200,
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(say: Callable[[str], None]) -> Own:
    """Everything, on a stack of its own. Raises GaplessError when a command fails."""
    say(f"decisions over {decisions.MANY} replicas")
    decided = decisions.measure()
    up, many_cpu, many_memory, many_ps = many_replicas.measure(say)
    with machine.folder() as folder:
        stack = peers.Gapless(folder)
        try:
            stack.start()
            say("gapless ps")
            ps = statistics.median(_timed(lambda: stack.command("ps")) for _ in range(PS))
            say("one replica's boot and end")
            boot, drain = _life(stack)
            say("deploy without load")
            stack.command("deploy", "--force", "--wait")  # the cached setup, warm files
            deploy = statistics.median(
                _timed(lambda: stack.command("deploy", "--force", "--wait")) for _ in range(TIMES)
            )
            say(f"{MANY} replicas, idle")
            stack.command("scale", f"web={MANY}")
            cpu, memory = many_replicas.idle(stack)
            return Own(
                ps_ms=1000 * ps,
                boot=boot,
                deploy=deploy,
                drain=drain,
                watch=peers.WATCH,
                idle_cpu=cpu,
                idle_memory=memory,
                decisions=decided,
                many_up=up,
                many_cpu=many_cpu,
                many_memory=many_memory,
                many_ps=many_ps,
            )
        finally:
            stack.stop()


def _timed(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _life(stack: peers.Gapless) -> tuple[float, float]:
    """Seconds to the first answer, and from TERM to the end with nothing in flight; medians."""
    port = machine.free_ports(1)[0]
    boots, ends = [], []
    for _ in range(TIMES):
        begun = time.monotonic()
        argv: list[str | Path] = [
            machine.tools() / "uvicorn",
            "app:app",
            "--port",
            str(port),
            *peers.UVICORN,
        ]
        child = machine.Child(argv, stack.folder, {"BOOT": str(peers.BOOT)})
        try:
            machine.until("a replica answers", lambda: machine.answers(port))
            boots.append(time.monotonic() - begun)
        finally:
            ends.append(_timed(child.stop))
    return statistics.median(boots), statistics.median(ends)
