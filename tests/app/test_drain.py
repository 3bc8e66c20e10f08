"""Goodbyes: the pace as numbers, and real servers whose clients are asked to come back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from gapless.app.drain import Pace, moments, paced
from gapless.app.notice import Notice
from gapless.drills import ports
from tests.app import servers
from tests.examples import stores

ROOT = Path(__file__).parents[2]


@given(
    st.integers(0, 3000),
    st.floats(1.0, 1000.0),
    st.floats(0.0, 60.0),
    st.none() | st.floats(0.0, 300.0),
    st.randoms(use_true_random=False),
)
def test_never_more_than_the_rate_in_any_second(
    count: int, rate: float, window: float, announced: float | None, chance: random.Random
) -> None:
    due = moments(count, Pace(rate, window), announced, chance.random)
    assert len(due) == count
    assert due == sorted(due)
    first = 0
    for n, moment in enumerate(due):
        while due[first] <= moment - 1:
            first += 1
        assert n - first + 1 <= rate + 1
    if due and count <= rate / 2:
        assert due[-1] <= max(window if announced is None else min(window, 0.8 * announced), 1.0)


def test_goodbyes_are_jittered_and_spread() -> None:
    due = moments(100, Pace(200, 5), None, random.Random(1).random)
    assert due[-1] > 4.5
    gaps = {round(after - before, 4) for before, after in itertools.pairwise(due)}
    assert len(gaps) > 50


@pytest.mark.parametrize(("rate", "window"), [(0, 5), (-1, 5), (1, -1)])
def test_a_pace_that_is_none_is_refused(rate: float, window: float) -> None:
    with pytest.raises(ValueError, match="rate must be"):
        Pace(rate, window)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ('{"drain": 20, "rate": 66.667}', 66.667),
        ('{"drain": 20}', 200.0),
        ('{"rate": 0}', 200.0),
        ('{"rate": "x"}', 200.0),
        ('{"rate": 500}', 200.0),
        ("", 200.0),
    ],
)
def test_the_lower_rate_is_kept(text: str, rate: float, tmp_path: Path) -> None:
    """Others leave at the same time, and the clients are of all of them."""
    place = tmp_path / "notice"
    place.write_text(text)
    assert paced(Pace(200.0, 5.0), Notice(place).rate()) == Pace(rate, 5.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"drain": 20}', 20.0),
        ('{"drain": 1.5, "more": 1}', 1.5),
        ("", None),
        ("[]", None),
        ('{"drain": "x"}', None),
        ('{"drain": -1}', None),
        ('{"drain": true}', None),
    ],
)
def test_what_the_notice_says(text: str, seconds: float | None, tmp_path: Path) -> None:
    file = tmp_path / "notice"
    assert not Notice(file).up
    file.write_text(text)
    assert Notice(None, {"GAPLESS_NOTICE": str(file)}).up
    assert Notice(file).drain() == seconds
    assert not Notice(None, {}).up


def test_a_thread_is_told_of_each_change(tmp_path: Path) -> None:
    file = tmp_path / "notice"
    told: list[bool] = []
    stop = Notice(file).watch(told.append)
    file.touch()
    stores.wait_for("told", lambda: told == [True])
    file.unlink()
    stores.wait_for("told again", lambda: told == [True, False])
    stop()


class Leaver:
    """A server in a process of its own."""

    def __init__(self, child: subprocess.Popen[bytes], base: str, notice: Path) -> None:
        self.child, self.base, self.notice = child, base, notice


@contextlib.contextmanager
def leaver(tmp_path: Path, ws: str = "wsproto", **env: str) -> Iterator[Leaver]:
    port, notice = ports.reserve(), tmp_path / "notice"
    here = {"GAPLESS_NOTICE": str(notice), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    words = ["tests.app.leaver:app", "--port", str(port), "--log-level", "warning", "--ws", ws]
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *words],
            env={**os.environ, **here, **env},
            stdout=log,
            stderr=log,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        stores.wait_for("it listens", lambda: child.poll() is not None or listens(base))
        yield Leaver(child, base, notice)
    finally:
        child.kill()
        child.wait()
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told, told


def listens(base: str) -> bool:
    with contextlib.suppress(OSError):
        return servers.ask(base, "/health/live").status == 200
    return False


@contextlib.asynccontextmanager
async def sockets(base: str, count: int) -> AsyncIterator[list[aiohttp.ClientWebSocketResponse]]:
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(session.ws_connect(base + "/echo"))
            for _ in range(count)
        ]


async def ending(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The close code."""
    async with asyncio.timeout(60):
        while not socket.closed:
            await socket.receive()
    return socket.close_code


WS = pytest.mark.parametrize("ws", ["wsproto", "websockets-sansio"])


@WS
async def test_sockets_are_closed_in_their_turn(ws: str, tmp_path: Path) -> None:
    with leaver(tmp_path, ws, RATE="40") as one:
        async with sockets(one.base, 60) as held:
            await held[0].send_str("hello")
            assert (await held[0].receive()).data == "hello"
            one.notice.write_text(json.dumps({"drain": 30}))
            ended = await asyncio.gather(*map(ending, held))
            assert set(ended) == {1012}
            assert servers.ask(one.base, "/health/ready").status == 503
        one.notice.unlink()
        assert servers.ask(one.base, "/health/ready").status == 200
        async with sockets(one.base, 1) as held:
            await held[0].send_str("again")
            assert (await held[0].receive()).data == "again"


async def test_a_notice_that_goes_away_ends_the_goodbyes(tmp_path: Path) -> None:
    with leaver(tmp_path, RATE="10", WINDOW="10") as one:
        async with sockets(one.base, 30) as held:
            one.notice.write_text("{}")
            endings = [asyncio.create_task(ending(socket)) for socket in held]
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            one.notice.unlink()
            # Those under way, and until it looks again; then nobody any more.
            await asyncio.wait(endings, timeout=1.0)
            kept = [task for task in endings if not task.done()]
            assert len(kept) > 5
            done, _ = await asyncio.wait(kept, timeout=2.0)
            assert not done
            for task in endings:
                task.cancel()
            await asyncio.gather(*endings, return_exceptions=True)


async def test_who_comes_while_we_leave_is_asked_to_go_too(tmp_path: Path) -> None:
    with leaver(tmp_path) as one:
        one.notice.touch()
        async with sockets(one.base, 3) as held:
            assert set(await asyncio.gather(*map(ending, held))) == {1012}


@WS
async def test_term_waits_for_the_goodbyes(ws: str, tmp_path: Path) -> None:
    with leaver(tmp_path, ws, WINDOW="2") as one:
        async with sockets(one.base, 20) as held:
            one.child.send_signal(signal.SIGTERM)
            stores.wait_for(
                "not ready", lambda: servers.ask(one.base, "/health/ready").status == 503
            )
            ended = await asyncio.gather(*map(ending, held))
            assert set(ended) == {1012}
        assert await asyncio.to_thread(one.child.wait, 30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("signals", [1, 2])
async def test_term_without_sockets_or_twice_is_passed_on(signals: int, tmp_path: Path) -> None:
    with leaver(tmp_path, WINDOW="60", RATE="1") as one:
        async with sockets(one.base, 2 if signals == 2 else 0) as held:
            one.child.send_signal(signal.SIGTERM)
            if signals == 2:
                stores.wait_for(
                    "not ready", lambda: servers.ask(one.base, "/health/ready").status == 503
                )
                one.child.send_signal(signal.SIGTERM)
                await asyncio.gather(*map(ending, held))
            assert await asyncio.to_thread(one.child.wait, 30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_socketio_clients_are_told_and_come_back(
    transports: list[str], tmp_path: Path
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    session = aiohttp.ClientSession()
    client = socketio.AsyncClient(
        reconnection_delay=0.05, reconnection_delay_max=0.1, http_session=session
    )
    for event in ("connect", "reconnect", "disconnect"):
        client.on(event, lambda *_, event=event: heard.put_nowait(event))
    with leaver(tmp_path) as one:
        await client.connect(one.base, transports=transports)
        one.notice.touch()
        async with asyncio.timeout(30):
            assert [await heard.get() for _ in range(3)] == ["connect", "reconnect", "disconnect"]
            one.notice.unlink()
            while await heard.get() != "connect":
                pass
        await client.disconnect()
    await session.close()


async def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    with leaver(tmp_path, "websockets") as one:
        async with sockets(one.base, 5) as held:
            # Nobody answers this one's close frame.
            reader, writer = await _silent(one.base)
            one.notice.touch()
            assert set(await asyncio.gather(*map(ending, held))) == {1012}
            writer.close()
            await writer.wait_closed()
            del reader


async def _silent(base: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rsplit(":", 1)[1]))
    writer.write(
        b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer
