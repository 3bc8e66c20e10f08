"""The edge that is killed, and the one that becomes another program: what clients feel."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import spec
from gapless.edge import binary, config, haproxy, keeper, shared


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing(started=False) as made:
        made.edge = haproxy.HAProxyEdge(made.root / "home", made.root / "run", "demo", keep=True)
        app = await made.app("a")
        await made.start((made.member(app),))
        try:
            yield made
        finally:
            made.edge.let_go()


async def killed(place: stand.Stand) -> None:
    await place.kill()
    assert (await place.edge.look()).state == "dead"


def connected(place: stand.Stand) -> socket.socket:
    client = socket.create_connection(spec.own_address(place.url), 20.0)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return client


async def test_who_connects_while_it_is_dead_waits_for_the_next(place: stand.Stand) -> None:
    await killed(place)
    clients = [connected(place) for _ in range(20)]
    await place.start((place.member(place.apps[0]),))
    for client in clients:
        with client:
            assert b" 200 " in await asyncio.to_thread(client.recv, 1000)
    assert not (place.root / "run" / config.HEIR_SOCKET).exists()


async def test_who_comes_through_the_front_waits_likewise() -> None:
    async with stand.standing(started=False, shared=shared.Shared(("a",))) as made:
        made.edge = haproxy.HAProxyEdge(made.root / "home", made.root / "run", "demo", keep=True)
        app = await made.app("a")
        door = str(made.root / "run" / shared.SOCKET)
        for _ in range(2):  # the second one has inherited what it gives
            await made.start((made.member(app),))
            await made.edge.look()
            await killed(made)
            clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
            for client in clients:
                client.settimeout(20.0)
                client.connect(door)
                client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n")
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await made.start((made.member(app),))
            for client in clients:
                with client:
                    assert b" 200 " in await asyncio.to_thread(client.recv, 1000)
            await killed(made)
        made.edge.let_go()
        with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
            client.connect(door)


async def test_the_next_one_reloads_and_is_followed_likewise(place: stand.Stand) -> None:
    for number in range(2):
        await killed(place)
        await place.start((place.member(place.apps[0]),))
        wanted = replace(place.config, maxconn=400 + number)
        await place.edge.reload(wanted, (place.member(place.apps[0]),))
        place.config = wanted
        await place.edge.look()
        with connected(place) as client:
            assert b" 200 " in await asyncio.to_thread(client.recv, 1000)


async def test_what_is_let_go_is_refused(place: stand.Stand) -> None:
    place.edge.let_go()
    await place.edge.look()
    await killed(place)
    with pytest.raises(ConnectionRefusedError):
        connected(place)


async def test_nobody_waits_for_one_that_stays_dead(
    place: stand.Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LONGEST", 0.0)
    await killed(place)
    await place.edge.look()
    with pytest.raises(ConnectionRefusedError):
        connected(place)


def test_what_is_said_of_sockets_is_taken_apart() -> None:
    one, two = b"\0\0" + bytes(4), b"\3net\4eth0" + bytes(4)
    assert keeper.split(one + two + one) == [one, two, one]
    assert keeper.split(b"") == []
    for cut in range(1, len(two)):
        assert keeper.split(one + two[:cut]) == [one]


async def test_another_program_takes_over_without_a_gap(place: stand.Stand) -> None:
    """With requests under way, clients that stay, and clients that come."""
    other = place.root / "other"
    shutil.copytree(binary.find().parent, other)
    with (other / "haproxy").open("ab") as program:
        program.write(b"\0")
    wanted = replace(place.config, binary=str(other / "haproxy"))
    wanted = replace(wanted, program=place.edge.program(wanted.binary))
    assert wanted.program != place.edge.program(None)
    members = (place.member(place.apps[0]),)
    before = await place.edge.pids()
    async with aiohttp.ClientSession(place.url) as client:
        channel = await client.ws_connect("/ws")
        slow = asyncio.create_task(client.get("/held"))
        failed, stop = [0], asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                async with client.get("/") as answer:
                    failed[0] += answer.status != 200

        clients = [asyncio.create_task(load()) for _ in range(4)]

        async def moves(more: int) -> None:
            served = place.apps[0].served

            async def on() -> bool:
                return place.apps[0].served > served + more

            await stand.until(on, "requests are served")

        await moves(20)
        await place.edge.reload(wanted, members)
        await moves(20)
        stop.set()
        await asyncio.gather(*clients)
        assert failed == [0]
        await channel.send_str("there?")
        assert await channel.receive_str() == "a there?"
        place.apps[0].release.set()
        assert (await slow).status == 200
        await channel.close()
    after = await place.edge.pids()
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert Path(f"/proc/{after[0]}/exe").resolve() == other / "haproxy"


async def test_a_wheel_that_is_gone_is_missed_by_nobody(
    place: stand.Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied at its start does for the next reload, and for the next start."""
    monkeypatch.setattr(binary, "_candidates", lambda _: [])
    member = place.member(place.apps[0])
    known = place.edge.program(None)
    await place.edge.reload(replace(place.config, maxconn=400), (member,))
    await killed(place)
    await place.start((member,))
    assert place.edge.program(None) == known
    with connected(place) as client:
        assert b" 200 " in await asyncio.to_thread(client.recv, 1000)
