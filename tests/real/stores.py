"""Starting stores for tests as the engine would: the described process, its uid, a log file."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gapless.data import base
from gapless.drills import ports
from gapless.model.process import Process

UID = 71_234 if os.geteuid() == 0 else None
"""As root, stores run under a uid that has no name on this machine."""
PASSWORD = "pw:/@'\"\\ %24x"
"""Every character that a URL, SQL, a configuration file or a shell could trip over."""


def roof() -> Iterator[Path]:
    """A directory that an unprivileged uid can reach (pytest's own are closed)."""
    path = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def place(roof: Path, name: str = "db", **other: Any) -> base.Place:
    values: dict[str, Any] = {
        "home": roof / "data" / name,
        "run": roof / "run",
        "engines": roof / "engines",
        "port": ports.reserve(),
        "password": PASSWORD,
        "identity": None if UID is None else f"data-{name}",
        "uid": UID,
    }
    return base.Place(**(values | other))


class Running:
    """A started process. As a context manager it is killed in the end, whatever happens."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                process.argv,
                env=dict(process.env),
                cwd=process.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=UID,
                group=UID,
                extra_groups=None if UID is None else [],
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop() if self.child.poll() is None else None

    def kill(self) -> None:
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(10)

    def stop(self) -> int:
        self.child.send_signal(getattr(signal, f"SIG{self.process.stop or 'TERM'}"))
        return self.child.wait(20)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


async def ready(store: base.Store, seconds: float = 30.0) -> None:
    """Poll the probe until it says "" (the bound only ends a hang)."""
    async with asyncio.timeout(seconds):
        while await store.probe():  # noqa: ASYNC110  # it is a poll: servers raise no event
            await asyncio.sleep(0.02)


def interruptible(kind: str, place: base.Place, roof: Path) -> subprocess.Popen[bytes]:
    """A process that creates the store, to be killed on the way."""
    here = Path(__file__).parents[2]
    words = (kind, str(roof), str(place.port), str(place.engines))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.real.interrupted", *words],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
        start_new_session=True,
    )


def bystander() -> subprocess.Popen[bytes]:
    """Some other program of the stores' uid."""
    return subprocess.Popen(["/bin/sleep", "60"], user=UID, cwd="/")


async def ended(running: Running, seconds: float = 20.0) -> int:
    return await asyncio.to_thread(running.child.wait, seconds)


def command_lines(pid: int) -> str:
    """argv and environment of a process and its children, as anybody could list them."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        pids += [int(word) for word in task.read_text().split()]
    found = ""
    for one in pids:
        for name in ("cmdline", "environ"):
            try:
                found += Path(f"/proc/{one}/{name}").read_bytes().decode(errors="replace")
            except OSError:
                continue
    return found


def holding(root: Path, text: str) -> list[Path]:
    """Files below ``root`` that hold the text."""
    needle = text.encode()
    return [file for file in root.rglob("*") if file.is_file() and needle in file.read_bytes()]
