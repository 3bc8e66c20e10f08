"""The load generator counts what went wrong, once, and hides nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest
from aiohttp import web

from gapless import errors
from gapless.drills import figures, generator, load, ports
from gapless.drills import spec as specs
from gapless.runtimes.machine import proc
from gapless.runtimes.process import priority
from tests.drills import servers
from tests.drills.servers import OK, always, serving
from tests.edge import stand


async def run(url: str, *, requests: int = 20, **stream: Any) -> figures.Measured:
    """A closed-loop run of one stream in this process."""
    fields = {"name": "s", "path": "/", "clients": 1, **stream}
    spec = specs.Spec(
        url=url, streams=(specs.Stream(**fields),), requests=requests, seconds=20, timeout=1
    )
    return await load.Run(spec).go()


async def test_good_answers_are_no_failures() -> None:
    async with serving(always(OK)) as url:
        count = (await run(url)).total()
    assert (count.requests, count.failed, count.unknown, len(count.samples)) == (20, 0, 0, 20)


async def test_a_cut_reused_connection_is_counted_and_shown_apart() -> None:
    """GET is idempotent: a client that quietly sends it again would report 20 good answers."""
    async with serving(servers.cut_second) as url:
        measured = await run(url)
    count = measured.total()
    assert (count.requests, count.failed, count.reused_failed) == (20, 10, 10)
    assert measured.failures[0]["reused"]
    assert measured.failures[0]["before_byte"]
    assert measured.failures[0]["kind"] == "cut"


async def test_a_cut_fresh_connection_is_not_shown_as_reused() -> None:
    async with serving(always(b"", then_close=True)) as url:
        count = (await run(url)).total()
    assert (count.failed, count.reused_failed) == (20, 0)


@pytest.mark.parametrize(
    ("data", "close", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", True, "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", True, "cut"),
        (b"HTTP/1.1 200 O", True, "cut"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False, "5xx"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", False, "4xx"),
        (b"this is not HTTP\r\n\r\n", False, "malformed"),
    ],
)
async def test_incomplete_and_unexpected_answers_fail(data: bytes, close: bool, kind: str) -> None:
    async with serving(always(data, then_close=close)) as url:
        measured = await run(url, requests=3)
    assert measured.total().failed == 3
    assert measured.total().kinds == {kind: 3}
    assert len(measured.failures) == 3
    assert not any(one["before_byte"] for one in measured.failures if kind != "malformed")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 302 There\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
async def test_complete_answers_of_every_framing_are_good(data: bytes) -> None:
    async with serving(always(data)) as url:
        count = (await run(url, requests=5)).total()
    assert (count.requests, count.failed) == (5, 0)


async def test_an_answer_that_ends_with_the_connection_is_complete() -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\n\r\nall of it", then_close=True)) as url:
        count = (await run(url, requests=5)).total()
    assert (count.requests, count.failed) == (5, 0)


async def test_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        measured = await run(f"http://127.0.0.1:{closed.getsockname()[1]}", requests=3)
    assert measured.total().kinds == {"refused": 3}


async def test_no_answer_in_time() -> None:
    async with serving(servers.never) as url:
        measured = await run(url, requests=1)
    assert measured.total().kinds == {"timeout": 1}


async def test_a_connection_for_each_request() -> None:
    seen: list[int] = []

    async def answer(n: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(n)
        writer.write(OK)
        await writer.drain()

    async with serving(answer) as url:
        await run(url, keep_alive=False, requests=6)
    assert seen == [0] * 6


async def test_open_loop_does_not_hide_a_stall() -> None:
    """One stall of 0.4 s at 100 requests/s makes some forty requests late, not just one."""

    def stalling() -> servers.Answer:
        async def answer(n: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if n == 20:
                await asyncio.sleep(0.4)
            writer.write(OK)
            await writer.drain()

        return answer

    async with serving(stalling()) as url:
        opened = await run(url, rate=100, requests=60)
    async with serving(stalling()) as url:
        closed = await run(url, requests=60)
    late = [value for value in opened.fast("start") if value > 150]
    hidden = [value for value in closed.fast("start") if value > 350]
    assert len(late) >= 15
    assert len(hidden) == 1


async def test_cancelled_work_is_unknown() -> None:
    crowd = asyncio.Barrier(4)

    async def answer(n: int, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        await crowd.wait()
        await servers.never(n, r, w)

    async with serving(answer) as url:
        spec = specs.Spec(url=url, streams=(specs.Stream(name="s", path="/", clients=3),))
        running = load.Run(spec)
        task = asyncio.create_task(running.go())
        await crowd.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    count = running.measured.total()
    assert (count.requests, count.failed, count.unknown) == (3, 0, 3)


async def test_stop_lets_what_is_in_flight_finish() -> None:
    release = asyncio.Event()
    crowd = asyncio.Barrier(4)

    async def answer(_: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await crowd.wait()
        await release.wait()
        writer.write(OK)
        await writer.drain()

    async with serving(answer) as url:
        spec = specs.Spec(url=url, streams=(specs.Stream(name="s", path="/", clients=3),))
        running = load.Run(spec)
        task = asyncio.create_task(running.go())
        await crowd.wait()
        running.stop()
        release.set()
        measured = await task
    count = measured.total()
    assert (count.requests, count.failed, count.unknown) == (3, 0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://192.0.2.1:80",
        "https://192.0.2.1:8443",
        "http://127.0.0.1@192.0.2.1/",
        "http://me@127.0.0.1:80/",
        "ftp://127.0.0.1",
        "http://0.0.0.0:80",
        "",
    ],
)
def test_strangers_are_refused(url: str) -> None:
    with pytest.raises(errors.UsageError, match="own edge"):
        specs.own_address(url)


def test_our_own_addresses_are_not() -> None:
    assert specs.own_address("http://127.0.0.1:8080/x") == ("127.0.0.1", 8080)
    assert specs.own_address("https://127.0.0.1/x") == ("127.0.0.1", 443)
    assert specs.own_address("http://localhost") == ("localhost", 80)
    assert specs.own_address("http://[::1]:81") == ("::1", 81)


def test_the_process_refuses_strangers_too() -> None:
    spec = specs.Spec.model_construct(url="http://192.0.2.1", streams=(), sockets=(), seconds=1)
    with pytest.raises(errors.UsageError):
        generator.Load(spec)


def children() -> set[int]:
    return {one.pid for one in proc.scan() if one.parent == os.getpid()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may put a process ahead of others")
async def test_it_is_put_ahead_of_what_it_measures() -> None:
    stream = specs.Stream(name="s", path="/", clients=1)
    async with serving(always(OK)) as url:
        before = children()
        with generator.Load(specs.Spec(url=url, streams=(stream,), seconds=20)):
            (child,) = children() - before
            assert os.getpriority(os.PRIO_PROCESS, child) == priority.AHEAD


def test_parts_add_up() -> None:
    stream = specs.Stream(name="s", path="/", clients=5, rate=100)
    one = specs.Stream(name="one", path="/", clients=1)
    parts = generator.split(specs.Spec(url="http://127.0.0.1", streams=(stream, one)), 2)
    of_s = [s for part in parts for s in part.streams if s.name == "s"]
    assert sum(s.clients for s in of_s) == 5
    assert sum(s.rate or 0 for s in of_s) == pytest.approx(100)
    assert sum(s.name == "one" for part in parts for s in part.streams) == 1


def test_long_lived_clients_are_a_part_of_their_own() -> None:
    crowd = specs.Sockets(kind="websocket", path="/ws", clients=3)
    stream = specs.Stream(name="s", path="/", clients=4)
    spec = specs.Spec(url="http://127.0.0.1", streams=(stream,), sockets=(crowd,), requests=10)
    *senders, holder = generator.split(spec, 2)
    assert [sum(s.clients for s in part.streams) for part in senders] == [2, 2]
    assert not any(part.sockets for part in senders)
    assert (holder.sockets, holder.streams, holder.requests) == ((crowd,), (), None)
    alone = spec.model_copy(update={"streams": ()})
    assert generator.split(alone, 2) == [alone]


async def test_long_lived_clients_leave_once_all_requests_are_sent() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    async def hold(request: web.Request) -> web.WebSocketResponse:
        held = web.WebSocketResponse()
        await held.prepare(request)
        async for _ in held:
            pass
        return held

    app = web.Application()
    app.add_routes([web.get("/", answer), web.get("/ws", hold)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports.reserve()
    await web.TCPSite(runner, ports.LOOPBACK, port).start()
    spec = specs.Spec(
        url=f"http://{ports.LOOPBACK}:{port}",
        streams=(specs.Stream(name="s", path="/", clients=2),),
        sockets=(specs.Sockets(kind="websocket", path="/ws", clients=3),),
        requests=50,
        seconds=300,
    )
    measured = await asyncio.to_thread(generator.measure, spec)
    await stand.clean_up(runner)
    assert (measured.total().requests, measured.total().failed) == (50, 0)
    assert (measured.sockets.clients, measured.sockets.dropped) == (3, 0)
