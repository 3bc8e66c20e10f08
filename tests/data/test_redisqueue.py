"""Which of the messages that workers have taken belong to a queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gapless.data import redisqueue

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLES = {
    "media": frozenset({("video", "films"), ("video.#", "films"), ("*.audio", "songs")}),
    "empty": frozenset(),
}


def taken(exchange: Any, key: Any, **headers: Any) -> redisqueue.Taken:
    found = redisqueue.parse(json.dumps([{"body": "x", "headers": headers}, exchange, key]))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("exchange", "key", "queue", "mine"),
    [
        ("", "default", "default", True),
        (None, "default", "default", True),
        ("", "default", "other", False),
        ("default", "default", "default", True),
        ("empty", "default", "default", True),
        ("media", "video", "films", True),
        ("media", "video.short.new", "films", True),
        ("media", "radio.audio", "songs", True),
        ("media", "radio.new.audio", "songs", False),
        ("media", "radio.audio", "films", False),
        # An exchange with bindings decides; a queue's name alone does not.
        ("media", "films", "films", False),
    ],
)
def test_the_bindings_say_which_queue(exchange: Any, key: str, queue: str, mine: bool) -> None:
    assert taken(exchange, key).is_of(queue, TABLES) is mine


@pytest.mark.parametrize(
    ("eta", "due"),
    [
        (None, True),
        ((NOW - timedelta(seconds=1)).isoformat(), True),
        ((NOW + timedelta(seconds=1)).isoformat(), False),
        ("2026-03-01T12:00:01", False),
        ("2026-03-01T14:00:00+02:00", True),
        ("tomorrow", True),
        (7, True),
    ],
)
def test_what_is_put_off_is_not_due(eta: Any, due: bool) -> None:
    assert taken("", "q", eta=eta).due(NOW) is due


@pytest.mark.parametrize("raw", ["", "x", "{}", "[1, 2]", "7", "[1, 2, 3, 4]", "null"])
def test_what_kombu_never_wrote_is_nobodys(raw: str) -> None:
    assert redisqueue.parse(raw) is None


def test_a_message_without_headers_is_due() -> None:
    found = redisqueue.parse('["text", "", "q"]')
    assert found == redisqueue.Taken("", "q")
