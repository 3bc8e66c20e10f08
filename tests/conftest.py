"""What holds for every test: neither a busy machine nor a script that runs them fails any."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script's background job ignores Ctrl-C, and so would every program that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs that tests start keep what they compile: each of hundreds would do it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

HERE = Path(__file__).parent
DEAR = ("examples", "cli", "drills", "real", "contract")
"""Rooms whose files take longest. They come first: a long file that comes last holds up the end.
Drills ask for the example's environment, which its own tests make meanwhile: they come later."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(item.path))


def _turn(file: Path) -> int:
    room = file.relative_to(HERE).parts[0] if file.is_relative_to(HERE) else ""
    return DEAR.index(room) if room in DEAR else len(DEAR)
