"""Cron expressions: what is said of faulty ones, changes of the clocks, walks back."""

from __future__ import annotations

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.model import cron

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("* * * *", "5 fields"),
        ("* * * * * *", "5 fields"),
        ("61 * * * *", "bad minute"),
        ("0 25 * * *", "bad hour"),
        ("0 0 30 2 *", "bad day"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("a b c d e", "bad minute"),
    ],
)
def test_faulty_ones_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        cron.parse(text)


def test_spaces_do_not_matter() -> None:
    assert cron.parse(" 0  3 * * MON-FRI ") == "0 3 * * MON-FRI"


@pytest.mark.parametrize("name", ["Europe/Berln", "../../etc/passwd", "", "Europe", "/etc/passwd"])
def test_zones_are_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="must be a time zone"):
        cron.parse_zone(name)


def test_what_the_gap_swallows_comes_right_after_it() -> None:
    found = cron.following("30 2 * * *", BERLIN, at("2026-03-28 12:00", BERLIN))
    assert found == at("2026-03-29 03:00", BERLIN)


def test_an_hour_that_comes_twice_counts_once() -> None:
    first = cron.following("30 2 * * *", BERLIN, at("2026-10-24 12:00", BERLIN))
    assert first == at("2026-10-25 02:30", BERLIN)
    for moment in (first, at("2026-10-25 02:15", BERLIN, fold=1)):
        assert cron.following("30 2 * * *", BERLIN, moment) == at("2026-10-26 02:30", BERLIN)


def test_every_half_hour_goes_by_real_time() -> None:
    moments = [at("2026-10-25 01:30", BERLIN)]
    for _ in range(6):
        found = cron.following("*/30 * * * *", BERLIN, moments[-1])
        assert found is not None
        moments.append(found)
    assert [b - a for a, b in itertools.pairwise(moments)] == [1800.0] * 6


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "15 */3 * * *"]),
    st.sampled_from(["UTC", BERLIN, "Australia/Lord_Howe"]),
    st.floats(at("2026-10-24 00:00"), at("2026-10-26 00:00")),
    st.floats(0, 100_000),
)
@settings(max_examples=100, deadline=None)
def test_the_last_one_is_the_last_one(
    expression: str, zone: str, after: float, over: float
) -> None:
    now = after + over
    found = cron.last_due(expression, zone, after, now)
    following = cron.following(expression, zone, after)
    assert following is not None
    assert (found is None) == (following > now)
    if found is not None:
        last, passed = found
        assert after < last <= now
        after_it = cron.following(expression, zone, last)
        assert after_it is not None
        assert after_it > now
        assert passed <= cron.FAR


def test_years_of_minutes_take_no_walk() -> None:
    found = cron.last_due("* * * * *", "UTC", 0.0, at("2026-11-22 12:00") + 0.5)
    assert found == (at("2026-11-22 12:00"), cron.FAR)
