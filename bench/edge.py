"""The live edge beside a hand-tuned HAProxy, nginx, Caddy and Traefik, in alternating rounds.

``python -m bench.edge [--only NAME …] [--rounds N] [--seconds N]``. The machine changes from
minute to minute, so each round measures both sides, one right after the other, and the verdict is
the median of the rounds' ratios. Load comes from ``wrk`` (Debian's package): a generator in Python
would be the slowest part of all.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine, proxies
from gapless import errors

CLIENTS = 50
_JOB = {True: "by cookie", False: "to the least busy"}
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one side: requests a second, milliseconds, answers that were none, and
    microseconds of the proxy's cpu for each request."""

    rate: float
    p50: float
    p99: float
    failed: int
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A pair: medians of both sides, and of the ratios ours / theirs within each round."""

    peer: str
    backend: str
    sticky: bool
    kept: bool
    rounds: int
    ours: Sample
    theirs: Sample
    rate: float
    p99: float
    cpu: float
    least: float
    """The ratio of rates that is asked for."""

    @property
    def held(self) -> bool:
        """Throughput, and nothing failed. p99 is judged with as much tolerance."""
        return self.rate >= self.least and self.p99 * self.least <= 1 and not self.ours.failed

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "held": self.held}


def wrk() -> str:
    """Raises MissingSubject where it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise errors.MissingSubject("wrk is not installed (Debian: apt-get install wrk)")
    return found


def sample(proxy: proxies.Program, *, kept: bool, seconds: float) -> Sample:
    """One burst of bounded length from this machine to itself."""
    before = proxy.cpu()
    words = [wrk(), "-t1", f"-c{CLIENTS}", f"-d{max(1, round(seconds))}s", "--latency"]
    words += [] if kept else ["-H", "Connection: close"]
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{proxy.port}/"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found, requests = read(done.stdout)
    return replace(found, cpu=1e6 * (proxy.cpu() - before) / max(1, requests))


def read(text: str) -> tuple[Sample, int]:
    """What wrk printed, and how many requests it was. Raises WorkFailed where that is no result."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    times = {
        share: float(value) * _UNITS[unit]
        for share, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)
    }
    requests = re.search(r"(\d+) requests in", text)
    if rate is None or requests is None or len(times) < 2:
        raise errors.WorkFailed(f"bench: wrk gave no result: {text[-300:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors_ = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    failed = int(bad[1]) if bad else 0
    failed += sum(map(int, errors_.groups())) if errors_ else 0
    return Sample(float(rate[1]), times["50"], times["99"], failed), int(requests[1])


def compare(ours: list[Sample], theirs: list[Sample], least: float) -> dict[str, Any]:
    """Medians and ratios of rounds that belong together."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "rounds": len(pairs),
        "ours": _median(ours),
        "theirs": _median(theirs),
        "rate": statistics.median(a.rate / b.rate for a, b in pairs),
        "p99": statistics.median(a.p99 / b.p99 for a, b in pairs),
        "cpu": statistics.median(a.cpu / b.cpu for a, b in pairs),
        "least": least,
    }


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        rate=statistics.median(one.rate for one in samples),
        p50=statistics.median(one.p50 for one in samples),
        p99=statistics.median(one.p99 for one in samples),
        failed=sum(one.failed for one in samples),
        cpu=statistics.median(one.cpu for one in samples),
    )


def measure(
    names: list[str], say: Callable[[str], None], *, rounds: int = 5, seconds: float = 2
) -> list[Row]:
    """Every pair whose peer's name contains one of ``names`` (none: all). Raises GaplessError."""
    wrk()
    rows: list[Row] = []
    jobs = itertools.product((proxies.fast, proxies.uvicorns), proxies.JOBS.items())
    for make, (sticky, kinds) in jobs:
        with machine.folder() as folder:
            replicas = make(folder)
            edge = proxies.Edge(sticky=sticky)
            try:
                edge.start(folder, replicas)
                _warm(edge)
                machine.until("its replicas are on probation no longer", edge.settled)
                for kind in kinds:
                    if names and not any(name.lower() in kind.name.lower() for name in names):
                        continue
                    say(f"{kind.name}, {replicas.name}, {_JOB[sticky]}")
                    rows += _pair(
                        edge, kind(sticky=sticky), folder, replicas, rounds=rounds, seconds=seconds
                    )
            finally:
                edge.stop()
                replicas.stop()
    return rows


def _pair(
    edge: proxies.Edge,
    peer: proxies.Program,
    folder: machine.Folder,
    replicas: proxies.Replicas,
    *,
    rounds: int,
    seconds: float,
) -> list[Row]:
    rows = []
    least = 0.95 if isinstance(peer, proxies.HandTuned) else 1.0
    try:
        peer.start(folder, replicas)
        _warm(peer)
        for kept in (True, False):
            ours: list[Sample] = []
            theirs: list[Sample] = []
            for number in range(rounds):
                # Who comes first changes, so that neither always follows the other.
                turns = [(edge, ours), (peer, theirs)]
                for proxy, taken in reversed(turns) if number % 2 else turns:
                    taken.append(sample(proxy, kept=kept, seconds=seconds))
            found = compare(ours, theirs, least)
            rows.append(Row(peer.name, replicas.name, edge.sticky, kept, **found))
    finally:
        peer.stop()
    return rows


def _warm(proxy: proxies.Program) -> None:
    sample(proxy, kept=True, seconds=1)


def table(rows: list[Row]) -> Table:
    drawn = Table(title=f"the edge beside others, {CLIENTS} clients (medians; ratios by round)")
    for name in ("beside", "replicas", "dealt out", "connections"):
        drawn.add_column(name)
    for name in (
        "gapless/s",
        "other/s",
        "ratio",
        "p99 ms",
        "other",
        "ratio",
        "cpu us",
        "other",
        "ratio",
        "failed",
        "",
    ):
        drawn.add_column(name, justify="right")
    for row in rows:
        drawn.add_row(
            row.peer,
            row.backend,
            _JOB[row.sticky],
            "kept" if row.kept else "one a request",
            f"{row.ours.rate:,.0f}",
            f"{row.theirs.rate:,.0f}",
            f"{row.rate:.2f}",
            f"{row.ours.p99:.1f}",
            f"{row.theirs.p99:.1f}",
            f"{row.p99:.2f}",
            f"{row.ours.cpu:.0f}",
            f"{row.theirs.cpu:.0f}",
            f"{row.cpu:.2f}",
            f"{row.ours.failed} / {row.theirs.failed}",
            "kept" if row.held else "BROKEN",
        )
    return drawn


def main() -> int:
    """Exit code 1 when the edge was behind."""
    parser = argparse.ArgumentParser(prog="bench.edge", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    try:
        rows = measure(
            options.only,
            lambda text: console.print(f"… {text}"),
            rounds=options.rounds,
            seconds=options.seconds,
        )
    except errors.GaplessError as error:
        console.print(f"bench: {error.message}")
        return error.exit_code
    Console(highlight=False, width=None if sys.stdout.isatty() else 170).print(table(rows))
    return int(not all(row.held for row in rows))


if __name__ == "__main__":
    sys.exit(main())
