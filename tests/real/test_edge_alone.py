"""Requests that come while a service has lost all its replicas, at a real edge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import ports, spec
from gapless.edge import awaiting, config, files, wire

LONG = 60.0
"""Seconds that requests may wait where nobody is to wait in vain."""
SHORT = 0.6


def backends(seconds: float = LONG, **other: object) -> tuple[config.Backend, ...]:
    wait = awaiting.Await(seconds, **other)  # type: ignore[arg-type]
    api = {"sticky": False, "private_bind": f"127.0.0.1:{ports.reserve()}"}
    return (stand.backend("web", wait=wait), stand.backend("api", wait=wait, **api))


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing(backends=backends()) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=2 * LONG)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as made:
        yield made


async def waiting(place: stand.Stand, count: int, name: str = "web") -> None:
    """Until so many requests wait."""

    async def here() -> bool:
        rows = wire.totals(await place.edge._answer([wire.TOTALS]))
        return any(r.name == f"_alone:{name}" and r.sessions >= count for r in rows)

    await stand.until(here, f"{count} requests wait")


async def none_left(place: stand.Stand, *apps: stand.App) -> None:
    """They die, and HAProxy finds out by itself: nobody tells it."""
    for app in apps:
        await app.stop()

    async def out() -> bool:
        servers = (await place.edge.look()).servers
        return not any(servers[name].up for name in servers if name.rpartition(".")[2] in names)

    names = [app.name for app in apps]

    await stand.until(out, "the edge has seen it")


async def test_requests_wait_for_the_replica_to_come_back(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    small = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(20)]
    posts = [asyncio.create_task(stand.ask(client, place.url, b"x" * 300_000)) for _ in range(20)]
    await waiting(place, 40)
    app.served = 0
    await app.start()
    assert {await task for task in (*small, *posts)} == {(200, "a")}
    assert app.served == 40
    counters = await place.edge.counters()
    assert counters["web"].requests == counters[""].requests == 40
    # Some came to a server that the floor had not found out yet, and back.
    assert counters["web"].nobody_left == counters[""].nobody_left >= 40
    assert (counters["web"].sessions, counters["api"].nobody_left) == (0, 0)
    await stand.ask(client, place.url)
    assert (await place.edge.counters())["web"].nobody_left == counters["web"].nobody_left


async def test_or_for_the_one_that_comes_after_it(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """The controller has taken the dead one out and forgotten it."""
    apps = [await place.app("a"), await place.app("b")]
    await place.enter(apps[0])
    await none_left(place, apps[0])
    await place.leave(apps[0])
    assert await place.edge.remove("web", place.member(apps[0]).name)
    task = asyncio.create_task(stand.ask(client, place.url, b"once"))
    await waiting(place, 1)
    await place.enter(apps[1])
    assert await task == (200, "b")


async def test_each_service_by_itself(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    web, api = await place.app("a"), await place.app("b")
    await place.enter(web)
    await place.edge.enter(place.member(api, "api"))
    await none_left(place, web)
    task = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    assert await stand.ask(client, f"{place.url}/api") == (200, "b")
    assert not task.done()
    await web.start()
    assert (await task)[0] == 200


async def test_a_private_service_is_waited_for_as_well(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.edge.enter(place.member(app, "api"))
    await none_left(place, app)
    task = asyncio.create_task(
        stand.ask(client, f"http://{place.config.backends[1].private_bind}/")
    )
    await waiting(place, 1, "api")
    await app.start()
    assert await task == (200, "a")


async def refused(client: aiohttp.ClientSession, url: str, within: float) -> None:
    started = time.monotonic()
    async with client.get(url) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Cache-Control"] == "no-store"
    assert time.monotonic() - started < within


async def test_in_vain_for_so_long_at_most(client: aiohttp.ClientSession) -> None:
    async with stand.standing(backends=backends(SHORT)) as place:
        app = await place.app("a")
        await place.enter(app)
        await none_left(place, app)
        started = time.monotonic()
        await refused(client, place.url, LONG)
        assert time.monotonic() - started >= SHORT
        counters = await place.edge.counters()
        web = counters["web"]
        assert (web.requests, web.responses_5xx) == (1, 1)
        assert web.nobody_left >= 1


async def test_nobody_waits_where_none_has_been_ready(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    await refused(client, place.url, LONG)


async def test_nor_where_none_is_wanted(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    early = asyncio.create_task(refused(client, place.url, LONG))
    await waiting(place, 1)
    await place.edge.awaits((), ["web"])
    await early  # who waits is told at once
    await refused(client, place.url, LONG)
    await app.start()
    await place.enter(app)
    await none_left(place, app)
    task = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await app.start()
    assert (await task)[0] == 200


async def test_nor_where_all_live_and_say_that_they_are_not_ready(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """A store is away, say: nobody puts others in their place."""
    app = await place.app("a")
    await place.enter(app)
    app.ready = False

    async def down() -> bool:
        found = await place.server(app)
        return found is not None and not found.up

    await stand.until(down, "it is out")
    # The floor asks seldom, and serves until it knows.
    answered = [200]
    while answered[-1] == 200:
        answered.append((await stand.ask(client, place.url))[0])
    await refused(client, place.url, LONG)


async def test_who_asks_whether_it_is_ready_is_told_at_once(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    await refused(client, f"{place.url}/ready", LONG)


async def test_a_long_body_is_refused(place: stand.Stand) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    reader, writer = await asyncio.open_connection(*spec.own_address(place.url))
    length = awaiting.LONGEST_BODY + 1
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + b"x" * 20_000)
    assert b" 503 " in await reader.readline()
    writer.close()


async def test_only_so_many_wait(client: aiohttp.ClientSession) -> None:
    async with stand.standing(backends=backends(length=5)) as place:
        app = await place.app("a")
        await place.enter(app)
        await none_left(place, app)
        tasks = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(6)]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()[0] for task in done] == [503]
        await app.start()
        assert {await task for task in others} == {(200, "a")}


async def test_those_that_leave_make_room(client: aiohttp.ClientSession) -> None:
    """Again and again, for longer than so many may wait."""
    async with stand.standing(backends=backends(SHORT, length=5)) as place:
        app = await place.app("a")
        await place.enter(app)
        await none_left(place, app)
        for _ in range(3):
            tasks = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(5)]
            await waiting(place, 5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

            async def left() -> bool:
                rows = wire.totals(await place.edge._answer([wire.TOTALS]))
                return all(r.sessions == 0 for r in rows if r.name.startswith("_alone:"))

            await stand.until(left, "nobody waits any more")
        started = time.monotonic()
        assert (await stand.ask(client, place.url))[0] == 503
        assert time.monotonic() - started >= SHORT


async def test_those_that_leave_behind_one_that_stays_make_room(
    client: aiohttp.ClientSession,
) -> None:
    async with stand.standing(backends=backends(length=5)) as place:
        app = await place.app("a")
        await place.enter(app)
        await none_left(place, app)
        tasks = [asyncio.create_task(stand.ask(client, place.url))]
        await waiting(place, 1)
        gone = [asyncio.create_task(stand.ask(client, place.url)) for _ in range(4)]
        await waiting(place, 5)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

        async def left() -> bool:
            return (await place.edge.counters())[""].sessions == 1

        await stand.until(left, "one is left")
        tasks += [asyncio.create_task(stand.ask(client, place.url)) for _ in range(4)]
        await waiting(place, 5)
        await app.start()
        assert {await task for task in tasks} == {(200, "a")}


async def test_those_whose_client_has_left_are_not_done(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    gone = [asyncio.create_task(stand.ask(client, place.url, b"once")) for _ in range(10)]
    await waiting(place, 10)
    stay = [asyncio.create_task(stand.ask(client, place.url, b"once")) for _ in range(10)]
    await waiting(place, 20)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    app.served = 0
    await app.start()
    assert {await task for task in stay} == {(200, "a")}
    assert app.served == 10


async def test_one_that_dies_again_is_not_waited_for_twice(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """A request that kills whoever gets it goes round once."""
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    task = asyncio.create_task(stand.ask(client, f"{place.url}/held"))
    await waiting(place, 1)
    app.release.clear()
    await app.start()

    async def at_work() -> bool:
        return app.held == 1

    await stand.until(at_work, "it is at work")
    app.abort()
    await app.stop()
    assert (await task)[0] in (502, 503)


async def test_it_outlasts_a_killed_edge(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    """With its engine a container takes the edge along: the next one knows who was ready."""
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    await place.kill()
    await place.start()
    task = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await app.start()
    await place.enter(app)
    assert await task == (200, "a")


async def test_it_outlasts_a_reload(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    before = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await place.edge.reload(replace(place.config, maxconn=400), (place.member(app),))
    after = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await app.start()
    assert (await before, await after) == ((200, "a"), (200, "a"))
    assert (await place.edge.counters())["web"].nobody_left >= 3  # one of them on both workers


async def test_a_reload_knows_who_was_ready_under_an_older_text(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """Nobody enters again where an edge that knew nothing of waiting is replaced."""
    app = await place.app("a")
    await place.enter(app)
    (place.root / "run" / awaiting.MAP).unlink()
    await place.edge.reload(replace(place.config, maxconn=400), (place.member(app),))
    await none_left(place, app)
    task = asyncio.create_task(stand.ask(client, place.url))
    await waiting(place, 1)
    await app.start()
    assert await task == (200, "a")


async def test_a_socket_waits_too(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    app = await place.app("a")
    await place.enter(app)
    await none_left(place, app)
    task = asyncio.create_task(client.ws_connect(f"{place.url}/ws"))
    await waiting(place, 1)
    await app.start()
    channel = await task
    await channel.send_str("hello")
    assert await channel.receive_str() == "a hello"
    assert (await place.edge.counters())["web"].sessions == 1
    await channel.close()


async def test_without_the_controller_all_are_killed_under_load(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """Two at once, and back after a while: of what is safe to repeat nothing is lost."""
    apps = [await place.app("a"), await place.app("b")]
    for app in apps:
        await place.enter(app)
    found: list[int] = []
    over = asyncio.Event()

    async def visitor() -> None:
        while not over.is_set():
            found.append((await stand.ask(client, place.url))[0])

    visits = [asyncio.create_task(visitor()) for _ in range(8)]

    async def moves(count: int) -> bool:
        return len(found) >= count

    await stand.until(lambda: moves(100), "requests are served")
    for app in apps:
        await app.stop()
    await waiting(place, 1)
    for app in apps:
        await app.start()
    count = len(found)
    await stand.until(lambda: moves(count + 100), "requests are served again")
    over.set()
    await asyncio.gather(*visits)
    assert set(found) == {200}


async def test_a_lonely_request_finds_out_that_all_three_are_dead(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """None of them is known to be, and nothing but this request asks them."""
    apps = [await place.app(name) for name in "abc"]
    for app in apps:
        await place.enter(app)
    for app in apps:
        await app.stop()
    post = asyncio.create_task(stand.ask(client, place.url, b"once"))
    await waiting(place, 1)
    await apps[0].start()
    assert await post == (200, "a")


async def test_planted_a_backend_without_the_way_back(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """The one of the floor alone: whom the last server leaves behind is refused."""
    app = await place.app("a")
    await place.enter(app)
    await place.edge._order([wire.state("web", awaiting.SERVER, "maint")])
    await app.stop()
    await refused(client, place.url, LONG)


async def up(place: stand.Stand, name: str) -> bool:
    servers = (await place.edge.look()).servers
    return any(servers[one].up for one in servers if one.rpartition(".")[2] == name)


async def gone(place: stand.Stand) -> set[str]:
    """The backends out of which the way back was taken."""
    rows = (line.split(",") for line in (await place.edge._answer([wire.SERVERS])).splitlines())
    return {row[0] for row in rows if row[1:2] == [awaiting.SERVER] and "MAINT" in row}


def settled_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So long the way back stays after the last server: 2 s else."""
    sound, settled = files.script, "local SETTLED = 2 "
    assert settled in sound("await.lua")
    other = settled.replace("2", str(seconds))
    monkeypatch.setattr(files, "script", lambda name: sound(name).replace(settled, other))


async def test_whom_one_left_behind_that_died_with_posts_in_hand_waits(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy takes it out for what these got: no answer, which is not a bad one."""
    settled_after(LONG, monkeypatch)
    async with stand.standing(backends=backends()) as place:
        app = await place.app("a")
        await place.enter(app)
        url = f"{place.url}/held"
        posts = [asyncio.create_task(stand.ask(client, url, b"once")) for _ in range(20)]
        get = asyncio.create_task(stand.ask(client, url))

        async def in_hand() -> bool:
            return app.held == 21

        await stand.until(in_hand, "all are in hand")
        await app.kill()
        assert {(await task)[0] for task in posts} == {502}
        await waiting(place, 1)
        for _ in range(20):  # it would be a turn of HAProxy's later
            assert "web" not in await gone(place)
        await app.start()
        assert await get == (200, "a")


async def test_nor_does_an_earlier_death_take_the_way_back_from_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other service dies in between, and so its way back goes in between."""
    settled_after(5.0, monkeypatch)
    async with stand.standing(backends=backends()) as place:
        web, api = await place.app("a"), await place.app("b")
        await place.enter(web)
        await place.edge.enter(place.member(api, "api"))
        await none_left(place, web)
        await web.start()
        await stand.until(lambda: up(place, "a"), "it is back")
        await none_left(place, api)
        await asyncio.sleep(1.0)
        await none_left(place, web)
        found: list[set[str]] = []

        async def seen() -> bool:
            found.append(await gone(place))
            return "web" in found[-1]

        await stand.until(seen, "it is out of the backend")
        assert {"api"} in found


async def test_once_they_are_settled_the_frontends_see_that_none_is_left(
    place: stand.Stand,
) -> None:
    app = await place.app("a")
    await place.enter(app)

    async def out() -> bool:
        rows = (await place.edge._answer([wire.SERVERS])).splitlines()
        return any(row.startswith(f"web,{awaiting.SERVER},") and "MAINT" in row for row in rows)

    assert not await out()
    await none_left(place, app)
    await stand.until(out, "it is out of the backend")
    await app.start()

    async def back() -> bool:
        return not await out()

    await stand.until(back, "it is in again")
