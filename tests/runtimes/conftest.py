from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.runtimes.process_bench import dead, until

from gapless.errors import RuntimeFault
from gapless.runtimes.process import ProcessRuntime


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    """A runtime on ``tmp_path/chat``; what it runs at the end is killed."""
    # Unprivileged programs must be able to reach what is theirs; pytest's folders are closed.
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
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
