"""What ``gapless render`` makes is served through, and compared with the live edge."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.edge import stand
from tests.targets import programs
from tests.targets.echo import Echo

from gapless.drills import ports
from gapless.edge import config
from gapless.model.stack import Stack
from gapless.targets import ask, balance, haproxy, nginx, nginx_refusals

PAGE = "<h1>%[env(HOME)] $soon 'é'</h1>"
ORIGIN = "https://app.example.com"
QUESTION = {"Access-Control-Request-Method": "PUT"}
READY = {"path": "/ready", "every": "400ms", "after": 2}
TABLE: dict[str, Any] = {
    "gapless": 1,
    "name": "demo",
    "service": {
        "web": {"run": "a ${socket}", "sticky": "cookie", "ready": READY},
        "api": {"run": "a ${socket}", "route": "/api", "ready": READY, "wait": "0s"},
        "adm": {
            "run": "a ${socket}",
            "route": {"host": "*.example.com", "path": "/x"},
            "ready": READY,
            "private": ["127.0.0.0/8"],
        },
        "ops": {
            "run": "a ${socket}",
            "route": "/ops",
            "ready": READY,
            "private": ["127.0.0.9"],
        },
    },
    "edge": {
        "trusted": ["127.0.0.1", "10.1.0.0/16"],
        "redirects": {
            "/old": "/new",
            "/docs/*": {"to": "/d/*", "status": 301},
            "/up/*": {"to": "/*", "status": 302},
            "/shop/*": "https://shop.example/*",
            "www.example.org": "example.org",
        },
        "cors": {
            "origins": [ORIGIN, "http://localhost:3000"],
            "path": "/api",
            "methods": ["GET", "PUT"],
            "expose": ["X-Total"],
            "credentials": True,
        },
        "private": {
            "/mine": ["127.0.0.0/8"],
            "/mine/theirs": ["127.0.0.9", *(f"10.7.{n}.0/24" for n in range(200))],
            "/mine/theirs/open": False,
            "/api/a.b": ["127.0.0.9"],
        },
        "headers": {
            "Content-Security-Policy": "img-src 'self' \"$x\" 50%\\",
            "X-Frame-Options": False,
        },
    },
}
KINDS = ("edge", "nginx", "haproxy", "nginx in front", "haproxy in front")
SEEN = (
    "Content-Type",
    "Content-Encoding",
    "Location",
    "Cache-Control",
    "Retry-After",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Content-Security-Policy",
    "X-Powered-By",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
)
TOLD = (
    "host",
    "x-forwarded-for",
    "x-real-ip",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "forwarded",
    "proxy",
)


@dataclass
class Side:
    """One way to the same servers."""

    kind: str
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Place:
    """The live edge, two balancers instead of it and two in front, and the servers."""

    edge: stand.Stand
    apps: dict[str, Echo]
    sides: dict[str, Side]


@contextlib.asynccontextmanager
async def standing(
    table: Mapping[str, Any] = TABLE, page: str | None = PAGE
) -> AsyncIterator[Place]:
    """Everything of a stack: two replicas of its first service, one of each other."""
    stack = Stack.model_validate(table)
    wanted = config.of_stack(stack, {}, run_dir="/x", maxconn=500, threads=2, maintenance_page=page)
    own = {"stack", "listen", "run_dir", "maxconn", "threads"}
    values = {f.name: getattr(wanted, f.name) for f in fields(wanted) if f.name not in own}
    async with stand.standing(**values) as edge:
        apps: dict[str, Echo] = {}
        first, *_ = stack.services
        names = [
            f"{first}1",
            f"{first}2",
            *(f"{name}1" for name in stack.services if name != first),
        ]
        for name in names:
            apps[name] = await Echo(name, str(edge.root / f"{name}.sock")).start()
            edge.apps.append(apps[name])
            await edge.edge.enter(edge.member(apps[name], name[:-1]))
        with contextlib.ExitStack() as running:
            sides = {"edge": Side("edge", int(edge.config.listen.rpartition(":")[2]), edge.root)}
            for kind in KINDS[1:]:
                sides[kind] = running.enter_context(_side(kind, stack, page, edge, apps))
            yield Place(edge, apps, sides)


@contextlib.contextmanager
def _side(
    kind: str, stack: Stack, page: str | None, edge: stand.Stand, apps: Mapping[str, Echo]
) -> Any:
    folder = Path(tempfile.mkdtemp(prefix="gl-target-"))
    port = ports.reserve()
    behind = [f"edge={edge.config.listen}"]
    if "front" not in kind:
        behind = [
            f"{name}=" + ",".join(f"unix:{a.path}" for a in apps.values() if a.name[:-1] == name)
            for name in stack.services
        ]
    wanted = balance.of_stack(
        stack,
        ask.Ask(
            at=str(folder),
            upstreams=ask.upstreams(behind),
            listen=f"127.0.0.1:{port}",
            page=page,
        ),
    )
    target = kind.split()[0]
    programs.write(folder, (nginx if target == "nginx" else haproxy).files(wanted))
    try:
        with programs.running(target, folder, port):
            yield Side(kind, port, folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=20)
    ) as made:
        yield made


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]


async def ask_(
    client: aiohttp.ClientSession, side: Side, method: str, path: str, **more: Any
) -> Answer:
    headers = {"Host": "other.org", **more.pop("headers", {})}
    async with client.request(
        method, side.url + path, headers=headers, allow_redirects=False, **more
    ) as answer:
        seen = {name: answer.headers[name] for name in SEEN if name in answer.headers}
        if "origin" in ",".join(answer.headers.getall("Vary", [])).lower():
            seen["Vary"] = "Origin"
        text = await answer.text()
        if len(text) < 100:  # from how many bytes on it is worth it, they see differently
            seen.pop("Content-Encoding", None)
        if 300 <= answer.status < 400 and not text.startswith("web "):
            text = ""  # nobody reads what a redirect says
            seen.update({"Content-Type": "", "Cache-Control": ""})
        return Answer(answer.status, text, seen)


CASES: list[tuple[str, str, str, bytes]] = [
    ("GET", "other.org", "/", b""),
    ("GET", "other.org", "/x/y?z=1&z=%2f%20;q", b""),
    ("GET", "other.org", "/api", b""),
    ("GET", "other.org", "/api/", b""),
    ("GET", "other.org", "/api/deep?a", b""),
    ("GET", "other.org", "/apix", b""),
    ("GET", "a.example.com", "/x", b""),
    ("GET", "A.example.com:81", "/x/y", b""),
    ("GET", "a.b.example.com", "/x", b""),
    ("GET", "example.com", "/x", b""),
    ("GET", "a.example.com", "/api/x", b""),
    ("GET", "a.example.com", "/xy", b""),
    ("HEAD", "other.org", "/", b""),
    ("OPTIONS", "other.org", "/api", b""),
    ("POST", "other.org", "/", b"x" * 300_000),
    ("PUT", "other.org", "/api", b"y"),
    ("DELETE", "other.org", "/api/1x", b""),
    ("GET", "other.org", "/redirect", b""),
    ("GET", "other.org", "/old", b""),
    ("GET", "other.org", "/old?a=%20&b", b""),
    ("GET", "other.org", "/old/", b""),
    ("POST", "other.org", "/docs", b"x"),
    ("GET", "other.org", "/docs/a/b%2fc?d=$e", b""),
    ("GET", "other.org", "/docsx", b""),
    ("GET", "other.org", "/up", b""),
    ("GET", "other.org", "/up/?x", b""),
    ("GET", "other.org", "/up/x", b""),
    ("GET", "other.org", "/up//evil.example/", b""),
    ("GET", "other.org", "/shop//x?y", b""),
    ("GET", "www.example.org", "/x?y", b""),
    ("GET", "other.org", "/ops", b""),
    ("POST", "other.org", "/ops/x", b"x"),
    ("GET", "other.org", "/mine", b""),
    ("GET", "other.org", "/minee", b""),
    ("GET", "other.org", "/mine/theirs/x", b""),
    ("GET", "other.org", "/MINE/theirs", b""),
    ("GET", "other.org", "/mine//theirs/", b""),
    ("GET", "other.org", "/mine/%74heirs;x/y", b""),
    ("GET", "other.org", "/;x/mine/.;y/theirs", b""),
    ("GET", "other.org", "/mine/theirs/open/x", b""),
    ("GET", "other.org", "/mine/theirs/opener", b""),
    ("GET", "other.org", "/api/a.b", b""),
    ("GET", "other.org", "/api/aXb", b""),
    ("GET", "other.org", "/careful", b""),
    ("GET", "other.org", "/shared", b""),
    ("GET", "other.org", "/api/shared", b""),
    ("GET", "other.org", "/long", b""),
    ("GET", "other.org", "/events-of-old", b""),
    ("GET", "other.org", "/absolute", b""),
    ("GET", "other.org", "/404", b""),
    ("GET", "other.org", "/418", b""),
    ("GET", "other.org", "/api/500", b""),
    ("GET", "other.org", "/api/502", b""),
    ("GET", "other.org", "/api/503", b""),
]


async def test_each_answers_as_the_edge_does(client: aiohttp.ClientSession) -> None:
    async with standing() as place:
        await _routes(client, place)
        await _origins(client, place)
        await _cut(client, place)
        await _headers(client, place)
        await _streams(client, place)
        await _sockets(client, place)
        await _sticky(client, place)
        await _maintenance(client, place)
        await _without(client, place)


async def _routes(client: aiohttp.ClientSession, place: Place) -> None:
    edge = place.sides["edge"]
    for method, host, path, body in CASES:
        more = {"headers": {"Host": host}, "data": body or None}
        expected = await ask_(client, edge, method, path, **dict(more))
        for side in place.sides.values():
            got = await ask_(client, side, method, path, **dict(more))
            assert got == expected, (side.kind, method, host, path)
            if expected.status >= 500:  # a run of bad answers would take the only replica out
                await ask_(client, side, "GET", path.removesuffix(path.rpartition("/")[2]))


async def _origins(client: aiohttp.ClientSession, place: Place) -> None:
    """What pages of other origins are told."""
    told = 0
    for origin in (ORIGIN, "http://localhost:3000", "https://evil.example", "1:" + ORIGIN, "null"):
        for path in (
            "/api",
            "/api/x/y",
            "/api;v",
            "/api;v/x",
            "/api/shared",
            "/shared",
            "/apix",
            "/",
            "/API",
            "/api/a.b",
        ):
            for method, more in (("GET", {}), ("OPTIONS", {}), ("OPTIONS", QUESTION)):
                headers = {"Origin": origin, **more}
                expected = await ask_(client, place.sides["edge"], method, path, headers=headers)
                told += any(name.startswith("Access-Control-") for name in expected.headers)
                for side in place.sides.values():
                    got = await ask_(client, side, method, path, headers=headers)
                    assert got == expected, (side.kind, method, path, headers)
    assert told == 2 * 6 * 3 + 5 * 3 * 1, told


async def _cut(client: aiohttp.ClientSession, place: Place) -> None:
    """A POST that a replica took is done once, and nobody is asked to send it again."""
    app = place.apps["api1"]
    for side in place.sides.values():
        before = app.served
        with contextlib.suppress(aiohttp.ServerDisconnectedError):
            got = await ask_(client, side, "POST", "/api/cut", data=b"x")
            assert got.status == 502, side.kind
            assert "Retry-After" not in got.headers, side.kind
        assert app.served == before + 1, side.kind
        await ask_(client, side, "GET", "/api/")


async def _headers(client: aiohttp.ClientSession, place: Place) -> None:
    """What a service is told of the request."""
    claims = dict.fromkeys([*TOLD[1:], "X-Request-ID"], "evil") | {"Upgrade": "h2c", "X-Own": "1"}
    stranger = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=stranger) as strange:
        told = {
            kind: await _told(strange, place, side, claims) for kind, side in place.sides.items()
        }
    for kind, heard in told.items():
        assert heard == told["edge"], kind
        assert "evil" not in place.apps["api1"].headers.values(), kind
        assert heard["x-forwarded-for"] == "127.0.0.2"
    # Behind a proxy that is trusted its word stands, as far as it can be one.
    chain = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
        "X-Request-ID": "r-1",
    }
    for claim in ("192.0.2.9, 192.0.2.1, 10.1.0.9", "192.0.2.9, nonsense, 10.1.0.1", "x", "::1"):
        for words in (chain, dict.fromkeys(chain, 'e"')):
            claims = {**words, "X-Forwarded-For": claim}
            edge = await _told(client, place, place.sides["edge"], claims)
            for kind in ("nginx", "haproxy"):
                assert await _told(client, place, place.sides[kind], claims) == edge, (kind, claims)


async def _told(
    client: aiohttp.ClientSession, place: Place, side: Side, claims: Mapping[str, str]
) -> dict[str, str]:
    await ask_(client, side, "GET", "/api", headers=dict(claims))
    heard = place.apps["api1"].headers
    assert heard.get("x-own") == claims.get("X-Own")
    assert heard["x-request-id"] == "r-1" or len(heard["x-request-id"]) in (32, 36), side.kind
    if "front" not in side.kind:
        assert heard["x-forwarded-port"] == str(side.port)
    return {name: heard[name] for name in TOLD if name in heard}


async def _streams(client: aiohttp.ClientSession, place: Place) -> None:
    app = place.apps["api1"]
    for side in place.sides.values():
        app.opened.clear()
        async with client.get(f"{side.url}/api/events") as answer:
            assert await answer.content.readline() == b"data: 1\n", side.kind
            app.opened.set()
            assert (await answer.read()).endswith(b"data: 2\n\n")


async def _sockets(client: aiohttp.ClientSession, place: Place) -> None:
    for side in place.sides.values():
        async with client.ws_connect(f"{side.url}/ws") as channel:
            await channel.send_str("hello")
            assert (await channel.receive_str())[-5:] == "hello", side.kind


async def _sticky(client: aiohttp.ClientSession, place: Place) -> None:
    for side in place.sides.values():
        jar = aiohttp.CookieJar(unsafe=True)
        chosen = set()
        for _ in range(12):
            async with aiohttp.ClientSession(cookie_jar=jar) as browser:
                served = set()
                for _ in range(6):
                    async with browser.get(f"{side.url}/") as answer:
                        served.add(answer.headers["X-Served-By"])
                        for cookie in answer.cookies.values():
                            assert cookie["httponly"], side.kind
                            assert cookie["samesite"] == "Lax", side.kind
                assert len(served) == 1, side.kind
                chosen |= served
            jar.clear()
        assert chosen == {"web1", "web2"}, side.kind
        for forged in ("demo-web=forged", "demo_web=forged"):
            brought = {"Cookie": forged}
            assert (await ask_(client, side, "GET", "/", headers=brought)).status == 200


async def _maintenance(client: aiohttp.ClientSession, place: Place) -> None:
    await place.edge.edge.maintenance(True)
    (place.sides["nginx"].folder / nginx_refusals.SWITCH).touch()
    await _switch_haproxy(place.sides["haproxy"], "add")
    for method in ("GET", "POST"):
        expected = await ask_(client, place.sides["edge"], method, "/api/x", data=b"x")
        assert expected.text == PAGE
        for side in place.sides.values():
            assert await ask_(client, side, method, "/api/x", data=b"x") == expected, side.kind
    await place.edge.edge.maintenance(False)
    (place.sides["nginx"].folder / nginx_refusals.SWITCH).unlink()
    await _switch_haproxy(place.sides["haproxy"], "del")
    for side in place.sides.values():
        assert (await ask_(client, side, "GET", "/api/x")).status == 200, side.kind


async def _switch_haproxy(side: Side, verb: str) -> None:
    """By its socket, as the head of the file says."""
    reader, writer = await asyncio.open_unix_connection(side.folder / config.STATS_SOCKET)
    writer.write(f"{verb} acl {side.folder}/{config.MAINTENANCE_LIST} on\n".encode())
    await writer.drain()
    assert (await reader.read()).strip() == b""
    writer.close()
    await writer.wait_closed()


async def _without(client: aiohttp.ClientSession, place: Place) -> None:
    """With no replica left: told to come again, at once, whatever was sent."""
    await place.apps["api1"].stop()
    for side in place.sides.values():
        for method in ("GET", "POST"):

            async def refused(side: Side = side, method: str = method) -> bool:
                answer = await ask_(client, side, method, "/api", data=b"x")
                return answer.status == 503 and answer.headers.get("Retry-After") == "2"

            await stand.until(refused, f"{side.kind} says so")
            answer = await ask_(client, side, method, "/api", data=b"x")
            expected = await ask_(client, place.sides["edge"], method, "/api", data=b"x")
            assert answer == expected, side.kind
        assert (await ask_(client, side, "GET", "/")).status == 200
