"""Pages that not everybody may see, at a real edge: spelt in every way, guessed, logged."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import accesslog, awaiting, config, limits, private, render, spelling
from gapless.edge.forwarded import Proxies

PASSWORDS = {"OPS": "correct horse €", "EVE": "battery staple!"}
OPS, EVE = private.Login("ops", "OPS"), private.Login("eve", "EVE")
TABLE = private.Private(
    (
        private.Place("/admin", private.Guard(logins=(OPS,))),
        private.Place("/admin/health", None),
        private.Place("/metrics", private.Guard(("127.0.0.9",))),
        private.Place("/both", private.Guard(("127.0.0.9",), (OPS, EVE))),
    )
)
ADMIN = (
    "/admin",
    "/admin/",
    "/admin/x?y=z",
    "/ADMIN",
    "//admin",
    "/./admin",
    "/.//./admin/x",
    "/%61dmin",
    "/admin%2fx",
    "/admin;v=1",
    "/admin;v=1/x",
    "/;a/admin",
    "/admin?/admin/health",
    "/admin/healthy",
    "/admin/;/x",
)
"""Ways to one page."""


def basic(user: str = "ops", password: str = PASSWORDS["OPS"]) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Asked:
    """A stand with an app for each backend."""

    place: stand.Stand
    apps: dict[str, stand.App]

    async def status(self, path: str, *headers: str, source: str = "127.0.0.1") -> int:
        return (await self.ask(path, *headers, source=source))[0]

    async def ask(
        self, path: str, *headers: str, source: str = "127.0.0.1", port: int | None = None
    ) -> tuple[int, dict[str, str]]:
        """(status, headers); the path goes out as it is written."""
        at = port or int(self.place.config.listen.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", at, local_addr=(source, 0))
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.read(-1)
        writer.close()
        first, *rest = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        pairs = [line.partition(": ") for line in rest]
        return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}

    async def login(self, path: str, *, source: str = "127.0.0.1", **who: str) -> int:
        return await self.status(path, f"Authorization: {basic(**who)}", source=source)


@contextlib.asynccontextmanager
async def asking(
    table: private.Private = TABLE,
    guard: private.Guard | None = None,
    *,
    wait: float = 20,
    **other: Any,
) -> AsyncIterator[Asked]:
    """``guard``, ``wait``: of the service ``api``."""
    async with stand.standing(started=False, private=table, **other) as place:
        web, api = place.config.backends
        wanted = replace(
            place.config, backends=(web, replace(api, guard=guard, wait=awaiting.Await(wait)))
        )
        place.config = config.knowing(wanted, PASSWORDS)
        await place.start()
        apps = {}
        for name in ("web", "api"):
            apps[name] = await place.app(name)
            await place.edge.enter(place.member(apps[name], name))
        yield Asked(place, apps)


async def open_ways(asked: Asked, ways: tuple[str, ...] = ADMIN) -> list[str]:
    """Spellings by which a stranger gets in."""
    return [way for way in ways if await asked.status(way) not in (400, 401, 403)]


async def test_every_spelling_of_a_private_page_asks_for_a_login() -> None:
    async with asking() as asked:
        assert await open_ways(asked) == []
        assert asked.apps["web"].served == 0
        for way in ADMIN:
            assert await asked.login(way) == 200, way
        for malformed in ("/admin/%zz", "/admin%", "/%zz/../admin"):
            assert await asked.status(malformed) == 400, malformed
        for other in ("/", "/administration", "/x/admin", "/admin/health", "/admin/health/x"):
            assert await asked.status(other) == 200, other


async def test_planted_a_place_is_compared_as_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "lines", lambda: ["http-request set-var(txn.read) path"])
    async with asking() as asked:
        assert "/%61dmin" in await open_ways(asked)


async def test_what_is_told_and_what_the_application_hears() -> None:
    async with asking() as asked:
        app = asked.apps["web"]
        status, said = await asked.ask("/admin")
        assert (status, said["cache-control"]) == (401, "no-store")
        assert said["www-authenticate"] == 'Basic realm="demo", charset="UTF-8"'
        assert await asked.login("/admin") == 200
        # Browsers send it beyond the place that asked for it.
        for path in ("/admin", "/", "/admin/health"):
            assert await asked.login(path) == 200
            assert "Authorization" not in app.headers, path
        # What is none of the edge's is the application's.
        await asked.status("/", "Authorization: Bearer abc")
        assert app.headers["Authorization"] == "Bearer abc"
        assert await asked.login("/", user="somebody", password="else") == 200
        assert app.headers["Authorization"] == basic("somebody", "else")
        assert await asked.status("/admin", "Authorization: Bearer abc") == 401


async def test_only_the_right_password_of_the_right_user() -> None:
    async with asking() as asked:
        wrong = [
            {"password": "correct horse"},
            {"password": ""},
            {"user": "eve"},
            {"user": "eve", "password": PASSWORDS["EVE"]},
            {"user": "OPS"},
            {"user": ""},
        ]
        for who in wrong:
            assert await asked.login("/admin", **who) == 401, who
        for header in ("Basic", "Basic ", "Basic =", "Basic b3Bz", f"Digest {basic()[6:]}"):
            assert await asked.status("/admin", f"Authorization: {header}") == 401, header
        for spelt in (basic().replace("Basic", "bASIC"), basic().replace(" ", "   ")):
            assert await asked.status("/admin", f"Authorization: {spelt}") == 200, spelt


async def test_addresses_and_both() -> None:
    async with asking() as asked:
        assert await asked.status("/metrics") == 403
        assert await asked.status("/metrics", source="127.0.0.9") == 200
        assert await asked.login("/metrics") == 403
        assert await asked.status("/both") == 403
        assert await asked.login("/both") == 403
        assert await asked.status("/both", source="127.0.0.9") == 401
        for secret, user in (("OPS", "ops"), ("EVE", "eve")):
            who = {"user": user, "password": PASSWORDS[secret]}
            assert await asked.login("/both", source="127.0.0.9", **who) == 200


async def test_the_address_is_the_clients_behind_a_proxy() -> None:
    async with asking(proxies=Proxies(("127.0.0.1",))) as asked:
        assert await asked.status("/metrics", "X-Forwarded-For: 127.0.0.9") == 200
        assert await asked.status("/metrics", "X-Forwarded-For: 127.0.0.9, 192.0.2.1") == 403
        assert await asked.status("/metrics", "X-Forwarded-For: 127.0.0.9", source="127.0.0.2") == (
            403
        )


async def guess(asked: Asked, times: int, **who: str) -> Counter[int]:
    return Counter([await asked.login("/admin", **who) for _ in range(times)])


async def test_who_guesses_is_stopped_and_learns_nothing_after_that() -> None:
    async with asking() as asked:
        assert await guess(asked, 13, password="wrong") == {401: 10, 429: 3}
        status, said = await asked.ask("/admin", f"Authorization: {basic()}")
        assert (status, said["retry-after"]) == (429, "60")
        # Nor does an application tell it by answering otherwise to one that is taken away.
        assert await asked.login("/") == 200
        assert asked.apps["web"].headers["Authorization"] == basic()
        # Another one does not notice, nor does who wants nothing private.
        assert await asked.login("/admin", source="127.0.0.2") == 200
        assert await asked.status("/") == 200


async def test_guesses_at_open_pages_count_as_well() -> None:
    async with asking() as asked:
        for _ in range(10):
            assert await asked.login("/", password="wrong") == 200
        assert await asked.login("/admin") == 429


async def test_planted_guesses_that_nobody_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = private._who

    def careless(*given: Any) -> list[str]:
        return [line for line in plain(*given) if "sc-inc-gpc0" not in line]

    monkeypatch.setattr(private, "_who", careless)
    async with asking() as asked:
        assert (await guess(asked, 13, password="wrong"))[429] == 0


async def test_a_service_is_guarded_by_whichever_route() -> None:
    guard = private.Guard(logins=(EVE,))
    rules = tuple(
        config.Rule(path, host, "api")
        for path, host in (("/api", None), ("/also/here", None), ("/", "api.example"))
    )
    rules += (config.Rule("/", None, "web"),)
    async with asking(private.Private(), guard, rules=rules) as asked:
        eve = f"Authorization: {basic('eve', PASSWORDS['EVE'])}"
        for path in ("/api", "/api/x", "/also/here"):
            assert await asked.status(path) == 401, path
            assert await asked.status(path, f"Authorization: {basic()}") == 401, path
            assert await asked.status(path, eve) == 200, path
            assert "Authorization" not in asked.apps["api"].headers
        assert await asked.status("/") == 200
        # Others of the stack are not asked.
        api = asked.place.config.backends[1].private_bind
        assert api is not None
        assert (await asked.ask("/x", port=int(api.rpartition(":")[2])))[0] == 200


async def test_the_floor_of_a_guarded_service_is_guarded() -> None:
    async with asking(private.Private(), private.Guard(("192.0.2.1",))) as asked:
        api = asked.apps["api"]
        await asked.place.edge.leave("api", asked.place.member(api, "api").name)
        assert await asked.status("/api") == 403


def forgetful(lines: Callable[..., list[str]], floor: bool) -> Callable[..., list[str]]:
    """``render._servers`` where one of a service's two backends has lost its guard."""

    def without(*given: Any, **more: Any) -> list[str]:
        found = lines(*given, **more)
        if more.get("floor", False) is not floor:
            return found
        return [line for line in found if "status 403" not in line]

    return without


@pytest.mark.parametrize("floor", [False, True], ids=["itself", "its floor"])
async def test_planted_a_way_that_forgets_the_guard(
    floor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_servers", forgetful(render._servers, floor))
    guard = private.Guard(("192.0.2.1",))
    # Who waits for a replica asks the service itself first, and is refused there.
    async with asking(private.Private(), guard, wait=0) as asked:
        if floor:
            api = asked.apps["api"]
            await asked.place.edge.leave("api", asked.place.member(api, "api").name)
        assert await asked.status("/api") != 403


async def test_a_password_that_nobody_has_set_lets_nobody_in() -> None:
    async with asking() as asked:
        unknown = config.knowing(asked.place.config, {"EVE": PASSWORDS["EVE"]})
        members = (asked.place.member(asked.apps["web"]),)
        await asked.place.edge.reload(unknown, members)
        assert await asked.login("/admin") == 401
        assert await asked.login("/admin", password="") == 401
        eve = {"user": "eve", "password": PASSWORDS["EVE"]}
        assert await asked.login("/both", source="127.0.0.9", **eve) == 200


async def test_passwords_are_heard_only_over_tls() -> None:
    table = replace(TABLE, claimed=True)
    proxies = Proxies(("127.0.0.1",))
    async with asking(table, proxies=proxies) as asked:
        ops, https = f"Authorization: {basic()}", "X-Forwarded-Proto: https"
        assert await asked.status("/admin", ops) == 403
        assert await asked.status("/admin", ops, "X-Forwarded-Proto: http") == 403
        assert await asked.status("/admin", ops, https) == 200
        assert await asked.status("/admin", https) == 401
        assert await asked.status("/admin", ops, https, source="127.0.0.2") == 403
        assert await asked.status("/", ops) == 200


async def test_what_is_private_is_in_no_cache_that_others_ask() -> None:
    async with asking() as asked:
        app = asked.apps["web"]
        ops = f"Authorization: {basic()}"
        for said, kept in {
            "": "private, no-cache",
            "public, max-age=60": "private, no-cache",
            "max-age=60, private": "private, no-cache",
            "no-store": "no-store",
        }.items():
            app.said = ({"Cache-Control": said} if said else {}, "page")
            assert (await asked.ask("/admin", ops))[1]["cache-control"] == kept
        app.said = ({"Cache-Control": "public"}, "page")
        assert (await asked.ask("/"))[1]["cache-control"] == "public"


async def test_neither_log_nor_files_hold_a_password() -> None:
    async with asking(access_log=True) as asked:
        assert await asked.login("/admin") == 200
        assert await asked.login("/admin", password="mistyped secret") == 401
        log = asked.place.root / "edge.log"

        async def logged() -> bool:
            return log.read_text().count(accesslog.BEGINNING) == 2

        await stand.until(logged, "both are logged")
        home = asked.place.root / "home"
        files = [*home.glob("*.cfg"), *home.glob("*.json"), log]
        assert len(files) >= 3
        texts = [path.read_text() for path in files]
    for secret in (PASSWORDS["OPS"], "mistyped secret"):
        for form in (secret, basic(password=secret)[6:]):
            assert not any(form in text for text in texts)


async def test_websockets_are_asked_too() -> None:
    table = private.Private((private.Place("/ws", private.Guard(logins=(OPS,))),))
    async with asking(table) as asked, aiohttp.ClientSession() as client:
        url = f"{asked.place.url}/ws"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.ws_connect(url)
        async with client.ws_connect(url, headers={"Authorization": basic()}) as channel:
            await channel.send_str("hello")
            assert await channel.receive_str() == "web hello"


async def test_wrong_guesses_outlive_a_reload() -> None:
    async with asking() as asked:
        await guess(asked, 11, password="wrong")

        async def grown() -> bool:
            return "resync_timeout=<PAST>" in await asked.place.edge._answer(["show peers"])

        await stand.until(grown, "the worker has counts of its own")
        members = (asked.place.member(asked.apps["web"]),)
        await asked.place.edge.reload(replace(asked.place.config, maxconn=400), members)

        async def remembered() -> bool:
            return "127.0.0.1 " in await asked.place.edge._answer([f"show table {limits.LOGINS}"])

        await stand.until(remembered, "the new worker has heard of it")
        assert await asked.login("/admin") == 429
