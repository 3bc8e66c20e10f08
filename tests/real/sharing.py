"""Stacks that share an address, by one front: for tests of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.real.standing import Load, Standing, open_folder

from gapless import errors
from gapless.drills import ports
from gapless.engine.front import Front

KEYS = 'sticky = "cookie"\nroute = {{ host = "{host}" }}'
TLS = 'tls = "self-signed"\ntls_listen = "127.0.0.1:{port}"'


class Here(aiohttp.abc.AbstractResolver):
    """Every name is this machine's."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[object]:  # type: ignore[override]
        found = {"hostname": host, "host": "127.0.0.1", "port": port}
        return [{**found, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


class Stack(Standing):
    """One of several behind one front. Its cookie tells who has answered.

    ``tls``: the port that it shares for TLS; 0: it speaks none.
    """

    def __init__(self, folder: Path, name: str, port: int, tls: int = 0) -> None:
        self.host, self.tls = f"{name}.test", tls
        # A stack looks for ports of its own from where its name says: two runs must not meet.
        super().__init__(folder / name, f"{name}-{os.getpid()}")
        self.port = port
        self.share()

    def share(self, more: str = "shared = true", start: str = "20s") -> None:
        """Its file, with one replica."""
        secure = TLS.format(port=self.tls) if self.tls else ""
        keys = KEYS.format(host=self.host)
        self.write(replicas=1, keys=keys, more=f"{more}\n{secure}", start=start)
        if secure:
            named = f'gapless = 1\ndomains = ["{self.host}"]'
            self.file.write_text(self.file.read_text().replace("gapless = 1", named))

    def public(self, host: str | None = None) -> str:
        """Where the world finds it, or another's name on the same port."""
        scheme, port = ("https", self.tls) if self.tls else ("http", self.port)
        return f"{scheme}://{host or self.host}:{port}"

    async def ask(self, host: str | None = None) -> tuple[int, str]:
        """Status, and the stack that has answered ("" for none)."""
        async with (
            session(close=True) as client,
            client.get(self.public(host), allow_redirects=False) as answer,
        ):
            await answer.read()
            return answer.status, "".join(answer.cookies).partition("-")[0]

    @property
    def front(self) -> Front:
        return self.controller.site.front

    @property
    def front_pid(self) -> int | None:
        return self.controller.observed.front.pid

    @property
    def edge_pid(self) -> int:
        pid = self.controller.observed.edge.pid
        assert pid is not None
        return pid


def session(*, close: bool) -> aiohttp.ClientSession:
    """A client with one connection, or with one for each request, that forgets cookies."""
    connector = aiohttp.TCPConnector(limit=1, force_close=close, ssl=False, resolver=Here())
    made = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    made._retry_connection = False  # a hidden second try would hide a lost first one
    return made


class Visitors(Load):
    """Clients of one host, who are owed answers of its own stack."""

    def __init__(self, stack: Stack, clients: int = 4) -> None:
        super().__init__(stack.public(), clients)

    async def _client(self, number: int) -> None:
        async with session(close=number % 2 == 1) as client:
            while True:
                await self._one(client, number)
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def sharing(
    monkeypatch: pytest.MonkeyPatch, *names: str, tls: bool = False, shared: bool = True
) -> AsyncIterator[tuple[Stack, ...]]:
    """Stacks on one port, or one for plain HTTP and one for TLS, all up."""
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        port, secure = ports.reserve(), ports.reserve() if tls else 0
        stacks = tuple(Stack(folder, name, port, secure) for name in names)
        for stack in stacks:
            if not shared:
                stack.share(more="")
            await stack.begin()
        await asyncio.gather(*(stack.do("up") for stack in stacks))
        yield stacks
        for stack in stacks:
            if not stack.controller.stopping:
                with contextlib.suppress(errors.NoController):
                    await stack.do("down")
            await stack.end()
