"""Bodies that are too large, too slow, or never whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import bodies

MOST = 40_000


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    backends = (stand.backend("web", body=MOST), stand.backend("api", body=None))
    async with stand.standing(backends=backends) as made:
        for name, backend in (("a", "web"), ("b", "api")):
            app = await made.app(name)
            await made.edge.enter(made.member(app, backend))
        yield made


async def post(place: stand.Stand, path: str, data: object) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{place.url}{path}", data=data) as answer,
    ):
        return answer.status


async def test_what_says_that_it_is_too_large_is_not_begun(place: stand.Stand) -> None:
    assert await post(place, "/", b"x" * MOST) == 200
    served = place.apps[0].served
    assert await post(place, "/", b"x" * (MOST + 1)) == 413
    assert place.apps[0].served == served
    assert await post(place, "/api", b"x" * (MOST + 1)) == 200


@pytest.mark.parametrize(
    ("head", "body"),
    [(b"Content-Length: 1000", b"x" * 999), (b"Transfer-Encoding: chunked", b"")],
)
async def test_a_body_that_does_not_come_keeps_no_application_busy(
    place: stand.Stand, head: bytes, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.3)
    members = tuple(
        place.member(app, backend) for app, backend in zip(place.apps, ("web", "api"), strict=True)
    )
    changed = replace(place.config, maxconn=400)
    await place.edge.reload(changed, members)
    host, _, port = place.config.listen.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.read(-1), 8)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert place.apps[0].served == 0
    writer.close()


async def test_a_whole_body_of_any_form_arrives(place: stand.Stand) -> None:
    for size in (0, 1, bodies.WHOLE, bodies.WHOLE + 1, 39_000):
        assert await post(place, "/", b"x" * size) == 200


async def test_what_does_not_say_its_length_is_counted(place: stand.Stand) -> None:
    """It is ended there: the application never sees its end."""

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1_000

    assert await post(place, "/", pieces(MOST // 1_000)) == 200
    assert place.apps[0].served == 1
    for count in (MOST // 1_000 + 1, 3 * MOST // 1_000):
        # Who goes on sending may find the connection closed before it reads.
        with contextlib.suppress(aiohttp.ClientError):
            assert await post(place, "/", pieces(count)) == 413
        assert place.apps[0].served == 1
    assert await post(place, "/api", pieces(3 * MOST // 1_000)) == 200
    assert await post(place, "/", b"x" * MOST) == 200
