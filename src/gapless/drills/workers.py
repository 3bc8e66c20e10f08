"""A scratch stack of workers: Celery on a store of its own, with the tasks that write a diary."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gapless import drills, errors
from gapless.data import redisline, redismeter, redisqueue, resp
from gapless.drills import scratch, stage, state
from gapless.drills.celery_kit import Kit
from gapless.drills.diary import Diary
from gapless.engine.releases import library, recipe
from gapless.engine.releases.store import Releases

SERVICE = "worker"
STORE = "queue"
QUEUE = "probe"
TASKS = "probe_tasks.py"
LIBRARY = "libs"
POLL = 0.2


@dataclass(frozen=True, slots=True)
class Fleet:
    """How the workers run; a ``scratch.Source``.

    ``backlog``: tasks for each replica that the autoscaler aims at. ``visibility``: seconds
    after which a task that was taken and not acknowledged is given to another worker.
    """

    kit: Kit
    replicas: int = 2
    most: int = 4
    concurrency: int = 8
    backlog: int = 100
    down_after: str = "2s"
    drain: str = "60s"
    visibility: float = 3600.0
    version: int | None = None
    settings: Mapping[str, Any] | None = None
    """Of the store: what the user's store of the same kind has."""

    def write(self, folder: Path, name: str) -> None:
        """See ``scratch.Source``."""
        folder.chmod(0o755)
        shutil.copyfile(Path(drills.__file__).with_name(TASKS), folder / TASKS)
        if not self.kit.image:
            self.kit.copy(folder / LIBRARY)
        for path, content in library.files().items():
            place = folder / LIBRARY / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        if not self.kit.image:
            # It is used where it lies: a copy in each release would lose what was compiled.
            (folder / ".gitignore").write_text(f"/{LIBRARY}/\n", encoding="utf-8")
        self.rewrite(folder, name)

    def rewrite(self, folder: Path, name: str) -> None:
        """The stack file alone: what the next deploy reads."""
        options = (
            *("-A", "probe_tasks", "worker", "-n", "${replica}", "-Q", QUEUE),
            *("--concurrency", str(self.concurrency), "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle"),
        )
        ground = scratch.Ground(self.kit.image, python=self.kit.python)
        run = ground.run("-m", "celery", *options)
        text = f"""\
gapless = 1
name = "{name}"

[service.{SERVICE}]
{run}replicas = {self.replicas}
start = "{ground.start("30s")}"
drain = "{self.drain}"
watch = "1s"
env = {{ PROBE_VISIBILITY = "{self.visibility:g}", PYTHONPATH = {json.dumps(self._path(folder))} }}

[service.{SERVICE}.scale]
max = {self.most}
queue = "{STORE}:{QUEUE}"
backlog = {self.backlog}
down_after = "{self.down_after}"

[env]
PROBE_URL = "${{{STORE}.url}}"

[data.{STORE}]
type = "redis"
{self._store()}"""
        (folder / scratch.FILE).write_text(text, encoding="utf-8")

    def _path(self, folder: Path) -> str:
        home = recipe.HOME if self.kit.image else str(folder.resolve())
        return f"{home}/{LIBRARY}".replace("$", "$$")

    def _store(self) -> str:
        lines = [f"version = {self.version}\n"] if self.version else []
        if self.settings:
            lines.append(f"[data.{STORE}.settings]\n")
            lines += [f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items()]
        return "".join(lines)


class Workers:
    """The fleet at work. ``there`` is up and at rest."""

    def __init__(self, there: scratch.Scratch, fleet: Fleet) -> None:
        self.there = there
        self.fleet = fleet
        answer = there.client.post("/v1/connect", {"name": STORE, "actor": "drill"})
        words = answer["argv"]
        host, port = (words[words.index(option) + 1] for option in ("-h", "-p"))
        self._target = resp.Target(host, int(port), answer["env"]["REDISCLI_AUTH"])

    def ask(self, *words: str) -> Any:
        """One command to the store. Raises WorkFailed."""
        try:
            return asyncio.run(redisline.once(self._target, *words))
        except (errors.DataFault, resp.ReplyError) as error:
            raise errors.WorkFailed(f"the drill's store: {error}") from None

    def send(self, run: str, name: str, count: int, seconds: float) -> None:
        """Queue tasks and return when all are queued. Raises WorkFailed."""
        words = [TASKS, "send", run, name, str(count), f"{seconds:g}"]
        code, said = one_off(self.there, SERVICE, (self.fleet.kit.python, *words))
        if code != 0:
            last = said.strip().rpartition("\n")[2]
            raise errors.WorkFailed(f"tasks could not be queued: {last or f'exit {code}'}")

    def let_go(self, runs: Iterable[str]) -> None:
        """Let tasks that meet go on, whether all have come or not."""
        for run in runs:
            self.ask("MSET", f"probe:{run}:full", "1", f"probe:{run}:gate", "1")

    def met(self, run: str) -> bool:
        """Whether as many as were wanted have met."""
        return bool(self.ask("EXISTS", f"probe:{run}:full"))

    def diary(self, run: str) -> Diary:
        """What the tasks of a run wrote down so far."""
        return Diary.of(self.ask("LRANGE", f"probe:{run}", "0", "-1"))

    def length(self, run: str) -> int:
        """How many entries its diary has."""
        return int(self.ask("LLEN", f"probe:{run}"))

    def depth(self) -> redisqueue.Depth:
        """What is not done, as the store has it. Raises DataFault."""
        return asyncio.run(_depth(self._target))

    def replicas(self) -> tuple[state.Replica, ...]:
        """The workers alive, draining ones included."""
        return tuple(one for one in self.there.look().replicas if one.service == SERVICE)

    def reported(self) -> int | None:
        """The backlog that the controller has measured last."""
        for one in self.there.client.get("/v1/status").get("services") or ():
            if one["name"] == SERVICE:
                told = one.get("backlog")
                return None if told is None else int(told)
        return None

    def deploy(self, look: Callable[[], object], *, force: bool = False, **changes: Any) -> None:
        """Deploy the fleet with other values; ``look`` at each step. ``force``: also where nothing
        has changed. Raises WorkFailed."""
        self.fleet = replace(self.fleet, **changes)
        self.fleet.rewrite(self.there.target.file.parent, self.there.target.stack.name)
        for event in self.there.begin("/v1/deploy", services=[SERVICE], force=force):
            look()
            if event.get("event") == "end" and int(event.get("exit", 1)) != 0:
                raise errors.WorkFailed(f"the deploy failed: {event.get('message')}")

    def kill(self, worker: state.Replica) -> None:
        """kill -9 of its main process. Raises WorkFailed when the pid is not a worker's."""
        line = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        if worker.pid is None or b"celery" not in line:
            raise errors.WorkFailed(f"pid {worker.pid} is not {worker.id}: it is left alone")
        os.kill(worker.pid, signal.SIGKILL)

    def finish(
        self, run: str, seconds: float, stall: float, look: Callable[[], object] = bool
    ) -> Diary:
        """Wait until nothing is left to do, or nothing has happened for ``stall`` seconds."""
        last, since = -1, time.monotonic()
        while time.monotonic() < since + seconds:
            look()
            if self.depth().total == 0:
                break
            length = self.length(run)
            if length != last:
                last, quiet = length, time.monotonic()
            elif time.monotonic() > quiet + stall:
                break
            time.sleep(POLL)
        return self.diary(run)


def one_off(there: stage.Stage, service: str, argv: Sequence[str]) -> tuple[int, str]:
    """A command with a service's code, environment and rights: (exit code, what it wrote)."""
    said, code = [], 1
    for event in there.begin("/v1/run", name=service, argv=list(argv)):
        if event.get("event") == "output":
            said.append(str(event.get("text")))
        elif event.get("event") == "end":
            code = int(event.get("exit", 1))
    return code, "".join(said)


def image(there: stage.Stage, now: state.State, service: str) -> str:
    """The content of the image that a service runs in; "": it is a program of the machine."""
    releases = {one.release for one in now.replicas if one.service == service}
    kept = {one.number: one for one in Releases(there.paths).list() if one.number in releases}
    return kept[max(kept)].images.get(service, "") if kept else ""


async def _depth(target: resp.Target) -> redisqueue.Depth:
    meter = redismeter.Meter(STORE, target)
    try:
        return await meter.depth(QUEUE)
    finally:
        await meter.close()


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Poll until true; whether it came to that in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True
