"""Answers as text: rows, lines, the closing line of a deploy."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gapless.cli import out, render

REPLICA: dict[str, Any] = {
    "id": "web.1@r12",
    "state": "ready",
    "release": "r12",
    "pid": 4711,
    "address": "unix:/run/user/0/gapless/shop/web.1@r12.sock",
    "started_at": 1000.0,
    "restarts": 2,
    "cpu": 0.125,
    "memory": 47_500_000,
    "in_flight": 3,
    "reason": "",
}
STATUS: dict[str, Any] = {
    "stack": "shop",
    "release": "r12",
    "controller": "running",
    "maintenance": True,
    "edge": {"url": "http://127.0.0.1:8080", "state": "running", "pid": 1},
    "rollout": {"id": 3, "kind": "deploy", "phase": "rolling", "target": {}},
    "services": [
        {
            "name": "web",
            "desired": 1,
            "ready": 1,
            "drift": 1,
            "replicas": [REPLICA],
        },
        {"name": "mail", "desired": 0, "ready": 0, "drift": None, "replicas": []},
    ],
    "data": [
        {
            "name": "db",
            "type": "postgres",
            "state": "failed",
            "address": "127.0.0.1:5000",
            "role": "primary",
            "reason": "port 5000 is taken",
        },
    ],
}


def test_a_replica_in_one_line() -> None:
    row = render.replica_row(REPLICA, 1000.0 + 3 * 3600 + 61)
    assert row == (
        "web.1@r12",
        "ready",
        "r12",
        "socket",
        "4711",
        "3h 1m",
        "2",
        "12.5%",
        "45.3 MiB",
        "3",
    )


def test_a_service_without_replicas_is_not_forgotten() -> None:
    rows = render.replica_rows(STATUS, 1000.0)
    assert [row[:2] for row in rows] == [("web.1@r12", "ready"), ("mail", "stopped")]


def test_what_is_unknown_is_a_dash_and_zero_is_zero() -> None:
    row = render.replica_row({"id": "web.1@r1", "state": "running", "in_flight": 0}, 5.0)
    assert row == ("web.1@r1", "running", "-", "-", "-", "-", "-", "-", "-", "0")


def test_the_headline_says_what_matters() -> None:
    assert render.headline(STATUS) == (
        "shop at r12 · controller: running · edge: running http://127.0.0.1:8080"
        " · maintenance: on · deploy: rolling"
    )


def test_a_stack_behind_the_front_says_so() -> None:
    front = {"state": "running", "pid": 7, "urls": [], "shared_with": ["blog"], "reason": "away"}
    shared = {**STATUS, "edge": {**STATUS["edge"], "front": front}}
    assert " · front: running, shared with blog · maintenance" in render.headline(shared)
    assert "front: away" in list(render.troubles(shared))


def test_who_follows_the_load_says_why() -> None:
    scale = {"min": 2, "max": 6, "held": "", "reason": "160 requests/s a replica, target 100"}
    status = {
        "services": [
            {"name": "web", "desired": 5, "scale": scale},
            {"name": "api", "desired": 2, "scale": {**scale, "held": "set by hand", "reason": ""}},
            {"name": "beat", "desired": 1, "scale": None},
        ]
    }
    assert list(render.loads(status)) == [
        "web: 5 of 2 to 6 replicas: 160 requests/s a replica, target 100",
        "api: 2 of 2 to 6 replicas: not measured yet; held: set by hand",
    ]


def test_troubles_are_told() -> None:
    assert list(render.troubles(STATUS)) == [
        "web: scaled to 1 by hand, until the next deploy",
        "db: port 5000 is taken",
    ]


def test_a_queue_is_told_with_the_service_that_follows_it() -> None:
    scale = {"min": 2, "max": 4, "held": "", "reason": "50 queued tasks a replica, target 100"}
    services = [
        {"name": "worker", "desired": 2, "scale": scale, "backlog": 1_100},
        {"name": "web", "desired": 3, "scale": {**scale, "held": "set by hand"}, "backlog": None},
        {"name": "beat", "desired": 1, "scale": None, "backlog": None},
    ]
    told = list(render.loads({"services": services}))
    assert told[0].endswith("target 100; 1,100 tasks not done")
    assert told[1].endswith("target 100; held: set by hand")
    assert len(told) == 2
    assert render.tasks(1) == "1 task not done"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3600, "1h"),
        (3661, "1h 1m"),
        (90061, "1d 1h"),
        (-3, "0s"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert render.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1536, "1.5 KiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5 * 1024**4, "5120.0 GiB"),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert render.size(count) == text


def test_the_verdict_counts_what_clients_felt() -> None:
    result = {
        "requests": 18402,
        "failed": 0,
        "unknown": 0,
        "p99_ms": 15.2,
        "baseline_p99_ms": 12.0,
        "seconds": 9.31,
        "detail": {"sockets": {"total": 500, "moved": 498, "draining": 2}},
    }
    assert render.verdict(result) == (
        "0 of 18,402 requests failed, p99 +3 ms, 500 sockets: 498 moved, 2 still draining, 9.3 s"
    )
    assert render.verdict(result | {"failed": 7, "unknown": 1}).startswith(
        "7 of 18,402 requests failed, 1 unknown"
    )
    assert render.verdict({}) == ""
    assert render.verdict({"requests": 0, "failed": 0}) == "no request came meanwhile"


def test_a_failed_step_says_so_in_words() -> None:
    event = {
        "n": 3,
        "text": "web.1@r12 start",
        "cause": "release 12",
        "state": "failed",
        "error": "x",
    }
    assert render.step(event) == "[3] web.1@r12 start   because release 12   FAILED: x"


def test_a_plain_table_is_aligned_and_has_no_trailing_blanks() -> None:
    text = out.table(("A", "LONG"), [("xyz", "1"), ("y", "")])
    assert text == "A    LONG\nxyz  1\ny"


def test_nobody_repaints_our_terminal() -> None:
    assert out.clean("a\x1b[2Jb\rc\x9bd") == "a�[2Jb�c�d"
    assert "\x1b" not in out.table(("A",), [("\x1b[31mred",)])


def test_a_tree_of_anything() -> None:
    value = {"name": "web", "ready": True, "none": None, "replicas": [{"id": 1, "x": [2]}], "e": []}
    assert list(render.tree(value)) == [
        "name: web",
        "ready: yes",
        "none: -",
        "replicas:",
        "  - id: 1",
        "    x:",
        "      - 2",
        "e: -",
    ]


def test_colour_carries_no_meaning_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import rich.console

    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    console = rich.console.Console(file=stream, force_terminal=True, width=100)
    console.print(out.rich_table(("REPLICA", "STATE"), [("web.1@r1", "unhealthy")]))
    text = stream.getvalue()
    assert "unhealthy" in text
    assert "\x1b[31m" not in text
