"""One stack a test, in this process: as it is, or written anew by a fixture of the same name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.real.standing import Standing, open_folder, standing


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Standing]:
    """A controller that has been asked for nothing yet."""
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        async with standing(folder / "app") as running:
            yield running
