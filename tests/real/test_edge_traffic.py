"""The edge under real requests: what it drops (nothing), and what a wrong order would drop."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import base, config, judging, rotation, wire
from gapless.errors import EdgeRefused, EnvironmentFault

COOKIE = "demo-web"


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """One that keeps no cookies: each request says which it brings."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=20)
    ) as made:
        yield made


async def ask(
    client: aiohttp.ClientSession, url: str, cookie: str | None = None, method: str = "GET"
) -> tuple[int, str]:
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie is not None else {}
    async with client.request(method, url, headers=headers) as answer:
        return answer.status, await answer.text()


async def held(
    app: stand.App, client: aiohttp.ClientSession, url: str, method: str = "GET"
) -> asyncio.Task[tuple[int, str]]:
    """A request that is in flight on the app, until it lets go."""
    asked = ask(client, f"{url}/held", f"token-{app.name}", method)
    task = asyncio.create_task(asked)

    async def arrived() -> bool:
        return app.held > 0

    await stand.until(arrived, "the request arrives")
    return task


class Load:
    """Clients at full speed until ``stop``, keep-alive and not; ``failed``: what was not 200."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.done = 0
        self.failed: list[str] = []
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(6)]

    async def _client(self, number: int) -> None:
        kind = aiohttp.TCPConnector(force_close=number % 2 == 0)
        async with aiohttp.ClientSession(connector=kind) as session:
            while not self._over.is_set():
                method = "POST" if number % 3 == 0 else "GET"
                try:
                    async with session.request(method, self.url, data=b"x" * 100) as answer:
                        await answer.read()
                        if answer.status != 200:
                            self.failed.append(f"{method} {answer.status}")
                except aiohttp.ClientError as error:
                    self.failed.append(f"{method} {error!r}")
                self.done += 1
                await asyncio.sleep(0)

    async def more(self, count: int = 20) -> None:
        """So many more are through."""
        enough = self.done + count

        async def through() -> bool:
            return self.done >= enough

        await stand.until(through, "requests come and go")

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)


async def replace_all(place: stand.Stand, names: str, old: list[stand.App]) -> list[stand.App]:
    """A rolling deploy in the right order; returns the new ones."""
    new = []
    for name, before in zip(names, old, strict=True):
        app = await place.app(name)
        await place.enter(app)
        await place.leave(before)

        async def idle(before: stand.App = before) -> bool:
            server = await place.server(before)
            return server is not None and server.in_flight == 0

        await stand.until(idle, "the old one has finished")
        await before.stop()
        # Refused while a connection is attached still; the loop asks again, too.
        remove = functools.partial(place.edge.remove, "web", place.member(before).name)
        await stand.until(remove, "it is forgotten")
        new.append(app)
    return new


async def test_rolling_deploys_drop_nothing(place: stand.Stand) -> None:
    apps = [await place.app(name) for name in ("a1", "a2", "a3")]
    for app in apps:
        await place.enter(app)
    load = Load(place.url)
    await load.more()
    for names in (("b1", "b2", "b3"), ("c1", "c2", "c3"), ("d1", "d2", "d3")):
        apps = await replace_all(place, names, apps)  # type: ignore[arg-type]
        await load.more()
    await load.stop()
    assert load.failed == []
    counters = await place.edge.counters()
    assert counters[""].requests == load.done
    assert counters[""].failed == 0
    assert counters["web"].requests == load.done


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_held_request_finishes_when_its_server_leaves_first(
    place: stand.Stand, client: aiohttp.ClientSession, method: str
) -> None:
    old, new = await place.app("old"), await place.app("new")
    await place.enter(old)
    request = await held(old, client, place.url, method)
    await place.enter(new)
    await place.leave(old)
    server = await place.server(old)
    assert server is not None
    assert (server.admin, server.in_flight) == ("maint", 1)
    assert not await place.edge.remove("web", place.member(old).name)
    old.release.set()
    assert await request == (200, "old")


@pytest.mark.parametrize(("method", "outcome"), [("POST", 502), ("GET", 200)])
async def test_the_wrong_order_fails_it(
    place: stand.Stand, client: aiohttp.ClientSession, method: str, outcome: int
) -> None:
    """The planted fault: its connections end before it leaves. Only a GET can be asked again."""
    old, new = await place.app("old"), await place.app("new")
    await place.enter(old)
    await place.enter(new)
    request = await held(old, client, place.url, method)
    old.abort()
    await place.leave(old)
    new.release.set()
    status, text = await request
    assert status == outcome
    assert text != "old"
    assert (await place.edge.counters())[""].failed == (outcome != 200)


async def test_no_cookie_reaches_a_server_that_is_out(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    one, two = await place.app("one"), await place.app("two")
    await place.enter(two)
    pid = (await place.edge.look()).pid
    worker = (await place.edge._known_workers()).current

    async def answered(cookie: str) -> str:
        status, text = await ask(client, place.url, cookie)
        assert status == 200
        return text

    for cookie in ("token-one", "forged", "", "a" * 4000, "%00'\";"):
        assert await answered(cookie) == "two"
    await place.enter(one)
    assert await answered("token-one") == "one"
    assert await answered("token-two") == "two"
    for _ in range(5):
        await place.leave(one)
        assert {await answered(c) for c in ("token-one", "token-two", "forged")} == {"two"}
        await place.enter(one)
        assert await answered("token-one") == "one"
    one.ready = False

    async def down() -> bool:
        server = await place.server(one)
        return server is not None and not server.up

    await stand.until(down, "its checks take it out")
    assert await answered("token-one") == "two"
    await place.leave(one)
    await one.stop()

    async def gone() -> bool:
        return await place.edge.remove("web", place.member(one).name)

    await stand.until(gone, "nothing is attached")
    assert await answered("token-one") == "two"
    again = await place.app("one-again")
    await place.edge.enter(replace(place.member(again), name="web.one", cookie="fresh"))
    assert await answered("token-one") in ("two", "one-again")
    assert await answered("fresh") == "one-again"
    assert (await place.edge.look()).pid == pid
    assert (await place.edge._known_workers()).current == worker


async def test_one_that_is_not_ready_does_not_enter(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    app.ready = False
    with pytest.raises(EdgeRefused, match=r"web\.a at unix:\S+a\.sock did not come up"):
        await place.enter(app)
    server = await place.server(app)
    assert server is not None
    assert server.admin == "maint"
    assert (await ask(client, place.url))[0] == 503


async def test_one_that_is_checked_rarely_is_told_of_before_the_step_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "ENTER_SECONDS", 0.5)
    rarely = tuple(stand.backend(name, check_every=60.0) for name in ("web", "api"))
    async with stand.standing(backends=rarely) as place:
        app = await place.app("a")
        await app.stop()
        with pytest.raises(EdgeRefused, match=r"within 0\.5 s"):
            await place.enter(app)


async def test_a_run_of_bad_answers_takes_it_out_and_it_comes_back(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    good, bad = await place.app("good"), await place.app("bad")
    await place.enter(good)
    await place.enter(bad)
    bad.status = 500
    failed = 0
    for _ in range(60):
        status = (await ask(client, place.url))[0]
        failed += status == 500
        if failed == judging.ERROR_LIMIT:
            break
    bad.ready = False  # it does not come back while it is looked at
    server = await place.server(bad)
    assert server is not None
    assert server.tripped
    assert server.bad <= judging.ERROR_LIMIT
    assert f"{judging.ERROR_LIMIT} bad answers in a row" in server.check
    assert {await ask(client, place.url) for _ in range(60)} == {(200, "good")}
    bad.status, bad.ready = 200, True

    async def back() -> bool:
        server = await place.server(bad)
        return server is not None and server.takes_work

    await stand.until(back, "it comes back")


async def test_probation_ends_after_some_answers_or_a_while(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.edge.enter(place.member(app))
    assert all(seen.limit == judging.PROBATION for seen in await place.edge._servers())
    for _ in range(judging.ERROR_LIMIT + 1):
        await ask(client, place.url)
    await place.edge.look()
    assert not any(seen.limit for seen in await place.edge._servers())
    order = wire.limit("web", place.member(app).name, judging.PROBATION)
    await place.edge._order([order])  # as a controller that died in between leaves it
    assert all(seen.limit == judging.PROBATION for seen in await place.edge._servers())
    await place.client().look()
    assert not any(seen.limit for seen in await place.edge._servers())


async def test_who_waits_for_one_on_probation_is_served_when_it_is_over(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.edge.enter(place.member(app))
    eager = [asyncio.create_task(ask(client, f"{place.url}/held")) for _ in range(8)]

    async def waiting() -> bool:
        return app.held == judging.PROBATION

    async def all_there() -> bool:
        return app.held == len(eager)

    await stand.until(waiting, "only so many get through")
    await place.edge._order([wire.limit("web", place.member(app).name, judging.ANY)])
    await stand.until(all_there, "the others follow", patience=4)  # in five they would be refused
    assert await ask(client, place.url) == (200, "a")
    app.release.set()
    assert set(await asyncio.gather(*eager)) == {(200, "a")}


async def test_without_a_server_clients_are_told_at_once(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    async with client.get(place.url) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0


async def test_maintenance_shows_the_page_and_lets_the_listed_pass(
    client: aiohttp.ClientSession,
) -> None:
    page = "<h1>%[env(HOME)] 'soon' \u00e9</h1>"
    async with stand.standing(maintenance_page=page) as place:
        await place.enter(await place.app("a"))
        await place.edge.maintenance(True)
        async with client.get(place.url) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "30"
            assert answer.content_type == "text/html"
            assert await answer.text() == page
        await place.edge.maintenance(False)
        assert await ask(client, place.url) == (200, "a")
    async with stand.standing(allow=("127.0.0.0/8",)) as place:
        await place.enter(await place.app("a"))
        await place.edge.maintenance(True)
        assert await ask(client, place.url) == (200, "a")


async def test_the_maintenance_switch_fails_no_connection(place: stand.Stand) -> None:
    await place.enter(await place.app("a"))
    load = Load(place.url)
    for on in (True, False) * 5:
        await place.edge.maintenance(on)
        await load.more()
    await load.stop()
    assert {text.split()[1] for text in load.failed} <= {"503"}


async def test_a_reload_keeps_members_cookies_and_long_requests(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    one, two = await place.app("one"), await place.app("two")
    for app in (one, two):
        await place.enter(app)
    request = await held(one, client, place.url)
    load = Load(place.url)
    members = (place.member(one), place.member(two))
    for number in range(5):
        await place.edge.reload(replace(place.config, maxconn=400 + number), members)
        server = await place.server(one)
        assert server is not None
        assert server.takes_work
        assert server.in_flight >= 1
        await load.more()
    assert await ask(client, place.url, "token-two") == (200, "two")
    await place.leave(one)
    assert not await place.edge.remove("web", place.member(one).name)
    await load.stop()
    assert load.failed == []
    one.release.set()
    assert await request == (200, "one")
    await one.stop()

    async def gone() -> bool:
        return await place.edge.remove("web", place.member(one).name)

    await stand.until(gone, "nothing is attached")
    assert (await place.edge.counters())[""].requests >= load.done / 2


async def test_one_that_is_out_cannot_be_reached_through_an_old_worker(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    """A connection that an old worker still holds carries on with the servers of today."""
    one, two = await place.app("one"), await place.app("two")
    await place.enter(one)
    reader, writer = await asyncio.open_connection(*place.config.listen.split(":"))

    async def again() -> bytes:
        head = f"GET / HTTP/1.1\r\nHost: a\r\nCookie: {COOKIE}=token-one\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        return await reader.readexactly(3)

    assert await again() == b"one"
    wanted = replace(place.config, maxconn=400)
    await place.edge.reload(wanted, (place.member(one),))
    await place.enter(two)
    await place.leave(one)
    old = (await place.edge._known_workers()).old
    assert len(old) == 1
    assert await again() == b"two"
    assert two.headers["X-Forwarded-For"] == "127.0.0.1"
    writer.close()


async def test_a_refused_configuration_leaves_the_edge_as_it_was(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    app = await place.app("a")
    await place.enter(app)
    bad = replace(place.config, rules=(config.Rule("/", None, "nowhere"),))
    with pytest.raises(EdgeRefused, match="nowhere"):
        await place.edge.reload(bad, (place.member(app),))
    assert await ask(client, place.url) == (200, "a")
    assert (await place.edge.look()).config == config.digest(place.config)


async def test_a_crash_costs_no_get(place: stand.Stand) -> None:
    apps = [await place.app(name) for name in ("a", "b", "c")]
    for app in apps:
        await place.enter(app)
    requests = 0
    async with aiohttp.ClientSession() as client:
        for app in apps[:2]:
            await app.stop()  # the edge is not told
            for _ in range(30):
                assert (await ask(client, place.url))[0] == 200
                requests += 1
    counters = await place.edge.counters()
    assert counters[""] == base.Counters(requests, 0, 0, counters[""].sessions)


async def test_websockets_outlive_leaving_and_end_when_cut(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    old, new = await place.app("old"), await place.app("new")
    await place.enter(old)
    async with client.ws_connect(f"{place.url}/ws") as channel:
        await channel.send_str("1")
        assert await channel.receive_str() == "old 1"
        await place.enter(new)
        await place.leave(old)
        await channel.send_str("2")
        assert await channel.receive_str() == "old 2"
        server = await place.server(old)
        assert server is not None
        assert server.in_flight == 1
        await place.edge.reload(
            replace(place.config, maxconn=400), (place.member(old), place.member(new))
        )
        await channel.send_str("3")
        assert await channel.receive_str() == "old 3"
        await place.edge.cut("web", place.member(old).name)
        message = await channel.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)


async def test_headers_are_the_edges_own(place: stand.Stand, client: aiohttp.ClientSession) -> None:
    app = await place.app("a")
    await place.enter(app)
    forged = dict.fromkeys(
        (
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Real-IP",
            "Forwarded",
            "Proxy",
            "X-Request-ID",
        ),
        "evil",
    )
    async with client.get(place.url, headers=forged) as answer:
        assert answer.status == 200
    assert "evil" not in app.headers.values()
    assert app.headers["X-Forwarded-For"] == "127.0.0.1"
    assert app.headers["X-Forwarded-Proto"] == "http"
    assert app.headers["X-Forwarded-Host"] == place.config.listen
    assert re.fullmatch("[0-9A-F]{32}", app.headers["X-Request-ID"])


async def test_routes_and_private_addresses(
    place: stand.Stand, client: aiohttp.ClientSession
) -> None:
    web, api = await place.app("a"), await place.app("b")
    await place.enter(web)
    await place.edge.enter(place.member(api, "api"))
    private = place.config.backends[1].private_bind
    assert (await ask(client, f"{place.url}/x"))[1] == "a"
    assert (await ask(client, f"{place.url}/api"))[1] == "b"
    assert (await ask(client, f"{place.url}/api/x"))[1] == "b"
    assert (await ask(client, f"{place.url}/apix"))[1] == "a"
    assert (await ask(client, f"http://{private}/x"))[1] == "b"
    await place.edge.maintenance(True)
    assert (await ask(client, f"http://{private}/x"))[1] == "b"
    await place.edge.reload(replace(place.config, rules=(config.Rule("/api", None, "api"),)), ())
    await place.edge.maintenance(False)
    assert (await ask(client, f"{place.url}/x"))[0] == 404


async def test_a_slow_head_is_not_waited_for(place: stand.Stand) -> None:
    """The limit itself is ten seconds; here only that HAProxy has taken it."""
    text = (place.root / "home" / "edge.cfg").read_text()
    assert "timeout http-request 10s" in text


async def test_a_taken_address_is_named() -> None:
    async with stand.standing() as first:
        private = first.config.backends[1].private_bind
        for taken in (first.config.listen, private):
            async with stand.standing(started=False, listen=taken) as second:
                with pytest.raises(EnvironmentFault, match=str(taken)) as caught:
                    await second.edge.process(second.config)
                assert caught.value.hint


async def test_sockets_and_files_are_the_owners_alone(place: stand.Stand) -> None:
    await place.edge.maintenance(True)
    for folder in ("run", "home"):
        for path in (place.root / folder).iterdir():
            assert path.stat().st_mode & 0o077 == 0, path


async def test_a_worker_that_dies_is_seen(place: stand.Stand) -> None:
    await place.enter(await place.app("a"))
    worker = (await place.edge._known_workers()).current
    assert worker is not None
    os.kill(worker, signal.SIGKILL)

    async def dead() -> bool:
        return (await place.edge.look()).state == "dead"

    await stand.until(dead, "the edge is found dead")
    assert place.child is not None
    place.child.wait(stand.PATIENCE)
    await place.start()
    assert not (await place.edge.look()).servers
