"""How many connections a machine can hold, in numbers and in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapless.core import capacity

LIMITS = capacity.Limits(descriptors=20_000, ports=28_232, memory=2 * 1024**3)


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(None, 100_000), (20_000, 9_950), (1024, 462), (128, 50), (1_048_576, 524_238)],
)
def test_two_descriptors_each_and_some_to_spare(descriptors: int | None, connections: int) -> None:
    assert capacity.by_descriptors(descriptors) == connections
    assert capacity.at_edge(replace(LIMITS, descriptors=descriptors)) == connections


def test_the_file_may_ask_for_less_and_not_for_more() -> None:
    assert capacity.at_edge(replace(LIMITS, asked=500)) == 500
    assert capacity.at_edge(replace(LIMITS, asked=50_000)) == 9_950


def test_what_binds_is_said_and_how_to_raise_it() -> None:
    holds, raise_it = capacity.lines(LIMITS)
    assert "9,950 at once" in holds
    assert "20,000 descriptors" in holds
    assert "LimitNOFILE=20100" in raise_it
    assert len(capacity.lines(replace(LIMITS, descriptors=20_100))) == 1
    assert "max_connections" in capacity.lines(replace(LIMITS, asked=500))[0]
    assert "not limited" in capacity.lines(replace(LIMITS, descriptors=None, memory=2**40))[0]
    assert "memory ends" in capacity.lines(replace(LIMITS, memory=2**20))[-1]
    assert "ip_local_port_range" in capacity.lines(replace(LIMITS, ports=5000))[-1]
