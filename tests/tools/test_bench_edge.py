"""What ``make bench`` reads and judges of the edge's throughput."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench import edge

from gapless.errors import WorkFailed

SAID = """\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 50 connections
  Latency Distribution
     50%  643.00us
     75%    5.38ms
     90%   11.39ms
     99%    1.20s
  2700 requests in 2.00s, 7.86KB read
  Socket errors: connect 1, read 2, write 0, timeout 4
  Non-2xx or 3xx responses: 10
Requests/sec:   1350.50
"""
OURS = edge.Sample(rate=1000.0, p50=1.0, p99=10.0, failed=0, cpu=20.0)


def _row(theirs: edge.Sample, ours: edge.Sample = OURS) -> edge.Row:
    found = edge.compare([ours] * 3, [theirs] * 3, 0.95)
    return edge.Row(peer="x", backend="y", sticky=True, kept=True, **found)


def test_what_wrk_says_is_read() -> None:
    sample, requests = edge.read(SAID)
    assert sample == edge.Sample(rate=1350.5, p50=0.643, p99=1200.0, failed=17, cpu=0.0)
    assert requests == 2700
    with pytest.raises(WorkFailed, match="no result"):
        edge.read("unable to connect")


def test_who_is_behind_has_not_held() -> None:
    assert _row(OURS).held
    assert _row(replace(OURS, rate=1040.0)).held
    assert not _row(replace(OURS, rate=1100.0)).held
    assert not _row(replace(OURS, p99=9.0)).held
    assert not _row(OURS, replace(OURS, failed=1)).held
