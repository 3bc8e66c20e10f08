"""What the tests of the process runtime share: waiting, and a controller that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gapless.runtimes import base
from gapless.runtimes.machine import proc

PATIENCE = 90.0

CONTROLLER = """
import asyncio, sys
from pathlib import Path
from gapless.model.process import Process
from gapless.runtimes.process import ProcessRuntime, records

async def main():
    runtime = ProcessRuntime(Path(sys.argv[1]), Path(sys.argv[2]), "chat")
{body}
    print("done", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def until(condition: Callable[[], Any]) -> Any:
    """Poll until the condition (which may be a coroutine function) holds; its answer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = condition()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.01)


async def find(runtime: base.Runtime, id: str) -> base.Found:
    return next(found for found in await runtime.look() if found.id == id)


async def dead(runtime: base.Runtime, id: str) -> base.Found | None:
    return next((f for f in await runtime.look() if f.id == id and not f.alive), None)


def gone(pid: int) -> bool:
    """Nobody has it, or only a corpse does."""
    found = proc.stat(pid)
    return found is None or found.dead


def controller(state: Path, run: Path, body: str, *, lives: bool = True) -> None:
    """Run a controller of its own with ``body`` in it, then kill -9 it (or let it kill itself)."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    child = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER.format(body=indented), str(state), str(run)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout
        if lives:
            assert child.stdout.readline() == "done\n"
            os.kill(child.pid, signal.SIGKILL)
        assert child.wait(PATIENCE) == -signal.SIGKILL


def launch(*argv: str) -> subprocess.Popen[str]:
    """Somebody else's program, in a session of its own."""
    program = shutil.which(argv[0])
    assert program
    return subprocess.Popen(
        [program, *argv[1:]], start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def corpse() -> subprocess.Popen[str]:
    """A program that has ended and that nobody has reaped."""
    child = launch("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


@contextlib.contextmanager
def reachable() -> Iterator[Path]:
    """A home for a test. pytest closes its folders to others, again at each start of a pytest,
    and their paths are as long as a test's and a user's name: too long for sockets.
    """
    with tempfile.TemporaryDirectory(prefix="gapless-test-", dir="/tmp") as name:
        home = Path(name)
        home.chmod(0o711)
        yield home
