"""Real workers of Celery on a real store, with the tasks that drills use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.examples import application
from tests.real import stores

from gapless import drills
from gapless.data import base, redis, redisline, resp
from gapless.model.data import Data

PROBE = Path(drills.__file__).parent / "probe_tasks.py"
"""Not imported: this Python has no celery."""
QUEUE = "probe"


class Broker:
    """A store with a connection of the tests' own. ``url`` is what workers get."""

    def __init__(self, place: base.Place, store: redis.Redis) -> None:
        self.store = store
        self.target = resp.Target("127.0.0.1", place.port, place.password)
        self.url = store.attributes()["url"]

    async def ask(self, *words: str) -> Any:
        """One command."""
        return await redisline.once(self.target, *words)

    async def log(self, run: str) -> list[dict[str, Any]]:
        """What the tasks of a run wrote down, in order."""
        return [json.loads(one) for one in await self.ask("LRANGE", f"probe:{run}", "0", "-1")]

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of workers and senders."""
        here = str(PROBE.parent)
        return {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{here}:{PROBE.parents[2]}",
            "PROBE_URL": self.url,
            **more,
        }

    def send(self, *words: str) -> None:
        """``send("run", "meet", "16", "10")``: queue tasks."""
        python = application.environment() / "python"
        argv = [str(python), str(PROBE), "send", *words]
        subprocess.run(argv, env=self.environment(), check=True, timeout=60)

    @contextlib.contextmanager
    def worker(self, log: Path, *options: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a session of its own, all of which is killed in the end."""
        celery = application.environment() / "celery"
        argv = [str(celery), "-A", "probe_tasks", "worker", "-Q", QUEUE, "-l", "WARNING", *options]
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                env=self.environment(**env),
                cwd="/",
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(20)


@contextlib.asynccontextmanager
async def broker(roof: Path) -> Any:
    """A running Valkey."""
    place = stores.place(roof, "cache", password="plain")
    store = redis.Redis("cache", Data(type="redis"), place, path="")
    await store.create()
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        try:
            yield Broker(place, store)
        finally:
            await store.close()
