"""Requests held at a real edge: what waits, what goes on, what is dropped, and when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import spec
from gapless.edge import hold
from gapless.model.desired import Hold

LONG = 300.0
"""Seconds of a hold that is taken back before, however slow the machine is."""


def lasting(seconds: float) -> Hold:
    return Hold(round(time.time() + seconds, 3), seconds)


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing() as made:
        await made.enter(await made.app("a"))
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=LONG)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as made:
        yield made


async def waiting(place: stand.Stand, count: int) -> None:
    """Until so many clients are at the edge (aiohttp opens a connection for each that waits)."""

    async def here() -> bool:
        return (await place.edge.counters())[""].sessions >= count

    await stand.until(here, f"{count} clients wait")


async def test_held_requests_are_served_once_they_may_go(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    await place.edge.hold(lasting(LONG))
    small = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(20)]
    posts = [asyncio.create_task(stand.ask(client, place.url, b"x" * 300_000)) for _ in range(20)]
    await waiting(place, 40)
    assert place.apps[0].served == 0
    assert not any(task.done() for task in (*small, *posts))
    private = place.config.backends[1].private_bind
    assert (await stand.ask(client, f"http://{private}/"))[
        0
    ] == 503  # nobody is in there, and no hold
    await place.edge.hold(None)
    assert {await task for task in (*small, *posts)} == {(200, "a")}
    assert place.apps[0].served == 40
    assert await stand.ask(client, place.url) == (200, "a")


async def test_it_ends_by_itself_and_is_not_seen_any_more(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    wanted = lasting(0.5)
    await place.edge.hold(wanted)
    seen = (await place.edge.look()).held_until
    assert seen == wanted.until or time.time() >= wanted.until
    assert await stand.ask(client, place.url) == (200, "a")
    assert time.time() >= wanted.until
    assert (await place.edge.look()).held_until is None


async def test_a_clock_that_is_wrong_holds_nobody_longer(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    await place.edge.hold(Hold(round(time.time() + 3600, 3), 0.3))
    assert await stand.ask(client, place.url) == (200, "a")


async def test_nobody_is_held_twice(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    """A second hold has nothing of the first: neither who waited nor who was called."""
    for _ in range(3):
        await place.edge.hold(lasting(LONG))
        tasks = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(5)]
        await waiting(place, 5)
        await place.edge.hold(None)
        assert {await task for task in tasks} == {(200, "a")}


async def test_only_so_many_wait(client: aiohttp.ClientSession) -> None:
    async with stand.standing(maxconn=40) as place:
        await place.enter(await place.app("a"))
        await place.edge.hold(lasting(LONG))
        answers = [asyncio.create_task(client.get(place.url)) for _ in range(21)]
        # Whoever comes last is refused, and nobody else is answered meanwhile.
        done, others = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert refused.status == 503
        assert 0 < int(refused.headers["Retry-After"]) <= LONG
        assert not done
        await place.edge.hold(None)
        assert {(await task).status for task in others} == {200}
        assert place.apps[0].served == 20


async def test_a_long_body_is_refused_at_once(place: stand.Stand) -> None:
    """Before it has come: only the head is sent here."""
    await place.edge.hold(lasting(LONG))
    reader, writer = await asyncio.open_connection(*spec.own_address(place.url))
    length = hold.LONGEST_BODY + 1
    writer.write(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode())
    assert b" 503 " in await reader.readline()
    writer.close()
    assert place.apps[0].served == 0


async def test_those_whose_client_has_left_are_dropped_and_make_room(
    client: aiohttp.ClientSession,
) -> None:
    async with stand.standing(maxconn=40) as place:
        await place.enter(await place.app("a"))
        await place.edge.hold(lasting(LONG))
        gone = [asyncio.create_task(stand.ask(client, place.url, b"once")) for _ in range(20)]
        await waiting(place, 20)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

        async def left() -> bool:
            return (await place.edge.counters())[""].sessions == 0

        await stand.until(left, "the edge sees that they are gone")
        tasks = [asyncio.create_task(stand.ask(client, place.url, b"once")) for _ in range(10)]
        await waiting(place, 10)
        await place.edge.hold(None)
        assert {await task for task in tasks} == {(200, "a")}
        assert place.apps[0].served == 10


async def test_who_may_pass_is_not_held(client: aiohttp.ClientSession) -> None:
    async with stand.standing(allow=("127.0.0.0/8",)) as place:
        await place.enter(await place.app("a"))
        await place.edge.hold(lasting(LONG))
        assert await stand.ask(client, place.url) == (200, "a")


async def test_it_outlasts_a_reload(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    """Requests on the worker that was replaced wait as long as those on its successor."""
    await place.edge.hold(lasting(LONG))
    before = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await place.edge.reload(replace(place.config, maxconn=400), (place.member(place.apps[0]),))
    after = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 2)
    assert place.apps[0].served == 0
    await place.edge.hold(None)
    assert (await before, await after) == ((200, "a"), (200, "a"))


async def test_it_outlasts_a_killed_edge(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    wanted = lasting(LONG)
    await place.edge.hold(wanted)
    await place.kill()
    await place.start((place.member(place.apps[0]),))
    assert (await place.edge.look()).held_until == wanted.until
    task = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    assert place.apps[0].served == 0
    await place.edge.hold(None)
    assert await task == (200, "a")


async def test_everything_restarts_behind_it(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """The server goes, and comes back at the same socket, with clients at full speed."""
    failed: list[object] = []
    stop = asyncio.Event()

    async def clients(body: bytes | None) -> int:
        count = 0
        while not stop.is_set():
            found = await stand.ask(client, place.url, body)
            count += 1
            if found != (200, "a"):
                failed.append(found)
        return count

    load = [asyncio.create_task(clients(body)) for body in (None, b"x" * 3000) * 4]
    app = place.apps[0]

    async def idle() -> bool:
        server = await place.server(app)
        return server is not None and server.in_flight == 0

    async def parted() -> bool:
        return await place.connections(app) == 0

    for _ in range(3):
        served = app.served

        async def moves(served: int = served) -> bool:
            return app.served > served + 20

        await stand.until(moves, "requests are served")
        await place.edge.hold(lasting(LONG))
        await stand.until(idle, "nothing is in flight")
        await app.stop()
        # A POST that is sent on a connection to the one before can not be sent again.
        await stand.until(parted, "the edge has seen that its kept connections are closed")
        app.release.clear()
        await app.start()
        await place.edge.hold(None)
    stop.set()
    assert sum([await task for task in load]) > 60
    assert failed == []
