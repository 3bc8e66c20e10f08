"""``python -m bench [--only NAME …] [--no-own] [--no-edge]``: prints tables, writes
bench/out/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from rich.console import Console
from rich.table import Table

from bench import compare, edge, machine, own
from gapless import errors

console = Console(stderr=True, highlight=False)


def main() -> int:
    """Exit code 1 when gapless lost a request, broke one of its own bounds or fell behind."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--no-own", action="store_true", help="only the comparison")
    parser.add_argument("--no-edge", action="store_true", help="without the edge's throughput")
    parser.add_argument("--no-peers", action="store_true", help="only gapless alone")
    options = parser.parse_args()
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    out.print(f"{platform.platform()}, {os.cpu_count()} cpus, Python {platform.python_version()}")
    try:
        rows = [] if options.no_peers else compare.all_of(options.only, _say)
        alone = None if options.no_own else own.measure(_say)
        proxied = [] if options.no_edge else _proxied(options.only)
    except errors.GaplessError as error:
        console.print(f"bench: {error.message}")
        return error.exit_code
    if rows:
        out.print(_compared(rows))
    if alone:
        out.print(_alone(alone))
    if proxied:
        out.print(edge.table(proxied))
    machine.OUT.mkdir(parents=True, exist_ok=True)
    results = {
        "peers": [row.as_json() for row in rows],
        "own": alone.as_json() if alone else None,
        "edge": [row.as_json() for row in proxied],
    }
    (machine.OUT / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    lost = any(row.failed or row.skipped for row in rows if row.name.startswith("gapless"))
    broken = alone is not None and not all(kept for *_, kept in alone.lines())
    return int(lost or broken or not all(row.held for row in proxied))


def _proxied(names: list[str]) -> list[edge.Row]:
    try:
        return edge.measure(names, _say)
    except errors.MissingSubject as missing:
        _say(f"the edge's throughput is skipped: {missing.message}")
        return []


def _say(text: str) -> None:
    console.print(f"… {text}")


def _compared(rows: list[compare.Row]) -> Table:
    table = Table(title="one deploy of 3 replicas (1 s boot) under 500 requests/s, open loop")
    table.add_column("tool")
    for name in ("failed", "of", "failing", "worst", "deploy", "manager", "proxy"):
        table.add_column(name, justify="right")
    table.add_column("how")
    for row in rows:
        if row.skipped:
            table.add_row(row.name, "-", "", "", "", "", "", "", f"skipped: {row.skipped}")
            continue
        table.add_row(
            row.name,
            f"{row.failed:,}",
            f"{row.requests:,}",
            f"{row.failing:.1f} s",
            f"{row.worst_ms:.0f} ms",
            f"{row.deploy:.1f} s",
            f"{row.manager:.0f} MiB",
            f"{row.proxy:.0f} MiB" if row.proxy else "",
            ", ".join(f"{count} {kind}" for kind, count in sorted(row.kinds.items())),
        )
    return table


def _alone(measured: own.Own) -> Table:
    table = Table(title="gapless alone")
    for name in ("what", "measured", "bound", ""):
        table.add_column(name)
    for what, value, bound, kept in measured.lines():
        table.add_row(what, value, bound, "kept" if kept else "BROKEN")
    return table


if __name__ == "__main__":
    sys.exit(main())
