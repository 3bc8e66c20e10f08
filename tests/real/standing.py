"""A whole stack for tests: the probe service on real parts, its controller in this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from gapless import stackfile
from gapless.drills import ports, probe_app, scratch
from gapless.engine import main
from gapless.engine.controller import Controller
from gapless.engine.operations import Operations
from gapless.engine.paths import Paths

TEMPLATE = """
gapless = 1
name = "{name}"
[service.web]
run = ["{python}", "probe_app.py", "--socket", "${{socket}}"]
replicas = {replicas}
ready = "/ready"
start = "{start}"
drain = "5s"
grace = "2s"
watch = "{watch}"
{keys}
[edge]
listen = "127.0.0.1:{port}"
{more}
"""


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every uid can enter (pytest's own are closed) and whose path is short."""
    with tempfile.TemporaryDirectory(prefix="gl-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


class Standing:
    """One stack in a folder of its own; ``GAPLESS_STATE`` is set by the fixture."""

    patience = 60
    """Seconds that one operation may take."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.port = ports.reserve()
        self.url = f"http://127.0.0.1:{self.port}"
        self.controller: Controller
        self.operations: Operations
        self._task: asyncio.Task[None] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(probe_app.__file__, folder / "probe_app.py")
        self.version("good")
        self.write()

    @property
    def file(self) -> Path:
        return self.folder / "gapless.toml"

    def version(self, mode: str, mark: int = 1) -> None:
        """What the next deploy releases."""
        (self.folder / "mode").write_text(f"{mode} {mark}\n")

    def write(
        self,
        *,
        replicas: int = 3,
        watch: str = "500ms",
        start: str = "20s",
        keys: str = "",
        more: str = "",
    ) -> None:
        """The stack file. ``start`` is for a busy machine: what boots gives way to all else."""
        text = TEMPLATE.format(
            name=self.name,
            python=scratch.interpreter(),
            replicas=replicas,
            port=self.port,
            watch=watch,
            start=start,
            keys=keys,
            more=more,
        )
        self.file.write_text(text)

    async def begin(self) -> None:
        """A controller, adopting whatever runs."""
        paths = Paths.of(self.name)
        paths.make()
        stack = stackfile.load(self.file).stack
        self.controller = Controller(main.site(paths, stack, self.folder))
        self.operations = Operations(self.controller, self.file, None)
        self.controller.adopt()
        self._task = asyncio.create_task(self.controller.run())
        await self.controller.round_done()

    async def end(self) -> None:
        """The controller goes; what runs stays."""
        self.controller.stopping = True
        self.controller.wake()
        if self._task is not None:
            await self._task
        await self.close()

    async def drop(self) -> None:
        """The controller is cut off in the middle of whatever it does."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.close()

    async def close(self) -> None:
        self.controller.site.journal.close()
        close = getattr(self.controller.site.runtime, "close", None)
        if close is not None:
            close()

    async def do(self, verb: str, **body: Any) -> dict[str, Any]:
        """One operation to its end."""
        operation = getattr(self.operations, verb)
        result: dict[str, Any] = await asyncio.wait_for(operation(body), self.patience)
        return result

    async def until(self, condition: Callable[[], object]) -> None:
        """Round after round of the controller, until it is true."""
        async with asyncio.timeout(self.patience):
            while not condition():
                await self.controller.round_done()

    def pids(self, service: str = "web") -> dict[str, int | None]:
        """Replica id to pid, of those alive."""
        return {
            str(r.id): r.pid
            for r in self.controller.observed.replicas
            if r.alive and r.id.service == service
        }

    async def get(self, path: str = "/", **options: Any) -> tuple[int, str]:
        """One request through the edge on a connection of its own."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(self.url + path, **options) as answer,
        ):
            return answer.status, await answer.text()


class Load:
    """A few clients on keep-alive connections, for as long as the block runs."""

    def __init__(self, url: str, clients: int = 6) -> None:
        self.url = url
        self.clients = clients
        self.answers: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=number % 2 == 1, ssl=False)
        async with aiohttp.ClientSession(connector=connector) as session:
            session._retry_connection = False  # a hidden second try would hide a lost first one
            while True:
                await self._one(session, number)
                await asyncio.sleep(0.005)

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        try:
            if number % 3 == 2:
                async with session.post(f"{self.url}/echo", data=b"x" * 50) as answer:
                    ok = answer.status == 200 and len(await answer.read()) == 50
            else:
                async with session.get(f"{self.url}/") as answer:
                    ok = answer.status == 200 and bool(await answer.read())
            word = "ok" if ok else str(answer.status)
        except (aiohttp.ClientError, OSError) as error:
            word = repr(error)
        self.answers[word] = self.answers.get(word, 0) + 1
        self._answered.set()
        self._answered = asyncio.Event()

    async def more(self, count: int = 20) -> None:
        """So many more good answers."""
        enough = self.answers.get("ok", 0) + count
        async with asyncio.timeout(60):
            while self.answers.get("ok", 0) < enough:
                await self._answered.wait()

    @property
    def failed(self) -> Mapping[str, int]:
        """Everything but complete expected answers."""
        return {word: count for word, count in self.answers.items() if word != "ok"}

    @property
    def refused(self) -> int:
        """Of those, the ones that found nobody listening."""
        return sum(count for word, count in self.answers.items() if "Refused" in word)


@contextlib.asynccontextmanager
async def standing(folder: Path, name: str = "unit") -> AsyncIterator[Standing]:
    """A stack with a controller; taken down and swept on exit."""
    stack = Standing(folder, name)
    await stack.begin()
    try:
        yield stack
    finally:
        if not stack.controller.stopping:
            await stack.operations.down({})
        await stack.end()
