"""What a real edge tells pages of other origins, and that nobody gets in by asking otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import cors, limits, private

APP, OTHER = "https://app.example.com", "http://localhost:3000"
CORS = cors.Cors(
    origins=(*(f"https://{n}.example" for n in range(200)), APP, OTHER),
    methods=("GET", "PUT"),
    headers=("Content-Type", "X-Own"),
    expose=("X-Total",),
    credentials=True,
    max_age=600,
)
STRANGERS = (
    "https://evil.example",
    "https://app.example.com.evil.example",
    "https://evil.example?https://app.example.com",
    "http://app.example.com",
    "https://app.example.com:444",
    "HTTPS://APP.EXAMPLE.COM",
    "null",
    f"{APP}, {APP}",
    f"{APP} {OTHER}",
    "",
)


@dataclass
class Asked:
    place: stand.Stand
    app: stand.App
    client: aiohttp.ClientSession

    async def ask(
        self, method: str = "GET", path: str = "/x", **headers: str
    ) -> tuple[int, Mapping[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(
            method, self.place.url + path, headers=named, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status, answer.headers

    async def preflight(self, origin: str, path: str = "/x") -> tuple[int, Mapping[str, str]]:
        asked = {"Access-Control-Request-Method": "PUT"}
        return await self.ask("OPTIONS", path, Origin=origin, **asked)


@contextlib.asynccontextmanager
async def asking(wanted: cors.Cors = CORS, **other: Any) -> AsyncIterator[Asked]:
    async with (
        stand.standing(cors=wanted, **other) as place,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        app = await place.app("one")
        await place.enter(app)
        yield Asked(place, app, client)


def told(headers: Mapping[str, str]) -> dict[str, str]:
    return {n.lower(): v for n, v in headers.items() if n.lower().startswith("access-control-")}


async def let_in(asked: Asked) -> list[str]:
    """Strangers that are told that they may."""
    found = []
    for origin in STRANGERS:
        for _, headers in (await asked.ask(Origin=origin), await asked.preflight(origin)):
            if told(headers):
                found.append(origin)
    return found


async def test_listed_origins_and_no_others() -> None:
    async with asking() as asked:
        for origin in (APP, OTHER, CORS.origins[0]):
            status, headers = await asked.ask(Origin=origin)
            assert status == 200
            assert told(headers) == {
                "access-control-allow-origin": origin,
                "access-control-allow-credentials": "true",
                "access-control-expose-headers": "X-Total",
            }
            assert headers["Vary"] == "Origin"
        assert await let_in(asked) == []
        # A cache would give that answer to who does ask from elsewhere.
        status, headers = await asked.ask()
        assert (status, told(headers), headers["Vary"]) == (200, {}, "Origin")


async def test_planted_any_origin_is_told_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cors.for_frontend

    def lax(wanted: cors.Cors) -> list[str]:
        lines = plain(wanted)
        return [*lines, "acl cors-origin var(txn.origin) -m found"]

    monkeypatch.setattr(cors, "for_frontend", lax)
    async with asking() as asked:
        assert "https://evil.example" in await let_in(asked)


async def test_questions_beforehand_are_answered_here() -> None:
    async with asking() as asked:
        status, headers = await asked.preflight(APP)
        assert status == 204
        assert told(headers) == {
            "access-control-allow-origin": APP,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET, PUT",
            "access-control-allow-headers": "Content-Type, X-Own",
            "access-control-max-age": "600",
        }
        assert headers["Vary"] == "Origin"
        assert "Content-Length" not in headers
        status, headers = await asked.preflight(STRANGERS[0])
        assert (status, told(headers), headers["Vary"]) == (403, {}, "Origin")
        assert asked.app.served == 0
        # Any other OPTIONS is the application's.
        for more in ({}, {"Origin": APP}, {"Access-Control-Request-Method": "PUT"}):
            assert (await asked.ask("OPTIONS", **more))[0] == 200
        assert asked.app.served == 3


async def test_what_the_application_says_of_it_is_replaced() -> None:
    async with asking() as asked:
        asked.app.said = (
            {
                "Access-Control-Allow-Origin": "https://evil.example",
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Expose-Headers": "X-Secret",
                "Vary": "accept-encoding, origin",
                "X-Total": "7",
            },
            "page",
        )
        assert told((await asked.ask(Origin="https://evil.example"))[1]) == {}
        _, headers = await asked.ask(Origin=APP)
        assert told(headers)["access-control-allow-origin"] == APP
        assert told(headers)["access-control-expose-headers"] == "X-Total"
        assert headers.getall("Vary") == ["accept-encoding, origin"]  # type: ignore[attr-defined]
        assert headers["X-Total"] == "7"


async def test_refusals_can_be_read_and_logins_do_not_stand_in_the_way() -> None:
    table = private.Private(
        (private.Place("/admin", private.Guard(logins=(private.Login("ops", "OPS"),))),)
    )
    wanted = limits.Limits((limits.Rate(2, 60.0),))
    async with asking(private=table, limits=wanted) as asked:
        for _ in range(5):  # not counted
            assert (await asked.preflight(APP, "/admin"))[0] == 204
        found = [await asked.ask(path="/admin", Origin=APP) for _ in range(3)]
        assert [status for status, _ in found] == [401, 401, 429]
        assert all(told(headers)["access-control-allow-origin"] == APP for _, headers in found)


async def test_one_path_alone() -> None:
    async with asking(replace(CORS, path="/x")) as asked:
        for path in ("/x", "/x/y", "/%78/", "//x"):
            assert told((await asked.ask(path=path, Origin=APP))[1]), path
        asked.app.said = ({"Access-Control-Allow-Origin": "https://own.example"}, "page")
        for path in ("/", "/xy", "/y/x"):
            _, headers = await asked.ask(path=path, Origin=APP)
            assert told(headers) == {"access-control-allow-origin": "https://own.example"}, path
            assert "Vary" not in headers
        assert (await asked.preflight(APP, "/y"))[0] == 200


async def test_any_origin() -> None:
    async with asking(cors.Cors(origins=(), methods=("GET",))) as asked:
        status, headers = await asked.preflight("https://evil.example")
        assert status == 204
        assert told(headers) == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET",
            "access-control-max-age": "600",
        }
        assert "Vary" not in headers
        assert told((await asked.ask(Origin="null"))[1]) == {"access-control-allow-origin": "*"}
