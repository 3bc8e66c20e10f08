"""What is more than a request and an answer passes the edge as it is: streams, sockets, HTTP/2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import aiohttp
import h2.config
import h2.connection
import h2.events
import pytest
from aiohttp import web
from tests.edge import stand

from gapless.edge import awaiting, base, config, wire
from gapless.edge.answers import Answers
from gapless.model.process import Address

COMPRESSED = Answers(compress=True)


@dataclass
class Peer:
    """One end of an HTTP/2 connection without TLS. ``seen``: events, in the order they came."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h2.connection.H2Connection
    seen: list[h2.events.Event] = field(default_factory=list)

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()

    async def until(self, kind: type[h2.events.Event], count: int = 1) -> h2.events.Event:
        """The ``count``-th event of a kind, once it is there."""
        while True:
            found = [event for event in self.seen if isinstance(event, kind)]
            if len(found) >= count:
                return found[count - 1]
            data = await asyncio.wait_for(self.reader.read(65536), stand.PATIENCE)
            assert data, self.seen
            self.seen += self.http.receive_data(data)
            await self.flush()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Like a gRPC service: answers each message as it comes, and ends with trailers."""
    peer = Peer(reader, writer, h2.connection.H2Connection(h2.config.H2Configuration(False)))
    peer.http.initiate_connection()
    await peer.flush()
    with suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(65536):
            for event in peer.http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    head = [(":status", "200"), ("content-type", "application/grpc")]
                    peer.http.send_headers(event.stream_id, head)
                elif isinstance(event, h2.events.DataReceived) and event.data:
                    peer.http.send_data(event.stream_id, b"echo " + event.data)
                elif isinstance(event, h2.events.StreamEnded):
                    ends = [("grpc-status", "0")]
                    peer.http.send_headers(event.stream_id, ends, end_stream=True)
            await peer.flush()
    writer.close()


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[Peer]:
    """A client that knows without asking that the other end speaks HTTP/2."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = Peer(reader, writer, h2.connection.H2Connection())
    peer.http.initiate_connection()
    await peer.flush()
    try:
        yield peer
    finally:
        writer.close()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_both_ways_at_once_with_trailers(waits: bool) -> None:
    """Also one that comes while nobody is there to answer, and waits."""
    plain = stand.backend("web", sticky=False, check=None, h2=True)
    async with stand.standing(backends=(plain,), rules=(), started=False) as stood:
        stood.config = replace(stood.config, rules=(config.Rule("/", None, "web"),))
        await stood.start()
        path = str(stood.root / "grpc.sock")
        server = await asyncio.start_unix_server(echo, path)
        await stood.edge.enter(base.Member("web.1", "web", Address(socket=path)))

        async def waiting() -> bool:
            rows = wire.totals(await stood.edge._answer([wire.TOTALS]))
            return any(r.name == f"{awaiting.SECTION}web" and r.sessions for r in rows)

        async with calling(stood.url) as peer:
            if waits:
                server.close()
                await server.wait_closed()
            call = asyncio.create_task(converse(peer))
            if waits:
                await stand.until(waiting, "the call waits")
                server = await asyncio.start_unix_server(echo, path)
            async with server:
                await call


async def converse(peer: Peer) -> None:
    asked = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", "/chat.Chat/Say"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    stream = peer.http.get_next_available_stream_id()
    peer.http.send_headers(stream, asked)
    for number in (1, 2, 3):
        # The next one is sent once the last one has come back: nothing is held up.
        peer.http.send_data(stream, b"message %d" % number)
        await peer.flush()
        event = await peer.until(h2.events.DataReceived, number)
        assert isinstance(event, h2.events.DataReceived)
        assert event.data == b"echo message %d" % number
    peer.http.end_stream(stream)
    await peer.flush()
    event = await peer.until(h2.events.TrailersReceived)
    assert isinstance(event, h2.events.TrailersReceived)
    assert (b"grpc-status", b"0") in [tuple(pair) for pair in event.headers or ()]


async def test_events_come_one_by_one() -> None:
    """Not in company, and not compressed into it."""
    more = asyncio.Event()

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(3):
            await answer.write(f"data: {number}\n\n".encode())
            await more.wait()
            more.clear()
        return answer

    app = web.Application()
    app.router.add_get("/events", events)
    app.router.add_get("/ready", ready)
    async with stand.standing(answers=COMPRESSED) as stood:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        path = str(stood.root / "events.sock")
        await web.UnixSite(runner, path).start()
        await stood.edge.enter(base.Member("web.1", "web", Address(socket=path)))
        headers = {"Accept-Encoding": "gzip"}
        timeout = aiohttp.ClientTimeout(total=stand.PATIENCE)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as client,
            client.get(f"{stood.url}/events") as answer,
        ):
            assert "Content-Encoding" not in answer.headers
            for number in range(3):
                assert await answer.content.readline() == f"data: {number}\n".encode()
                await answer.content.readline()
                more.set()
            assert await answer.content.read() == b""
        await stand.clean_up(runner)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_websocket_speaks_both_ways(size: int) -> None:
    async with stand.standing(answers=COMPRESSED) as stood:
        await stood.enter(await stood.app("one"))
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{stood.url}/ws", max_msg_size=0) as channel,
        ):
            for text in ("a" * size, "b"):
                await channel.send_str(text)
                assert await channel.receive_str() == f"one {text}"
