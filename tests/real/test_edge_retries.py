"""Which requests are sent again when a replica is killed: real programs, and what they record."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import probe_app
from gapless.edge import base, judging
from gapless.model.process import Address

REPEATED = ("GET", "HEAD", "OPTIONS")
ONCE = ("POST", "PUT", "DELETE", "PATCH")


class Program:
    """One probe service behind the stand's edge."""

    def __init__(self, place: stand.Stand, name: str) -> None:
        self.path = place.root / f"{name}.sock"
        self.ledger = place.root / "runs"
        self.member = base.Member(f"web.{name}", "web", Address(socket=str(self.path)), name)
        env = {**os.environ, "SERVER_ID": name, "PROBE_LEDGER": str(self.ledger)}
        argv = [sys.executable, probe_app.__file__, "--socket", str(self.path)]
        self.child = subprocess.Popen(argv, env=env)

    async def listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.path))
        except OSError:
            return False
        writer.close()
        return True

    def end(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing() as made:
        yield made


@pytest.fixture
async def programs(place: stand.Stand) -> AsyncIterator[list[Program]]:
    made = [Program(place, name) for name in ("first", "second")]
    try:
        for one in made:
            await stand.until(one.listens, "it listens")
            await place.edge.enter(one.member)
        yield made
    finally:
        for one in made:
            one.end()


async def ask(url: str, method: str, server: str, body: bytes | None = None) -> int:
    """The status; 0: no answer at all. A connection of its own, and one try."""
    headers = {"Cookie": f"demo-web={server}"}
    async with aiohttp.ClientSession() as client:
        try:
            async with client.request(method, url, headers=headers, data=body) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError:
            return 0


def runs(ledger: Path) -> Counter[str]:
    return Counter(ledger.read_text().split()) if ledger.exists() else Counter()


@pytest.mark.parametrize("method", [*REPEATED, *ONCE])
async def test_what_is_in_flight_is_sent_again_if_it_is_safe(
    place: stand.Stand, programs: list[Program], method: str
) -> None:
    """Its cookie names the one that dies: readiness beats stickiness."""
    task = asyncio.create_task(ask(f"{place.url}/once?s=5", method, "first"))

    async def begun() -> bool:
        return bool(runs(programs[0].ledger))

    await stand.until(begun, "it is at work")
    programs[0].end()
    if method in ONCE:
        assert await task in (0, 502)
        assert list(runs(programs[0].ledger).values()) == [1]
        return

    async def repeated() -> bool:
        return list(runs(programs[0].ledger).values()) == [2]

    await stand.until(repeated, "another one is at work on the same request")
    task.cancel()


@pytest.mark.parametrize("method", [*REPEATED, *ONCE])
async def test_what_was_not_sent_yet_goes_elsewhere_whatever_it_is(
    place: stand.Stand, programs: list[Program], method: str
) -> None:
    programs[0].end()
    for _ in range(judging.ERROR_LIMIT):
        assert await ask(f"{place.url}/once?s=0", method, "first") == 200
    assert set(runs(programs[0].ledger).values()) == {1}


async def test_one_whose_answer_has_begun_is_not_repeated(
    place: stand.Stand, programs: list[Program]
) -> None:
    """The client has half of it: the rest of another one's would be a lie."""
    begun = asyncio.Event()

    async def visit() -> bytes:
        headers = {"Cookie": "demo-web=first"}
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"{place.url}/slow?s=20", headers=headers) as answer,
        ):
            begun.set()
            return await answer.read()

    task = asyncio.create_task(visit())
    await begun.wait()
    programs[0].end()
    with pytest.raises(aiohttp.ClientError):
        await task


async def test_one_that_hangs_and_is_then_killed_costs_no_safe_request(
    place: stand.Stand, programs: list[Program]
) -> None:
    programs[0].child.send_signal(signal.SIGSTOP)
    urls = [f"{place.url}/once?s=0"] * 4
    tasks = [asyncio.create_task(ask(url, "GET", "first")) for url in urls]

    async def waiting() -> bool:
        servers = (await place.edge.look()).servers
        return servers[programs[0].member.name].in_flight == len(urls)

    await stand.until(waiting, "they wait")
    programs[0].end()
    assert await asyncio.gather(*tasks) == [200] * len(urls)


async def test_one_that_fits_into_no_buffer_is_not_repeated(
    place: stand.Stand, programs: list[Program]
) -> None:
    """A search with a long body: the edge does not keep what it has passed on."""
    url = f"{place.url}/once?s=5"
    task = asyncio.create_task(ask(url, "GET", "first", body=b"x" * 100_000))

    async def begun() -> bool:
        return bool(runs(programs[0].ledger))

    await stand.until(begun, "it is at work")
    programs[0].end()
    assert await task in (0, 502)
    assert list(runs(programs[0].ledger).values()) == [1]
