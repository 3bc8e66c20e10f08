"""A real edge with small real servers behind it, all on loopback, for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from aiohttp import web

from gapless import observed
from gapless.drills import ports
from gapless.edge import base, config, haproxy
from gapless.model.process import Address, Process

PATIENCE = 20.0


async def until(true: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE) -> None:
    """Ask again until it is so; fail with ``what`` when it never is."""
    try:
        async with asyncio.timeout(patience):
            while not await true():  # noqa: ASYNC110  # another process knows
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def handed_over() -> None:
    """Whom a server has accepted comes within these turns of the loop, and goes within them."""
    for _ in range(5):
        await asyncio.sleep(0)


async def close(server: asyncio.Server) -> None:
    """Nobody is accepted any more, and its program knows whoever was: a check of the edge maybe.

    Python 3.11 accepts once more while it closes, and then leaves what it has accepted open.
    """
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener)
    await handed_over()
    server.close()


async def clean_up(runner: web.AppRunner) -> None:
    """The end of an application and of all its connections."""
    for site in runner.sites:
        if isinstance(site._server, asyncio.Server):
            await close(site._server)
    await runner.cleanup()
    await handed_over()


async def ask(
    client: aiohttp.ClientSession, url: str, body: bytes | None = None
) -> tuple[int, str]:
    """Status and text; with a body by POST."""
    async with client.request("GET" if body is None else "POST", url, data=body) as answer:
        return answer.status, await answer.text()


@dataclass
class App:
    """One server. Requests to ``/held`` wait for ``release``; ``status`` is its every answer.

    ``broken``: the path that it answers with 500. ``said``: headers and body of its answers.
    ``headers``, ``names``: of the last request; each of the latter as often as it came.
    """

    name: str
    path: str
    ready: bool = True
    status: int = 200
    broken: str = ""
    served: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    said: tuple[dict[str, str], str] | None = None
    held: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.AppRunner | None = None

    @property
    def address(self) -> Address:
        return Address(socket=self.path)

    async def start(self) -> App:
        app = web.Application()
        app.router.add_get("/ready", self._ready)
        app.router.add_route("*", "/held", self._held)
        app.router.add_get("/ws", self._ws)
        app.router.add_route("*", "/{rest:.*}", self._any)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.UnixSite(self.runner, self.path).start()
        return self

    async def stop(self) -> None:
        if self.runner is not None:
            self.release.set()
            await clean_up(self.runner)
            self.runner = None

    async def kill(self) -> None:
        """As the kernel ends a program that was killed: nobody listens, then nobody is there."""
        assert self.runner is not None
        for site in list(self.runner.sites):
            await site.stop()
        self.abort()
        await self.stop()

    def abort(self) -> None:
        """End every connection at once, as the kernel does for a program that was killed."""
        assert self.runner is not None
        assert self.runner.server is not None
        for connection in list(self.runner.server.connections):
            assert connection.transport is not None
            connection.transport.abort()

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(text="ok", status=200 if self.ready else 503)

    async def _held(self, request: web.Request) -> web.Response:
        self.held += 1
        try:
            await self.release.wait()
        finally:
            self.held -= 1
        return web.Response(text=self.name)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.served += 1
        self.headers = dict(request.headers)
        self.names = [name.lower() for name in request.headers]
        status = 500 if request.path == self.broken else self.status
        if self.said is not None:
            return web.Response(status=status, headers=self.said[0], text=self.said[1])
        return web.Response(text=self.name, status=status)

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        async for message in channel:
            await channel.send_str(f"{self.name} {message.data}")
        return channel


async def _ended(child: subprocess.Popen[bytes]) -> bool:
    return child.poll() is not None


@dataclass
class Stand:
    """``edge`` is a client of it; ``member`` names an app as a server of the backend ``web``."""

    root: Path
    config: config.Config
    edge: haproxy.HAProxyEdge
    child: subprocess.Popen[bytes] | None = None
    apps: list[App] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.config.listen}"

    def client(self) -> haproxy.HAProxyEdge:
        """Another client, as after the first one's death."""
        return haproxy.HAProxyEdge(self.root / "home", self.root / "run", "demo")

    async def start(self, members: tuple[base.Member, ...] = ()) -> None:
        await self._spawn(members)
        await until(self._runs, "the edge runs")

    async def _spawn(self, members: tuple[base.Member, ...]) -> None:
        self._begin(await self.edge.process(self.config, members))

    def _begin(self, process: Process) -> None:
        with (self.root / "edge.log").open("ab") as log:
            self.child = subprocess.Popen(process.argv, cwd=process.cwd, stdout=log, stderr=log)

    async def succeed(self, heir: base.Heir) -> None:
        """Start who takes over; on return the one before has ended."""
        elder = self.child
        assert elder is not None
        self._begin(heir.process)
        await heir.serves()
        await until(lambda: _ended(elder), "the one before has ended")

    async def _runs(self) -> bool:
        return (await self.edge.look()).state == "running"

    def stop(self) -> None:
        if self.child is not None:
            self.child.terminate()
            self.child.wait(PATIENCE)
            self.child = None

    async def kill(self) -> None:
        """kill -9 of master and workers; on return none of them holds anything any more."""
        pids = await self.edge.pids()
        handles = [os.pidfd_open(pid) for pid in pids]
        for handle in handles:
            signal.pidfd_send_signal(handle, signal.SIGKILL)

        async def gone() -> bool:
            return len(select.select(handles, [], [], 0)[0]) == len(handles)

        await until(gone, "the edge is gone")
        for handle in handles:
            os.close(handle)
        assert self.child is not None
        self.child.wait()

    async def app(self, name: str) -> App:
        app = await App(name, str(self.root / f"{name}.sock")).start()
        self.apps.append(app)
        return app

    def member(self, app: App, backend: str = "web") -> base.Member:
        return base.Member(f"{backend}.{app.name}", backend, app.address, f"token-{app.name}")

    async def enter(self, app: App) -> None:
        """In, and looked at until it is on probation no longer, as the loop does."""
        await self.edge.enter(self.member(app))
        await until(self._settled, f"{app.name} is settled")

    async def _settled(self) -> bool:
        await self.edge.look()
        return all(seen.floor == seen.judged for seen in await self.edge._servers())

    async def leave(self, app: App) -> None:
        await self.edge.leave("web", self.member(app).name)

    async def server(self, app: App) -> observed.EdgeServer | None:
        return (await self.edge.look()).servers.get(self.member(app).name)

    async def connections(self, app: App) -> int:
        """How many the edge has to it, in use or kept for later."""
        table = (await self.edge._answer(["show servers conn"])).splitlines()
        used, kept = (table[0].split().index(name) - 1 for name in ("used_cur", "idle_cur"))
        rows = [line.split() for line in table[1:]]
        mine = [row for row in rows if row and row[0].endswith(f"/{self.member(app).name}")]
        assert mine
        return sum(int(row[used]) + int(row[kept]) for row in mine)


def backend(name: str, **other: object) -> config.Backend:
    plain = config.Backend(
        name, "/ready", check_timeout=2, check_every=0.4, check_fall=2, sticky=True, timeout=60
    )
    return replace(plain, **other)  # type: ignore[arg-type]


CONFIG = config.Config(
    stack="demo",
    listen="127.0.0.1:8080",
    rules=(config.Rule("/", None, "web"),),
    backends=(backend("web"),),
    run_dir="/run/x",
    maxconn=100,
    threads=1,
)
"""One service, and nothing else that a file may say."""


@contextlib.asynccontextmanager
async def standing(started: bool = True, **other: object) -> AsyncIterator[Stand]:
    """A stand with the backends ``web`` (public) and ``api`` (private too)."""
    root = Path(tempfile.mkdtemp(prefix="gl-edge-"))
    (root / "run").mkdir(mode=0o700)
    wanted = config.Config(
        stack="demo",
        listen=f"127.0.0.1:{ports.reserve()}",
        rules=(config.Rule("/", None, "web"), config.Rule("/api", None, "api")),
        backends=(
            backend("web"),
            backend("api", sticky=False, private_bind=f"127.0.0.1:{ports.reserve()}"),
        ),
        run_dir=str(root / "run"),
        maxconn=500,
        threads=2,
    )
    wanted = replace(wanted, **other)  # type: ignore[arg-type]
    stand = Stand(root, wanted, haproxy.HAProxyEdge(root / "home", root / "run", "demo"))
    try:
        if started:
            await stand.start()
        yield stand
    finally:
        stand.stop()
        for app in stand.apps:
            await app.stop()
        shutil.rmtree(root)
