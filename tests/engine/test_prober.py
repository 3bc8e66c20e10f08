"""What is kept of an answer as the reason why a replica is not ready."""

from __future__ import annotations

import pytest

from gapless.engine import prober


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"status": "unready", "reason": "db: connection refused"}', "db: connection refused"),
        (b'{"reason": "two\\n  lines"}', "two lines"),
        (b'{"reason": 1}', '{"reason": 1}'),
        (b'["reason"]', '["reason"]'),
        (b'{"reason": "cut', '{"reason": "cut'),
        (b" db: connection refused\n", "db: connection refused"),
        (b"x" * 1000, "x" * 200),
        (b"[" * 4096, "[" * 200),
        (b"\xff", "\ufffd"),
        (b"", ""),
    ],
)
def test_the_reason_that_an_answer_gives(body: bytes, reason: str) -> None:
    assert prober.reason(body) == reason
