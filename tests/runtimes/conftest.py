from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.runtimes.process_bench import dead, reachable, until

from gapless.errors import RuntimeFault
from gapless.runtimes.process import ProcessRuntime


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """One that unprivileged programs can reach."""
    with reachable() as home:
        yield home


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    """A runtime on ``tmp_path/chat``; what it runs at the end is killed."""
    made = ProcessRuntime(tmp_path / "chat", tmp_path / "run", "chat")
    yield made
    for found in await made.look():
        await made.signal(found.id, "KILL")

        async def over(id: str = found.id) -> bool:
            return await dead(made, id) is not None

        await until(over)
        with contextlib.suppress(RuntimeFault):
            await made.forget(found.id)
    made.close()
