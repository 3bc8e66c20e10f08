"""The front under real requests, with two real edges behind it: who gets what, and who does not."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import ports
from gapless.edge import binary, doors, front, shared, talk
from gapless.edge import config as conf
from gapless.errors import EdgeRefused
from gapless.model.front import Claim

HOSTS = {"one": ("one.test", "*.wild.test"), "two": ("two.test", "near.wild.test")}
CONNECTIONS = 40
"""Of the front: so few that one stack can hold up all that it may have."""


@dataclass
class House:
    """A front, and behind it an edge with an app for each of ``claims``."""

    root: Path
    port: int
    claims: dict[str, Claim]
    apps: dict[str, stand.App]
    edges: dict[str, stand.Stand]
    front: doors.Doors
    child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, *stacks: str) -> None:
        """Its text and table, as it is started or reloaded with."""
        claims = tuple(self.claims[stack] for stack in stacks)
        text = front.text(front.Config(claims, str(self.root), maxconn=CONNECTIONS, threads=2))
        (self.root / front.TEXT).write_text(text)
        (self.root / front.TABLE).write_text(front.lines(front.table(claims)))

    async def start(self, *stacks: str) -> None:
        self.write(*stacks)
        self._spawn()
        await stand.until(self._answers, "the front runs")

    def _spawn(self) -> None:
        master = f"{self.root / conf.MASTER_SOCKET},mode,600"
        text = str(self.root / front.TEXT)
        with (self.root / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [binary.find(), "-W", "-S", master, "-f", text], stdout=log, stderr=log
            )

    async def _answers(self) -> bool:
        with contextlib.suppress(talk.SilentError, EdgeRefused):
            await self.front.look()
            await self.front.steered()
            return True
        return False

    async def ask(self, host: str | None, path: str = "/") -> tuple[int, str]:
        headers = {} if host is None else {"Host": host}
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(self.url + path, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def raw(self, text: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text.encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def built(*started: str) -> AsyncIterator[House]:
    port = ports.reserve()
    claims, apps, edges = {}, {}, {}
    async with contextlib.AsyncExitStack() as everything:
        for name, hosts in HOSTS.items():
            edge = await everything.enter_async_context(stand.standing(shared=shared.Shared(hosts)))
            app = await edge.app(name)
            await edge.enter(app)
            claims[name] = Claim(
                name,
                hosts,
                str(edge.root),
                http=(f"127.0.0.1:{port}",),
                socket=str(edge.root / "run" / shared.SOCKET),
            )
            apps[name], edges[name] = app, edge
        root = edges["one"].root / "front"
        root.mkdir(mode=0o700)
        house = House(root, port, claims, apps, edges, doors.Doors(root))
        try:
            await house.start(*(started or tuple(HOSTS)))
            yield house
        finally:
            if house.child is not None:
                house.child.terminate()
                house.child.wait(stand.PATIENCE)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with built() as made:
        yield made


async def test_each_request_goes_where_its_host_is(house: House) -> None:
    wanted: Mapping[str | None, tuple[int, str]] = {
        "one.test": (200, "one"),
        "ONE.test:8080": (200, "one"),
        "two.test": (200, "two"),
        "a.wild.test": (200, "one"),
        "a.b.c.d.wild.test": (200, "one"),
        "near.wild.test": (200, "two"),
    }
    assert {host: await house.ask(host) for host in wanted} == wanted
    for host in ("wild.test", "xone.test", "one.test.evil", "a.near.wild.testx", "[::1]", None):
        assert (await house.ask(host))[0] == 404, host
    # Below a name that is not a wildcard the wildcard above still holds.
    assert await house.ask("a.near.wild.test") == (200, "one")
    for text, status in (
        ("GET / HTTP/1.0\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: one.test\r\nHost: two.test\r\n\r\n", "400"),
        ("GET http://two.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n", "400"),
        ("NOT HTTP\r\n\r\n", "400"),
    ):
        assert (await house.raw(text)).split()[1] == status, text

    await _the_edge_sees_the_client_and_not_the_front(house)


async def _the_edge_sees_the_client_and_not_the_front(house: House) -> None:
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get(house.url, headers={"Host": "one.test"}) as answer,
    ):
        assert answer.status == 200
    seen = house.apps["one"].headers
    assert seen["X-Forwarded-For"] == "127.0.0.9"
    assert seen["X-Forwarded-Port"] == str(house.port)
    assert seen["X-Forwarded-Host"] == "one.test"


class Load:
    """Clients of one host until ``stop``, keep-alive and not; ``failed``: what was not 200."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.done = 0
        self.failed: list[str] = []
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(3)]

    async def _client(self, number: int) -> None:
        connector = aiohttp.TCPConnector(force_close=number % 2 == 0)
        headers = {"Host": f"{self.name}.test"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            session._retry_connection = False
            while not self._over.is_set():
                method = "POST" if number % 3 == 0 else "GET"
                try:
                    async with session.request(method, self.house.url, data=b"x" * 99) as answer:
                        text = await answer.text()
                        if (answer.status, text) != (200, self.name):
                            self.failed.append(f"{method} {answer.status} {text}")
                except aiohttp.ClientError as error:
                    self.failed.append(f"{method} {error!r}")
                self.done += 1
                await asyncio.sleep(0.005)

    async def more(self) -> None:
        """Until each client has asked again, at least once from its beginning."""
        enough = self.done + 2 * len(self._tasks)
        async with asyncio.timeout(30):
            while self.done < enough:  # noqa: ASYNC110  # the count is a plain number
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)


async def test_stacks_come_and_go_and_addresses_change_and_nothing_fails() -> None:
    async with built("one") as house:
        assert (await house.ask("two.test"))[0] == 404
        seen = await house.front.look()
        assert seen.holds(house.claims["one"])
        assert not seen.holds(house.claims["two"])
        load = Load(house, "one")
        two = house.claims["two"]
        for _ in range(3):
            await house.front.put(two)
            await house.front.put(two)  # twice is as good as once
            assert (await house.front.look()).holds(two)
            assert await house.ask("two.test") == (200, "two")
            await house.front.drop("two")
            assert (await house.ask("two.test"))[0] == 404
            await load.more()
        # A long connection outlasts that its stack has left, and a reload.
        await house.front.put(two)
        async with aiohttp.ClientSession() as client:
            channel = await client.ws_connect(f"{house.url}/ws", headers={"Host": "two.test"})
            await house.front.drop("two")
            more = ports.reserve()
            house.claims["one"] = replace(
                house.claims["one"], http=(f"127.0.0.1:{house.port}", f"127.0.0.1:{more}")
            )
            house.write("one", "two")
            await house.front.reload(front.digest(house.claims.values()))
            await load.more()
            await channel.send_str("still")
            assert await channel.receive_str() == "two still"
            await channel.close()
        assert (await house.front.look()).holds(house.claims["one"])
        assert await house.ask("two.test") == (200, "two")
        house.port = more
        assert await house.ask("one.test") == (200, "one")
        assert (await house.ask("two.test"))[0] == 404  # it is not on that address
        await load.stop()
        assert load.failed == []


async def test_a_stack_without_an_edge_is_answered_for_by_nobody_else(house: House) -> None:
    house.edges["one"].stop()
    assert (await house.ask("one.test"))[0] == 503
    assert await house.ask("two.test") == (200, "two")
    # What its clients wait for meanwhile is done once it is back.
    waiting = asyncio.create_task(house.ask("one.test"))
    await asyncio.sleep(0)
    await house.edges["one"].start()
    app = house.apps["one"]
    await house.edges["one"].enter(app)
    assert (await waiting)[0] in (200, 503)
    assert await house.ask("one.test") == (200, "one")


async def test_with_a_weight_it_would_be_answered_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The planted fault: what the weight of 0 is for."""
    right = front.server_words

    def wrong(claim: Claim, kind: front.Kind, maxconn: int) -> tuple[str, ...]:
        return tuple("1" if word == "0" else word for word in right(claim, kind, maxconn))

    async def taken_out(house: House) -> tuple[int, int]:
        server = front.server(house.claims["one"], "http")
        await house.front._order([f"set server http/{server} state maint"])
        return (await house.ask("one.test"))[0], (await house.ask("two.test"))[0]

    async with built() as house:
        assert await taken_out(house) == (503, 200)
    monkeypatch.setattr(front, "server_words", wrong)
    async with built() as house:
        # The other edge refuses what is not its own: that is the second bolt on the door.
        assert await taken_out(house) == (421, 200)


async def test_a_stack_that_holds_everything_up_leaves_room_for_others(house: House) -> None:
    share = int(CONNECTIONS * front.SHARE)
    headers = {"Host": "one.test"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:

        async def held() -> int:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"{house.url}/held") as answer:
                    return answer.status
            return 0

        tasks = [asyncio.create_task(held()) for _ in range(share + 4)]

        async def full() -> bool:
            return house.apps["one"].held == share

        await stand.until(full, "it has all that it may have")
        assert await house.ask("two.test") == (200, "two")
        house.apps["one"].release.set()
        assert sorted(await asyncio.gather(*tasks)) == [200] * (share + 4)
