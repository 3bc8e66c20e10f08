"""Cron expressions: five fields, as Debian's cron reads them, in a zone of the IANA database.

Evaluated by cronsim (docs/decisions/0010-schedules.md). Where the clocks of a zone go forward, what
falls into the gap comes right after it; where they go back, what names an hour comes once.
Moments are seconds since 1970.
"""

from __future__ import annotations

import functools
import math
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim, CronSimError

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
FAR = 1000
"""Occurrences walked one by one; behind more of them the last is looked for from its end."""


def parse(text: str) -> str:
    """The expression with single spaces. Raises ValueError: malformed, or it never comes."""
    words = text.split()
    if len(words) != len(FIELDS):
        raise ValueError(
            f"a schedule has {len(FIELDS)} fields ({', '.join(FIELDS)}), got {len(words)}"
        )
    joined = " ".join(words)
    try:
        first = next(CronSim(joined, SOME_DAY), None)
    except CronSimError as error:
        raise ValueError(f"not a schedule: {str(error).lower()}") from None
    if first is None:
        raise ValueError("a day that no calendar has: it never comes")
    return joined


def parse_zone(name: str) -> str:
    """The name of a zone that is known here. Raises ValueError."""
    try:
        _zone(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        import difflib

        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), 1)
        meant = f'; did you mean "{near[0]}"?' if near else ', such as "Europe/Berlin"'
        raise ValueError(f'must be a time zone, got "{name}"{meant}') from None
    return name


@functools.lru_cache(maxsize=1024)
def following(expression: str, zone: str, at: float) -> float | None:
    """The first occurrence after a moment; None: none within 50 years."""
    return next(_after(expression, zone, at), None)


def last_due(expression: str, zone: str, after: float, now: float) -> tuple[float, int] | None:
    """(the last occurrence in (after, now], how many came before it there); None: there is none.

    More than ``FAR`` before it are given as ``FAR``.
    """
    first = following(expression, zone, after)
    if first is None or first > now:
        return None
    last, passed = first, 0
    for found in _after(expression, zone, first):
        if found > now:
            return last, passed
        last, passed = found, passed + 1
        if passed == FAR:
            break
    else:
        return last, passed
    back = CronSim(expression, _date(math.floor(now) + 1, zone), reverse=True)
    return max(last, next(back).timestamp()), FAR


def _after(expression: str, zone: str, at: float) -> Iterator[float]:
    for found in CronSim(expression, _date(at, zone)):
        if (moment := found.timestamp()) > at:
            yield moment


def show(at: float, zone: str = "UTC") -> str:
    """A moment as ``2026-11-22 03:00`` in the zone, which is named where it is another than UTC."""
    moment = _date(at, zone)
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or zone}"


def _date(at: float, zone: str) -> datetime:
    return datetime.fromtimestamp(at, tz=_zone(zone))


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
