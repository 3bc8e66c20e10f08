"""Requests a second from counters: over one and the same time, as short as tells enough."""

from __future__ import annotations

import pytest

from gapless.core.autoscale import tallies
from gapless.core.autoscale.tallies import Tally


def tally(*readings: tuple[float, int]) -> Tally:
    made = Tally()
    for at, count in readings:
        made.note(at, count)
    return made


def steady(rate: float, seconds: int, start: float = 0.0) -> Tally:
    """One reading a second."""
    return tally(*[(start + s, round(rate * s)) for s in range(seconds + 1)])


def test_one_reading_tells_nothing() -> None:
    assert tallies.counted({"a": tally((1.0, 500))}, 1.0).rates == {}
    assert tallies.counted({}, 1.0).rates == {}


@pytest.mark.parametrize(
    ("rate", "seconds"), [(200, 2.0), (40, 3.0), (25, 5.0), (13, 8.0), (7, 15.0), (0, 15.0)]
)
def test_the_fewer_come_the_longer_is_counted(rate: int, seconds: float) -> None:
    found = tallies.counted({"a": steady(rate, 20)}, 20.0)
    assert found.seconds == seconds
    assert found.rates["a"] == pytest.approx(rate, abs=0.1)


def test_the_sum_is_what_was_asked_though_some_have_just_come() -> None:
    """100 requests/s, shared by two since a second ago: not 100 and 50 more."""
    old = tally(*[(float(s), 100 * s) for s in range(10)], (10.0, 950))
    new = tally((9.0, 0), (10.0, 50))
    found = tallies.counted({"old": old, "new": new}, 10.0)
    assert found.seconds == 2.0
    assert sum(found.rates.values()) == pytest.approx(100)


def test_the_time_is_that_between_readings_however_late_they_are() -> None:
    found = tallies.counted({"a": tally((0.0, 0), (2.9, 290), (4.1, 410), (5.9, 590))}, 5.9)
    assert found.seconds == pytest.approx(3.0)
    assert found.rates["a"] == pytest.approx(100)


def test_a_counter_that_went_back_is_a_new_one() -> None:
    assert tallies.counted({"a": tally((0.0, 900), (1.0, 10), (2.0, 30))}, 2.0).rates == {"a": 20}


def test_old_readings_are_dropped() -> None:
    assert len(steady(1, 1000).moments) <= tallies.WINDOWS[-1] + 2
