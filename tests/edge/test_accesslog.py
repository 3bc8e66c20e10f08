"""The access log as it is read again, and what is counted from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gapless.edge import accesslog
from gapless.engine import traffic

NOW = 1_800_000_000.0


def line(at: float, **more: object) -> str:
    stamp = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    rest = {"service": "web", "status": 200, "total_ms": 5, **more}
    return json.dumps({"time": stamp, **rest}, separators=(",", ":"))


def test_what_is_of_the_log_and_what_is_not() -> None:
    assert accesslog.parse(line(NOW)) is not None
    for text in ("", "[NOTICE] (1) : New worker", '{"time":"2026', '{"times":1}', "[1]", "{}"):
        assert accesslog.parse(text) is None
        assert accesslog.readable(text) == text


def test_a_line_for_people() -> None:
    text = line(
        NOW,
        client="192.0.2.1",
        method="GET",
        host="chat.example",
        path="/a",
        out=120,
        replica="web.1@r12",
        id="abc",
    )
    shown = accesslog.readable(text)
    assert shown.endswith("192.0.2.1 200 GET chat.example/a 5 ms 120 B web.1@r12 abc")


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.5, None), ([7], 0.99, 7), (list(range(1, 101)), 0.99, 99), ([1, 2], 0.5, 1)],
)
def test_percentiles_are_values_that_were_there(
    values: list[int], share: float, found: int | None
) -> None:
    assert accesslog.percentile(values, share) == found


def test_counts_by_service() -> None:
    entries = [
        {"service": "web", "status": 200, "total_ms": 10},
        {"service": "web", "status": 502, "total_ms": 30},
        {"service": "web", "status": -1, "total_ms": 40},
        {"service": "web", "status": 404, "total_ms": 20},
        {"service": "_public", "status": 503, "total_ms": 0},
    ]
    tallies = accesslog.tally(entries)
    assert tallies["web"].told(2.0) == {
        "requests": 4,
        "per_second": 2.0,
        "errors": 2,
        "refused": 1,
        "error_rate": 0.5,
        "p50_ms": 20,
        "p95_ms": 30,
        "p99_ms": 30,
    }
    assert tallies["edge"].errors == 1
    assert tallies[""].requests == 5


def test_only_the_last_while_is_counted(tmp_path: Path) -> None:
    """Over parts that rotation has cut off, and past lines that are none of the log."""
    log = tmp_path / "edge.log"
    old = [line(NOW - 100 + n) for n in range(50)]
    (tmp_path / "edge.log.1").write_text("\n".join(old) + "\n")
    new = ["[NOTICE] hello", *(line(NOW - 50 + n) for n in range(50))]
    log.write_text("\n".join(new) + "\n" + '{"time":"2027-01-15T08:00:00.0')
    report = traffic.report(log, 60.0, NOW, {"web": "/"})
    assert report["services"]["web"]["requests"] == 60
    assert report["services"]["web"]["per_second"] == 1.0
    assert report["services"]["web"]["route"] == "/"
    assert report["seconds"] == 60.0
    assert traffic.report(tmp_path / "none", 60.0, NOW, {})["total"]["requests"] == 0


def test_more_than_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is of the time that was covered."""
    log = tmp_path / "edge.log"
    log.write_text("".join(f"{line(NOW - 60 + n / 10)}\n" for n in range(600)))
    monkeypatch.setattr(traffic, "MOST", 10_000)
    report = traffic.report(log, 60.0, NOW, {})
    total = report["total"]
    assert 0 < total["requests"] < 600
    assert report["seconds"] < 60.0
    assert total["per_second"] == pytest.approx(10.0, rel=0.2)
