"""A replica gets so many requests at a time; the others wait, in bounds of number and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
from tests.edge import stand

from gapless.edge import config, queueing

Session = aiohttp.ClientSession


@contextlib.asynccontextmanager
async def queued(queue: queueing.Queue) -> AsyncIterator[tuple[stand.Stand, Session]]:
    backends = (stand.backend("web", queue=queue, timeout=30),)
    async with (
        stand.standing(backends=backends, rules=(config.Rule("/", None, "web"),)) as place,
        Session(place.url, connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        await place.enter(await place.app("a"))
        yield place, client


async def ask(client: Session, path: str = "/held") -> tuple[int, str, str]:
    async with client.get(path) as answer:
        return answer.status, await answer.text(), answer.headers.get("Retry-After", "")


async def in_flight(place: stand.Stand, wanted: int) -> None:
    async def so() -> bool:
        rows = await place.edge._answer(["show stat -1 2 -1"])
        line = next(one for one in rows.splitlines() if one.startswith("web,BACKEND,"))
        return int(line.split(",")[4]) == wanted

    await stand.until(so, f"{wanted} are there")


async def held(app: stand.App, wanted: int) -> None:
    async def so() -> bool:
        return app.held >= wanted

    await stand.until(so, f"{wanted} have come to it")
    assert app.held == wanted


async def test_the_next_one_waits_and_is_served() -> None:
    async with queued(queueing.Queue(3, seconds=30)) as (place, client):
        (app,) = place.apps
        asked = [asyncio.create_task(ask(client)) for _ in range(4)]
        await in_flight(place, 4)
        await held(app, 3)
        app.release.set()
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 4


async def test_who_waits_too_long_is_told_so() -> None:
    async with queued(queueing.Queue(2, seconds=0.3)) as (place, client):
        (app,) = place.apps
        asked = [asyncio.create_task(ask(client)) for _ in range(2)]
        await in_flight(place, 2)
        status, text, after = await ask(client)
        assert (status, after) == (503, "2")
        assert "busy" in text
        app.release.set()
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 2
        server = await place.server(app)
        assert server is not None
        assert server.takes_work  # nobody is to blame for being busy
        assert server.bad == 0


async def test_only_so_many_wait() -> None:
    async with queued(queueing.Queue(2, seconds=30, length=3)) as (place, client):
        (app,) = place.apps
        asked = [asyncio.create_task(ask(client)) for _ in range(5)]
        await in_flight(place, 5)
        status, _, after = await ask(client)
        assert (status, after) == (503, "2")
        app.release.set()
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 5
        assert (await ask(client, "/"))[0] == 200


async def test_a_websocket_counts_as_long_as_it_is_open() -> None:
    async with queued(queueing.Queue(2, seconds=0.3)) as (_, client):
        one, two = [await client.ws_connect("/ws") for _ in range(2)]
        assert (await ask(client, "/"))[0] == 503
        await one.close()

        async def served() -> bool:
            return (await ask(client, "/"))[0] == 200

        await stand.until(served, "its place is free")
        await two.close()


async def test_each_new_replica_brings_room_and_a_reload_keeps_the_limit() -> None:
    async with queued(queueing.Queue(3, seconds=30)) as (place, client):
        await place.enter(await place.app("b"))
        assert await limits(place) == {"web.a": 3, "web.b": 3}
        members = tuple(place.member(app) for app in place.apps)
        (web,) = place.config.backends
        wider = replace(place.config, backends=(replace(web, queue=queueing.Queue(4)),))
        await place.edge.reload(wider, members)
        assert await limits(place) == {"web.a": 4, "web.b": 4}
        await place.edge.reload(replace(wider, backends=(stand.backend("web"),)), members)
        await place.edge.look()
        assert await limits(place) == {"web.a": 0, "web.b": 0}
        assert (await ask(client, "/"))[0] == 200


async def test_one_at_a_time_is_possible() -> None:
    async with queued(queueing.Queue(1, seconds=30)) as (place, client):
        asked = [asyncio.create_task(ask(client)) for _ in range(3)]
        await in_flight(place, 3)
        await held(place.apps[0], 1)
        assert await limits(place) == {"web.a": 1}
        place.apps[0].release.set()
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3


async def limits(place: stand.Stand) -> dict[str, int]:
    return {one.server.name: one.limit for one in await place.edge._servers()}
