"""What holds for every test: a busy machine fails none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

HERE = Path(__file__).parent
DEAR = ("examples", "drills", "real", "cli", "contract")
"""Rooms whose files take longest. They come first: a long file that comes last holds up the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(item.path))


def _turn(file: Path) -> int:
    room = file.relative_to(HERE).parts[0] if file.is_relative_to(HERE) else ""
    return DEAR.index(room) if room in DEAR else len(DEAR)
