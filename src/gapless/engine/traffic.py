"""Traffic numbers of the last while, exactly, from the end of the edge's access log.

Read when somebody asks, and no more of it than ``MOST`` bytes: under a load that writes more than
that in the time asked for, the numbers are of the shorter time that they say.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gapless.edge import accesslog
from gapless.engine import logfiles

MOST = 8 * 1024 * 1024
LONGEST = 3600.0
"""Seconds that may be asked for."""
_STAMP = len("2026-01-31T12:00:00.000Z")


def report(log: Path, seconds: float, now: float, routes: dict[str, str]) -> dict[str, Any]:
    """The answer of ``GET /v1/traffic``. ``now``: seconds since 1970. ``routes``: by service.

    Blocking, for a tenth of a second at most.
    """
    lines, whole = recent(log, now - seconds)
    entries = [one for line in lines if (one := accesslog.parse(line)) is not None]
    covered = seconds
    if not whole and entries:
        covered = max(0.001, now - moment(str(entries[0]["time"])))
    tallies = accesslog.tally(entries)
    services = {name: one.told(covered) for name, one in sorted(tallies.items()) if name}
    for name, one in services.items():
        one["route"] = routes.get(name)
    return {
        "at": now,
        "seconds": round(covered, 3),
        "total": tallies.get("", accesslog.Tally()).told(covered),
        "services": services,
    }


def recent(log: Path, since: float) -> tuple[list[str], bool]:
    """Lines of the log since then, oldest first; and whether these are all of them."""
    parts = [part for part in log.parent.glob(f"{log.name}.*") if part.suffix[1:].isdigit()]
    found: list[str] = []
    left = MOST
    for path in (log, *sorted(parts, key=lambda part: int(part.suffix[1:]))):
        if left <= 0:
            return found, False
        lines, size, whole = _end(path, left)
        late = [line for line in lines if _at(line) >= since]
        found[:0] = late
        if len(late) < len(lines):
            return found, True
        if not whole:
            return found, False
        left -= size
    return found, True


def _end(path: Path, most: int) -> tuple[list[str], int, bool]:
    """The log's lines among the last bytes of a file, how many that are, and whether all."""
    try:
        with path.open("rb") as stream:
            first = logfiles.begin(stream, 0)
            end = os.fstat(stream.fileno()).st_size
            start = max(first, end - most)
            stream.seek(start)
            raw = stream.read(end - start)
    except OSError:
        return [], 0, True
    lines = raw.lstrip(b"\0").decode("utf-8", "replace").split("\n")
    if start > first:
        lines = lines[1:]  # cut in two
    lines = [line for line in lines[:-1] if line.startswith(accesslog.BEGINNING)]
    return lines, len(raw), start == first


def _at(line: str) -> float:
    start = len(accesslog.BEGINNING)
    return moment(line[start : start + _STAMP])


def moment(text: str) -> float:
    """Seconds since 1970 of a time in the log; 0.0 for what is none."""
    try:
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
