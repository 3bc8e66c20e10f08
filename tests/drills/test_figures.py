"""Arithmetic of figures."""

from __future__ import annotations

import json
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.drills import figures, load


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_sample_that_enough_do_not_exceed(data: list[int], share: float) -> None:
    ordered = sorted(data)
    found = figures.percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9
    smaller = [value for value in ordered if value < found]
    assert len(smaller) < share * len(ordered) + 1e-9


def test_percentiles_by_hand() -> None:
    ordered = list(range(1, 101))
    assert figures.percentile(ordered, 0.5) == 50
    assert figures.percentile(ordered, 0.99) == 99
    assert figures.percentile(ordered, 1) == 100
    assert figures.percentile([], 0.5) is None


def test_the_rule_of_three() -> None:
    assert figures.rule_of_three(300) == pytest.approx(0.01, rel=0.01)
    assert figures.rule_of_three(1) == 1.0
    assert figures.rule_of_three(0) is None


def test_spread() -> None:
    assert figures.spread([90, 100, 110]) == pytest.approx(0.2)
    assert figures.spread([]) is None
    assert figures.spread([0, 0]) is None


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_samples_survive_the_journey(data: list[int]) -> None:
    assert list(figures.unpack(figures.pack(array("I", data)))) == data


def test_a_result_survives_the_journey_and_merges() -> None:
    count = figures.Count(5, 2, 1, 1, False, {"cut": 2}, array("I", [1, 2]))
    measured = figures.Measured({"during": {"a": count}}, figures.Sockets(3, 3, 1, 1, 0, 0, 3))
    measured.cookies = {"a": figures.Cookies(3, 0, 1, {"replica 1": 3})}
    again = load.decode(json.loads(json.dumps(load.encode(measured))))
    assert again == measured
    again.merge(measured)
    assert again.total().requests == 10
    assert again.total().kinds == {"cut": 4}
    assert again.sockets.clients == 6
    assert again.fast("during") == [0.001, 0.001, 0.002, 0.002]
