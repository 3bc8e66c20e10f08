"""Light clients on real servers, and frames of any size in any pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import WSCloseCode, web
from hypothesis import given
from hypothesis import strategies as st

from gapless.drills import caller, frames, sockets
from tests.drills.test_sockets import Room, listening


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 8, 9, 10]), st.binary(max_size=70_000)), max_size=6),
    st.booleans(),
    st.integers(1, 5000),
)
def test_frames_come_out_as_they_went_in(
    messages: list[tuple[int, bytes]], mask: bool, piece: int
) -> None:
    data = b"".join(frames.encode(opcode, body, mask=mask) for opcode, body in messages)
    reader = frames.Reader()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    assert [one for part in pieces for one in reader.feed(part)] == messages


def test_a_message_in_parts_is_one() -> None:
    reader = frames.Reader()
    parts = b"\x01\x02ab" + b"\x89\x00" + b"\x80\x01c"
    assert list(reader.feed(parts)) == [(frames.PING, b""), (frames.TEXT, b"abc")]


@pytest.mark.parametrize("data", [b"\x80\x01c", b"\x82\x7f" + b"\xff" * 8])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|frame"):
        list(frames.Reader().feed(data))


async def call(
    url: str, kind: caller.Kind, path: str, hear: Callable[[bytes], None] = lambda _: None
) -> caller.Caller:
    host, _, port = url.removeprefix("http://").partition(":")
    one = caller.Caller(kind, path, host, hear)
    await asyncio.get_running_loop().create_connection(lambda: one, host, int(port))
    return one


async def within(awaited: Awaitable[bool | None]) -> bool | None:
    async with asyncio.timeout(20):
        return await awaited


async def test_it_tells_a_word_from_none() -> None:
    room = Room()
    async with listening(room.app()) as url:
        first, second = [await call(url, "websocket", "/socket") for _ in range(2)]
        await within(first.arrived)
        await within(second.arrived)
        await room.inside[0].close(code=WSCloseCode.SERVICE_RESTART)
        room.transports[1].abort()
        # Who of them came in first is chance.
        assert {await within(first.ended), await within(second.ended)} == {True, False}


async def test_it_is_refused_where_there_is_no_websocket() -> None:
    async with listening(web.Application()) as url:
        one = await call(url, "websocket", "/socket")
        with pytest.raises(ConnectionError, match="404"):
            await within(one.arrived)


async def test_it_speaks_socketio() -> None:
    io = sockets.library().AsyncServer(async_mode="aiohttp", ping_interval=0.2, ping_timeout=0.5)
    app = web.Application()
    io.attach(app, "/socket")
    here: list[str] = []
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    io.on("connect", lambda sid, _: here.append(sid))
    async with listening(app) as url:
        stays = await call(url, "socketio", "/socket", heard.put_nowait)
        await within(stays.arrived)
        goes = await call(url, "socketio", "/socket")
        await within(goes.arrived)
        for _ in range(4):  # twice as long as silence is borne
            await io.emit("news", {}, to=here[0])
            assert b"news" in await heard.get()
            await asyncio.sleep(0.3)
        await io.emit("reconnect", {}, to=here[1])
        assert await within(goes.ended) is True
        assert not stays.ended.done()
        stays.close()
        assert await within(stays.ended) is False
