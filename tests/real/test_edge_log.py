"""The access log of a real edge: what stands in a line, and that nobody can forge one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.edge import stand

from gapless.drills import spec
from gapless.edge import accesslog, base
from gapless.engine import traffic


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing(access_log=True) as made:
        app = await made.app("a")
        await made.edge.enter(base.Member("web.1@r12", "web", app.address, "token"))
        yield made


async def lines(place: stand.Stand, count: int) -> list[dict[str, Any]]:
    """The log once it has so many lines; all that begin like one are one."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        text = (place.root / "edge.log").read_bytes().decode()
        raw = [line for line in text.split("\n")[:-1] if line.startswith(accesslog.BEGINNING)]
        found[:] = [json.loads(line) for line in raw]
        return len(found) >= count

    await stand.until(there, f"{count} lines of the log")
    assert len(found) == count
    return found


async def raw(place: stand.Stand, request: bytes) -> bytes:
    """Send these very bytes; what comes back until the edge hangs up."""
    host, port = spec.own_address(place.url)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


async def test_a_line_has_all_that_was_promised(place: stand.Stand) -> None:
    async with aiohttp.ClientSession(headers={"User-Agent": "tests"}) as client:
        url = f"{place.url}/some/page?token=secret"
        async with client.post(url, data=b"12345") as answer:
            assert answer.status == 200
    (one,) = await lines(place, 1)
    seen = place.apps[0].headers["X-Request-ID"]
    assert one == {
        **one,
        "client": "127.0.0.1",
        "method": "POST",
        "host": place.config.listen,
        "path": "/some/page",
        "status": 200,
        "service": "web",
        "replica": "web.1@r12",
        "release": "r12",
        "id": seen,
        "agent": "tests",
        "protocol": "HTTP/1.1",
        "tls": "-",
        "ended": "--",
        "retries": "0",
    }
    assert one["in"] > 0
    assert one["out"] > 0
    assert {"request_ms", "queue_ms", "connect_ms", "response_ms"} <= set(one)
    assert 0 <= one["total_ms"] < 20_000
    assert abs(traffic.moment(one["time"]) - time.time()) < 60
    assert "secret" not in (place.root / "edge.log").read_text()


HOSTILE = [
    b'/a"b\\c',
    b"/<script>{}[],:%22%0a%00",
    b"/\xc3\xa9",
    b"/" + b'"' * 900,
    b"/" + b"\\" * 900,
]
AGENTS = [
    b'x","status":200,"x":"',
    b"\xff\xfe\x80 broken \xc3",
    b"tab\there",
    b"\xc3\xa9" * 400,
    b'"' * 6000,
    b"\\u0000\\",
]


async def test_nobody_can_forge_a_line(place: stand.Stand) -> None:
    count = 0
    for path in HOSTILE:
        for agent in AGENTS:
            await raw(
                place,
                b"GET "
                + path
                + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: "
                + agent
                + b"\r\nConnection: close\r\n\r\n",
            )
            count += 1
    found = await lines(place, count)
    wanted = set(found[0])
    for one in found:
        assert set(one) == wanted
        assert one["status"] in (200, 400, 404)
        assert len(json.dumps(one)) < accesslog.LONGEST
    assert any(one["path"] == '/a"b\\c' for one in found)
    assert any(one["agent"].startswith('x","status"') for one in found)


async def test_nobody_forges_one_by_its_host(place: stand.Stand) -> None:
    """It is captured as it comes: one that would have to be escaped is not logged at all."""
    odd = (
        b"a$b",
        b'x","status":200,"y":"',
        b"back\\slash",
        b"\xc3\xa9",
        b'"' * 400,
        b'a\r\nHost: b"',
    )
    hosts = (*odd, b"a.example", b"a.example:1")
    for host in hosts:
        for method in (b"GET", b"POST"):
            await raw(
                place,
                method
                + b" /h HTTP/1.1\r\nHost: "
                + host
                + b"\r\nContent-Length: 0\r\nUser-Agent: me\r\nConnection: close\r\n\r\n",
            )
    found = await lines(place, 2 * len(hosts))
    assert all(set(one) == set(found[0]) for one in found)
    passed = [one["host"] for one in found if one["status"] == 200]
    assert passed == ["a.example"] * 2 + ["a.example:1"] * 2
    refused = [one for one in found if one["status"] == 400]
    assert {one["host"] for one in refused} == {"-"}
    assert len(passed) + len(refused) == len(found)


async def test_planted_an_odd_host_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule that takes it out of the log it is there. (HAProxy's parser itself refuses
    quotes in a host, so it cannot be shown with one.)"""
    monkeypatch.setattr(accesslog, "closely", lambda _: [])
    async with stand.standing(access_log=True) as place:
        await place.enter(await place.app("a"))
        await raw(place, b"GET / HTTP/1.1\r\nHost: a$b\r\nConnection: close\r\n\r\n")
        [line] = await lines(place, 1)
        assert (line["status"], line["host"]) == (400, "a$b")


async def test_what_the_edge_answers_itself_is_there_too(place: stand.Stand) -> None:
    await place.edge.maintenance(True)
    await raw(place, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await raw(place, b"nonsense\r\n\r\n")
    page, bad = await lines(place, 2)
    assert (page["status"], page["service"], page["replica"]) == (503, "_public", "-")
    assert page["id"]
    assert bad["status"] == 400


async def test_a_stack_without_it_writes_none() -> None:
    async with stand.standing() as place:
        await place.enter(await place.app("a"))
        await raw(place, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert accesslog.BEGINNING not in (place.root / "edge.log").read_text()
