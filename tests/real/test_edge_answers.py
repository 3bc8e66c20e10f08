"""What the edge says by itself, asked of a real one: whose request it is, redirects, headers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge.answers import Answers
from gapless.edge.forwarded import Proxies
from gapless.edge.redirects import Redirect
from gapless.model.stack import Stack

HOPS = ("10.1.0.1", "10.1.0.2", "10.1.0.3")
OTHERS = tuple(f"10.2.{number}.0/24" for number in range(100))
PROXIES = Proxies((*OTHERS, "127.0.0.1", "10.1.0.0/16"))

TOLD = (
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
)


@dataclass
class Asked:
    """A stand with one app, asked by one client that follows nothing and decodes nothing."""

    place: stand.Stand
    app: stand.App
    client: aiohttp.ClientSession

    async def get(self, path: str = "/", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.place.url}{path}"
        async with self.client.get(url, headers=named, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()

    async def seen(self, **headers: str) -> dict[str, str]:
        """The request's headers as the app got them."""
        await self.get(**headers)
        seen: dict[str, str] = self.app.headers
        return seen


@contextlib.asynccontextmanager
async def asking(**other: Any) -> AsyncIterator[Asked]:
    async with (
        stand.standing(**other) as stood,
        aiohttp.ClientSession(auto_decompress=False) as one,
    ):
        app = await stood.app("one")
        await stood.enter(app)
        yield Asked(stood, app, one)


def table(**edge: Any) -> Answers:
    """What a file's edge table asks for."""
    service = {"web": {"run": "app ${socket}"}}
    made = Stack.model_validate({"gapless": 1, "name": "x", "service": service, "edge": edge}).edge
    return Answers(made.response_headers, made.removed_headers, made.compress)


async def test_nobody_is_believed() -> None:
    async with asking() as asked:
        seen = await asked.seen(
            X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="https", X_Request_ID="mine"
        )
        assert seen["X-Forwarded-For"] == "127.0.0.1"
        assert seen["X-Forwarded-Proto"] == "http"
        assert seen["X-Request-ID"] != "mine"


@pytest.mark.parametrize("proxies", [Proxies(), PROXIES])
async def test_each_header_is_told_once_to_whomever(proxies: Proxies) -> None:
    """A request leaves the list of rules early, or passes all of it."""
    async with asking(proxies=proxies) as asked:
        for method, claims in (("GET", {}), ("POST", {}), ("GET", {"X-Real-IP": "192.0.2.1"})):
            async with asked.client.request(method, asked.place.url, headers=claims) as answer:
                assert answer.status == 200
            told = {name: asked.app.names.count(name) for name in TOLD}
            assert set(told.values()) == {1}, (method, told)
            assert asked.app.headers["X-Real-IP"] == "127.0.0.1"


async def test_the_first_that_is_not_trusted_is_the_client() -> None:
    async with asking(proxies=PROXIES) as asked:
        cases = {
            "192.0.2.1": "192.0.2.1",
            "192.0.2.9, 192.0.2.1": "192.0.2.1",
            f"192.0.2.9, 192.0.2.1, {', '.join(HOPS)}": "192.0.2.1",
            "192.0.2.9, nonsense, 10.1.0.1": "10.1.0.1",
            "192.0.2.9, nonsense": "127.0.0.1",
            "10.1.0.1": "10.1.0.1",
            "2001:db8::1": "2001:db8::1",
        }
        for claim, client in cases.items():
            seen = await asked.seen(X_Forwarded_For=claim)
            assert (seen["X-Forwarded-For"], seen["X-Real-IP"]) == (client, client), claim
        # The same connection: the next request is judged by itself.
        assert (await asked.seen())["X-Forwarded-For"] == "127.0.0.1"
        seen = await asked.seen(
            X_Forwarded_For="192.0.2.1",
            X_Forwarded_Proto="https",
            X_Forwarded_Host="shop.example",
            X_Request_ID="req-1.2",
        )
        assert seen["X-Forwarded-Proto"] == "https"
        assert seen["X-Forwarded-Host"] == "shop.example"
        assert seen["X-Request-ID"] == "req-1.2"
        assert (await asked.seen(X_Request_ID='a"b'))["X-Request-ID"] != 'a"b'


async def test_a_retired_worker_passes_the_proxys_word_on() -> None:
    """A connection from before a reload: what the proxy says of its client still holds."""
    async with asking(proxies=PROXIES) as asked:
        await asked.seen()
        members = (asked.place.member(asked.app),)
        changed = Answers(headers=(("X-Later", "yes"),))
        await asked.place.edge.reload(replace(asked.place.config, answers=changed), members)
        seen = await asked.seen(X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="https")
        assert seen["X-Forwarded-For"] == "192.0.2.1"
        assert seen["X-Forwarded-Proto"] == "https"


async def test_the_proxy_protocol_of_trusted_peers_alone() -> None:
    async with asking(proxies=Proxies(("127.0.0.1",), announce=True)) as asked:
        host, _, port = asked.place.config.listen.rpartition(":")

        async def answer(first: bytes, source: str) -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
            try:
                writer.write(first + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return await asyncio.wait_for(reader.read(), stand.PATIENCE)
            except ConnectionError:
                return b""
            finally:
                writer.close()

        announced = b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 80\r\n"
        assert b" 200 " in await answer(announced, "127.0.0.1")
        assert asked.app.headers["X-Forwarded-For"] == "192.0.2.7"
        # Others may not announce anything, and need not.
        assert b" 200 " not in await answer(announced, "127.0.0.2")
        assert b" 200 " in await answer(b"", "127.0.0.2")
        assert asked.app.headers["X-Forwarded-For"] == "127.0.0.2"


async def test_headers_are_added_where_the_app_is_silent() -> None:
    policy = "img-src 'self' 50%"
    wanted = table(headers={"Content-Security-Policy": policy, "X-Frame-Options": False})
    async with asking(answers=wanted) as asked:
        asked.app.said = ({"Server": "x/1", "X-Powered-By": "y", "X-Frame-Options": "DENY"}, "")
        _, headers, _ = await asked.get()
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
        assert headers["Content-Security-Policy"] == policy
        assert not {"Server", "X-Powered-By", "X-Frame-Options"} & set(headers)
        asked.app.said = ({"Referrer-Policy": "no-referrer"}, "")
        _, headers, _ = await asked.get()
        assert headers.getall("Referrer-Policy") == ["no-referrer"]  # type: ignore[attr-defined]
        await asked.place.leave(asked.app)
        status, headers, _ = await asked.get()
        assert (status, headers["X-Content-Type-Options"]) == (503, "nosniff")


async def test_text_is_compressed_for_those_who_take_it() -> None:
    text = "all work and no play " * 200
    async with asking(answers=table()) as asked:
        asked.app.said = ({"Content-Type": "text/html"}, text)
        _, headers, body = await asked.get(Accept_Encoding="gzip")
        assert headers["Content-Encoding"] == "gzip"
        assert "accept-encoding" in headers["Vary"].lower()
        assert gzip.decompress(body).decode() == text
        _, headers, body = await asked.get(Accept_Encoding="identity")
        assert "Content-Encoding" not in headers
        for kind, more in (
            ("text/event-stream", {}),
            ("image/png", {}),
            ("text/html", {"Content-Encoding": "br"}),
            ("text/html", {"Cache-Control": "no-transform"}),
        ):
            asked.app.said = ({"Content-Type": kind, **more}, text)
            _, headers, body = await asked.get(Accept_Encoding="gzip")
            assert headers.get("Content-Encoding") == more.get("Content-Encoding")
            assert body.decode() == text


async def test_redirects_keep_what_follows() -> None:
    wanted = (
        Redirect("/old", "/new", 308),
        Redirect("/docs/*", "/d/*", 301),
        Redirect("/app/*", "/*", 302),
        Redirect("/shop/*", "https://shop.example/*", 307),
        Redirect("www.example.com", "example.com", 308),
    )
    cases = {
        "/old": (308, "/new"),
        "/old?a=1&b=%20": (308, "/new?a=1&b=%20"),
        "/old/": None,
        "/docs": (301, "/d"),
        "/docs/a/b?c": (301, "/d/a/b?c"),
        "/docsx": None,
        "/app": (302, "/"),
        "/app?x": (302, "/?x"),
        "/app/": (302, "/"),
        "/app/one%2Ftwo": (302, "/one%2Ftwo"),
        "/app//evil.example/": None,
        "/app/\\evil.example/": (400, ""),  # no URL: see ``edge.hostile``
        "/shop//x": (307, "https://shop.example//x"),
        "/other": None,
    }
    async with asking(redirects=wanted) as asked:
        for path, there in cases.items():
            status, location = await raw(asked.place, path)
            assert (status, location) == (there or (200, "")), path
        assert await raw(asked.place, "/a?b", "WWW.Example.com") == (308, "//example.com/a?b")
        assert await raw(asked.place, "@evil.example/", "www.example.com") in (
            (400, ""),
            (308, "//example.com/"),
        )


async def raw(stood: stand.Stand, path: str, host_name: str = "x") -> tuple[int, str]:
    """Status and Location of a request line that no client would normalise."""
    host, _, port = stood.config.listen.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host_name}\r\nConnection: close\r\n\r\n".encode())
    answer = (await asyncio.wait_for(reader.read(), stand.PATIENCE)).decode()
    writer.close()
    found = [line[10:] for line in answer.split("\r\n") if line.lower().startswith("location:")]
    return int(answer.split()[1]), found[0] if found else ""
