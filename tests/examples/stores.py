"""Real stores for an application that is started without gapless."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gapless import data
from gapless.data.base import Place, Store
from gapless.drills import ports
from gapless.model.data import Data

NOBODY = 65534


def wait_for(what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Poll until true; the test fails with ``what`` when it never is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


class Running:
    """A store and its process."""

    def __init__(self, store: Store, uid: int | None) -> None:
        self._store, self._uid = store, uid
        self.url = store.attributes()["url"]
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers a query."""
        process = self._store.process()
        assert process is not None
        self._child = subprocess.Popen(
            process.argv,
            env=dict(process.env),
            cwd=process.cwd,
            user=self._uid,
            group=self._uid,
            extra_groups=None if self._uid is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(f"{process.id} answers", lambda: self._probe() == "")

    def _probe(self) -> str:
        async def ask() -> str:
            try:
                return await self._store.probe()
            finally:
                await self._store.close()

        return asyncio.run(ask())

    def freeze(self, on: bool) -> None:
        """It keeps its connections and answers nothing (or goes on)."""
        pid = self._child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # a child may have ended just now
                os.kill(one, signal.SIGSTOP if on else signal.SIGCONT)

    def stop(self) -> None:
        """Gone, at once."""
        self.freeze(False)
        self._child.send_signal(signal.SIGINT)
        self._child.wait(timeout=20)


@contextlib.contextmanager
def running() -> Iterator[tuple[Running, Running]]:
    """(Postgres, Redis), empty. As root they run as nobody, in a folder that nobody can reach."""
    uid = NOBODY if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="gx-"))
    home.chmod(0o711)
    found: list[Running] = []
    try:
        for name, kind in (("db", "postgres"), ("cache", "redis")):
            place = Place(
                home=home / name,
                run=home / f"{name}.run",
                engines=home / "engines",
                port=ports.reserve(),
                password="a/b:c@d %",
                identity=None if uid is None else "nobody",
                uid=uid,
            )
            store = data.open(name, Data.model_validate({"type": kind}), place)
            asyncio.run(store.create())
            found.append(Running(store, uid))
        yield found[0], found[1]
    finally:
        for one in found:
            one.stop()
        shutil.rmtree(home)
