"""Reservations against the machine: the sums, the refusal, and the room for old beside new."""

from __future__ import annotations

import pytest

from gapless import errors
from gapless.core import sizing
from gapless.engine import preflight
from gapless.model.stack import Stack
from tests.core import worlds

GIB = 1024**3
BOX = sizing.Machine(cpus=4, memory=8 * GIB, available=6 * GIB)


def reserved(cpu: float, memory: str, replicas: int | str = 3) -> Stack:
    reserve = {"cpu": cpu, "memory": memory}
    return worlds.stack(web={"replicas": replicas, "reserve": reserve})


def test_sums_are_over_all_replicas() -> None:
    # Beside web: two of api, two of worker and beat, which reserve nothing.
    assert sizing.totals(reserved(0.5, "1G"), BOX) == sizing.Totals(1.5, 3 * GIB, 8)
    assert sizing.totals(reserved(0.5, "1G", "cpus"), BOX) == sizing.Totals(2.0, 4 * GIB, 9)
    assert sizing.totals(reserved(0.5, "1G"), BOX, {"web": 7}) == sizing.Totals(3.5, 7 * GIB, 12)


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        (sizing.Totals(4.0, 8 * GIB, 1), ""),
        (sizing.Totals(4.5, 8 * GIB, 1), "cpu 4.5 of 4 cores"),
        (sizing.Totals(4.0, 9 * GIB, 1), "memory 9G of 8G"),
        (sizing.Totals(5.0, 9 * GIB, 1), "cpu 5 of 4 cores and memory 9G of 8G"),
    ],
)
def test_what_does_not_fit_is_said_with_the_sums(wanted: sizing.Totals, fault: str) -> None:
    assert sizing.misfit(wanted, BOX) == fault


def test_it_is_refused_on_this_machine() -> None:
    preflight.fits(worlds.stack())
    with pytest.raises(errors.Refused, match="cpu 30000 of"):
        preflight.fits(reserved(10_000, "1M"))
    with pytest.raises(errors.Refused, match="cpu 20000 of"):
        preflight.fits(reserved(10_000, "1M"), {"web": 2})


@pytest.mark.parametrize(("memory", "room"), [("1G", True), ("2G", False), ("1366M", False)])
def test_room_to_park_is_room_for_both(memory: str, room: bool) -> None:
    assert sizing.room_to_park(reserved(0.1, memory), BOX) is room


def test_room_to_park_also_asks_what_is_free_now() -> None:
    busy = sizing.Machine(cpus=4, memory=8 * GIB, available=2 * GIB)
    assert not sizing.room_to_park(reserved(0.1, "1G"), busy)
