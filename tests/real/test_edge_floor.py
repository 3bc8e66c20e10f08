"""Bad answers take servers out, and never the last ones: the floor, under real requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import awaiting, config, judging, wire
from gapless.engine import offline
from gapless.engine.paths import Paths
from gapless.errors import EdgeRefused

COOKIE = "demo-web"
CLIENTS = 40


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing() as made:
        yield made


async def three(place: stand.Stand, names: str = "abc") -> list[stand.App]:
    apps = [await place.app(name) for name in names]
    for app in apps:
        await place.enter(app)
    return apps


async def ask(
    client: aiohttp.ClientSession, url: str, cookie: str | None = None
) -> tuple[int, str, bool]:
    """Status, who answered (nobody: the edge itself), whether a cookie was handed out."""
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie is not None else {}
    async with client.get(url, headers=headers) as answer:
        return answer.status, await answer.text(), "Set-Cookie" in answer.headers


async def all_tripped(place: stand.Stand) -> bool:
    servers = (await place.edge.look()).servers.values()
    return bool(servers) and all(server.tripped for server in servers)


async def out(place: stand.Stand, app: stand.App) -> bool:
    server = (await place.edge.look()).servers[place.member(app).name]
    return server.tripped or server.admin == "maint"


async def hammer(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    """One client, one broken route, until every server has given its run of bad answers."""

    async def tripped() -> bool:
        for _ in range(3 * judging.ERROR_LIMIT):
            assert (await ask(client, f"{place.url}/broken"))[0] == 500
        return await all_tripped(place)

    await stand.until(tripped, "all are out")


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


async def test_one_broken_route_costs_no_other_route_an_answer(place: stand.Stand) -> None:
    apps = await three(place)
    seen: Counter[int] = Counter()
    over = asyncio.Event()

    async def visitor() -> None:
        async with client() as own:
            while not over.is_set():
                seen[(await ask(own, place.url))[0]] += 1
                await asyncio.sleep(0.05)  # a quiet site

    async with client() as own:
        for app in apps:
            app.broken = "/broken"
        visit = asyncio.create_task(visitor())
        for _ in range(2):
            await hammer(place, own)
            answers = [await ask(own, place.url) for _ in range(30)]
            assert {status for status, _, _ in answers} == {200}
            assert {name for _, name, _ in answers} == set("abc")
        over.set()
        await visit
    assert set(seen) == {200}
    counters = await place.edge.counters()
    assert counters["web"].requests == counters[""].requests


@pytest.fixture
async def hasty() -> AsyncIterator[stand.Stand]:
    """One where nobody waits for a server that is out."""
    backends = (stand.backend("web", wait=awaiting.Await(0.0)), stand.backend("api"))
    async with stand.standing(backends=backends) as made:
        yield made


async def test_without_the_floor_it_is_an_outage(hasty: stand.Stand) -> None:
    """The planted fault: nobody stands on the floor."""
    place = hasty
    apps = await three(place)
    orders = [wire.state(config.floor("web"), place.member(app).name, "maint") for app in apps]
    for app in apps:
        app.broken = "/broken"
    async with client() as own:
        for _ in range(3):
            await place.edge._order(orders)
            for _ in range(3 * judging.ERROR_LIMIT):
                await ask(own, f"{place.url}/broken")
            if (await ask(own, place.url))[0] == 503:
                return
    raise AssertionError("the other routes were answered all the same")


async def test_the_floor_keeps_clients_where_their_cookie_says(place: stand.Stand) -> None:
    apps = await three(place)
    for app in apps:
        app.broken = "/broken"
    async with client() as own:
        await hammer(place, own)
        for name in "abc" * 3:
            assert await ask(own, place.url, f"token-{name}") == (200, name, False)
        assert (await ask(own, place.url, "forged"))[2]


async def test_a_holder_of_its_cookie_is_not_sent_to_one_that_is_out(place: stand.Stand) -> None:
    apps = await three(place, "ab")
    apps[0].status = 500
    async with client() as own:
        # Again where a slow machine let it come back meanwhile: its checks are good.
        for _ in range(3):
            for _ in range(judging.ERROR_LIMIT):
                assert (await ask(own, place.url, "token-a"))[0] in (500, 200)
            if (await ask(own, place.url, "token-a"))[:2] == (200, "b"):
                return
    raise AssertionError("its holder got nothing but bad answers")


async def test_a_dead_one_is_served_neither_with_nor_without_the_floor(
    place: stand.Stand,
) -> None:
    apps = await three(place)
    await apps[0].stop()  # the edge is not told
    for app in apps[1:]:
        app.broken = "/broken"
    async with client() as own:
        for _ in range(60):
            assert (await ask(own, place.url, "token-a"))[0] == 200
        for _ in range(4 * judging.ERROR_LIMIT):
            await ask(own, f"{place.url}/broken")
        for _ in range(60):
            assert (await ask(own, place.url, "token-a"))[0] == 200


async def test_servers_that_say_they_are_not_ready_are_not_served_by_the_floor(
    place: stand.Stand,
) -> None:
    apps = await three(place)
    for app in apps:
        app.ready = False

    async def refused() -> bool:
        async with client() as own:
            status, text, _ = await ask(own, place.url)
            return status == 503 and text not in set("abc")

    await stand.until(refused, "the edge itself says 503")


async def test_a_bad_one_costs_few_answers_of_many_clients(place: stand.Stand) -> None:
    """A run, or two where a good check falls into the first one, and what was under way."""
    await place.enter(await place.app("good"))
    seen: Counter[tuple[int, str]] = Counter()
    over = asyncio.Event()

    async def visitor() -> None:
        async with client() as own:
            while not over.is_set():
                status, name, _ = await ask(own, place.url)
                seen[status, name] += 1

    visits = [asyncio.create_task(visitor()) for _ in range(CLIENTS)]
    for name in "xyz":
        bad = await place.app(name)
        bad.status = 500
        # Whether it is found out while it enters or after depends on how soon the clients come.
        with contextlib.suppress(EdgeRefused):
            await place.edge.enter(place.member(bad))
        await stand.until(functools.partial(out, place, bad), f"{name} is out")
    over.set()
    await asyncio.gather(*visits)
    assert seen.keys() == {(200, "good"), *((500, name) for name in "xyz")}
    most = 20  # of one bad version, as promised: a good check between two begins a run anew
    for name in "xyz":
        assert judging.ERROR_LIMIT <= seen[500, name] <= most


async def test_a_flip_to_bad_ones_is_undone_and_the_old_ones_serve_on(
    place: stand.Stand,
) -> None:
    old = await three(place)
    new = [await place.app(name) for name in "xyz"]
    for app in new:
        app.status = 500
    seen: Counter[int] = Counter()
    over = asyncio.Event()

    async def visitor() -> None:
        async with client() as own:
            while not over.is_set():
                seen[(await ask(own, place.url))[0]] += 1

    visits = [asyncio.create_task(visitor()) for _ in range(CLIENTS)]
    leave = tuple(("web", place.member(app).name) for app in old)
    with pytest.raises(EdgeRefused, match="bad answers in a row"):
        await place.edge.flip(tuple(place.member(app) for app in new), leave)
    servers = (await place.edge.look()).servers
    over.set()
    await asyncio.gather(*visits)
    assert {name for name, server in servers.items() if server.takes_work} == {n for _, n in leave}
    assert set(seen) == {200, 500}
    assert seen[500] <= 3 * judging.ERROR_LIMIT + CLIENTS


async def test_one_that_left_is_reached_by_no_floor_and_goes_whole(place: stand.Stand) -> None:
    one, two = await three(place, "ab")
    two.broken = "/broken"
    await place.leave(one)
    async with client() as own:
        await hammer_one(own, place)
        answers = {(await ask(own, place.url, "token-a"))[1] for _ in range(20)}
        assert answers == {"b"}
        request = asyncio.create_task(ask(own, f"{place.url}/held", "token-b"))

        async def arrived() -> bool:
            server = await place.server(two)
            return two.held == 1 and server is not None and server.in_flight == 1

        await stand.until(arrived, "it waits on the floor")
        await place.leave(two)
        assert await arrived()
        assert not await place.edge.remove("web", place.member(two).name)
        await place.edge.reload(replace(place.config, maxconn=400), (place.member(two),))
        assert await arrived()
        await place.edge.cut("web", place.member(two).name)
        assert (await request)[0] >= 500

    async def gone() -> bool:
        left = [await place.edge.remove("web", place.member(app).name) for app in (one, two)]
        return all(left)

    await stand.until(gone, "both are removed")
    table = await place.edge._answer([wire.SERVERS])
    assert "web.a" not in table
    assert "web.b" not in table


async def hammer_one(own: aiohttp.ClientSession, place: stand.Stand) -> None:
    for _ in range(3 * judging.ERROR_LIMIT):
        await ask(own, f"{place.url}/broken")


async def test_without_a_controller_both_are_read_as_one(place: stand.Stand) -> None:
    (app,) = await three(place, "a")
    paths = Paths("demo", place.root / "home", place.root / "run")
    async with client() as own:
        request = asyncio.create_task(ask(own, f"{place.url}/held"))

        async def arrived() -> bool:
            return app.held == 1

        await stand.until(arrived, "the request arrives")
        assert offline._serving(paths)["web.a"] == ("ready", 1)
        await place.edge._order([wire.state("web", "web.a", "maint")])
        assert offline._serving(paths)["web.a"] == ("parked", 1)
        app.release.set()
        assert (await request)[0] == 200


@pytest.mark.parametrize("judged", ["maint", "ready"])
async def test_what_a_dead_controller_left_half_done_is_finished(
    place: stand.Stand, judged: wire.Admin
) -> None:
    """In: the floor may count on it. Out: it has not left before the floor has let it go."""
    app = await place.app("a")
    await place.enter(app)
    name = place.member(app).name
    other: wire.Admin = "ready" if judged == "maint" else "maint"
    await place.edge._order(
        [wire.state("web", name, judged), wire.state(config.floor("web"), name, other)]
    )
    if judged == "maint":
        half = await place.server(app)
        assert half is not None
        assert half.admin == "ready"
        assert not half.takes_work
    await place.edge.look()
    (seen,) = await place.edge._servers()
    assert (seen.judged, seen.floor) == (judged, judged)
    assert seen.server.admin == judged
