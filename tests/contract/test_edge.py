"""What every edge must do, over the fake that ships and over HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import base, config, static
from gapless.errors import EdgeRefused
from gapless.model.desired import Hold
from gapless.testing.edge import Desk, FakeEdge

Still = Callable[[int], Awaitable[tuple[int, int]]]
"""How many sockets (so many are expected before long), and how many requests, are there."""


class Bench(Protocol):
    """One edge, not yet started. ``edge()`` gives another client of it each time."""

    config: config.Config

    def edge(self) -> Any: ...
    async def start(self, members: tuple[base.Member, ...] = ()) -> None: ...
    async def begin(self, heir: base.Heir) -> None: ...
    async def stop(self) -> None: ...
    async def member(self, name: str, backend: str = "web") -> base.Member: ...
    def unready(self, name: str) -> None: ...
    def clients(
        self, name: str, sockets: int, requests: int
    ) -> contextlib.AbstractAsyncContextManager[Still]: ...


class Real:
    def __init__(self, place: stand.Stand) -> None:
        self.place = place
        self.config = place.config

    def edge(self) -> Any:
        return self.place.client()

    async def start(self, members: tuple[base.Member, ...] = ()) -> None:
        await self.place.start(members)

    async def begin(self, heir: base.Heir) -> None:
        await self.place.succeed(heir)

    async def stop(self) -> None:
        self.place.stop()

    async def member(self, name: str, backend: str = "web") -> base.Member:
        return self.place.member(await self.place.app(name), backend)

    def unready(self, name: str) -> None:
        for app in self.place.apps:
            app.ready = app.ready and app.name != name

    @contextlib.asynccontextmanager
    async def clients(self, name: str, sockets: int, requests: int) -> AsyncIterator[Still]:
        """WebSockets that listen, and requests whose answer is held back."""
        app = next(app for app in self.place.apps if app.name == name)
        await self.place.enter(app)
        async with aiohttp.ClientSession(self.place.url) as session:
            opened = [await session.ws_connect("/ws") for _ in range(sockets)]
            ends = [asyncio.create_task(one.receive()) for one in opened]
            asked = [asyncio.create_task(session.get("/held")) for _ in range(requests)]

            async def held() -> bool:
                return bool(app.held == requests)

            async def still(wanted: int) -> tuple[int, int]:
                async def told() -> bool:
                    here = (await self.edge().sockets()).get(f"web.{name}", 0)
                    return bool(here == wanted == sum(not end.done() for end in ends))

                await stand.until(told, f"{wanted} are left")
                return wanted, sum(not one.done() for one in asked)

            await stand.until(held, "requests are held")
            yield still
            app.release.set()
            for answer in await asyncio.gather(*asked):
                assert answer.status == 200
            for end in ends:
                end.cancel()
            for one in opened:
                await one.close()


class Fake:
    def __init__(self, wanted: config.Config) -> None:
        self.desk = Desk()
        self.config = wanted
        self.made: dict[str, stand.App] = {}

    def edge(self) -> Any:
        return FakeEdge(self.desk)

    async def start(self, members: tuple[base.Member, ...] = ()) -> None:
        await self.edge().process(self.config, members)

    async def begin(self, heir: base.Heir) -> None:
        await heir.serves()

    async def stop(self) -> None:
        self.desk.stop()

    async def member(self, name: str, backend: str = "web") -> base.Member:
        app = self.made.setdefault(name, stand.App(name, f"/run/{name}.sock"))
        return base.Member(f"{backend}.{name}", backend, app.address, f"token-{name}")

    def unready(self, name: str) -> None:
        self.desk.check_fails("web", f"web.{name}")

    @contextlib.asynccontextmanager
    async def clients(self, name: str, sockets: int, requests: int) -> AsyncIterator[Still]:
        self.desk.carries("web", f"web.{name}", sockets)
        self.desk.busy("web", f"web.{name}", sockets + requests)

        async def still(wanted: int) -> tuple[int, int]:
            here = self.desk.sockets[("web", f"web.{name}")]
            return here, self.desk.in_flight[("web", f"web.{name}")] - here

        yield still


@pytest.fixture(params=["fake", "haproxy"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with stand.standing(started=False) as place:
        yield Fake(place.config) if request.param == "fake" else Real(place)


@pytest.fixture
async def edge(bench: Bench) -> Any:
    await bench.start()
    return bench.edge()


async def test_absent_then_running_then_dead(bench: Bench) -> None:
    assert (await bench.edge().look()).state == "absent"
    await bench.start()
    seen = await bench.edge().look()
    assert seen.state == "running"
    assert seen.pid
    assert seen.config == config.digest(bench.config)
    assert not seen.servers
    assert not seen.maintenance
    await bench.stop()
    seen = await bench.edge().look()
    assert seen.state == "dead"
    assert not seen.servers


async def test_enters_and_leaves_and_enters_again(bench: Bench, edge: Any) -> None:
    member = await bench.member("a")
    for _ in range(2):
        for _ in range(2):
            await edge.enter(member)
            server = (await edge.look()).servers[member.name]
            assert server.takes_work
            assert server.backend == "web"
        for _ in range(2):
            await edge.leave("web", member.name)
            server = (await edge.look()).servers[member.name]
            assert server.admin == "maint"
            assert not server.takes_work


async def test_the_name_of_a_replica_will_do(bench: Bench, edge: Any) -> None:
    member = replace(await bench.member("a"), name="web.1@r12")
    await edge.enter(member)
    assert "web.1:r12" in (await edge.look()).servers
    await edge.leave("web", "web.1@r12")
    assert await edge.remove("web", "web.1@r12")


async def test_removes_only_what_is_out(bench: Bench, edge: Any) -> None:
    member = await bench.member("a")
    await edge.enter(member)
    with pytest.raises(EdgeRefused):
        await edge.remove("web", member.name)
    assert (await edge.look()).servers[member.name].takes_work
    await edge.leave("web", member.name)
    assert await edge.remove("web", member.name)
    assert member.name not in (await edge.look()).servers


async def test_what_it_does_not_know_is_out_already(edge: Any) -> None:
    for backend in ("web", "nowhere"):
        await edge.leave(backend, "web.9")
        assert await edge.remove(backend, "web.9")


async def test_a_backend_that_is_not_there_is_refused(bench: Bench, edge: Any) -> None:
    with pytest.raises(EdgeRefused, match="nowhere"):
        await edge.enter(replace(await bench.member("a"), backend="nowhere"))


async def test_a_name_at_another_address_is_replaced(bench: Bench, edge: Any) -> None:
    old, new = await bench.member("a"), await bench.member("b")
    await edge.enter(old)
    await edge.enter(replace(new, name=old.name))
    servers = (await edge.look()).servers
    assert list(servers) == [old.name]
    assert servers[old.name].takes_work


async def test_flip_swaps(bench: Bench, edge: Any) -> None:
    a, b, c = [await bench.member(name) for name in "abc"]
    await edge.enter(a)
    await edge.flip((b, c), (("web", a.name), ("web", "web.gone")))
    servers = (await edge.look()).servers
    assert {name for name, s in servers.items() if s.takes_work} == {b.name, c.name}
    await edge.flip((a,), (("web", b.name), ("web", c.name)))
    servers = (await edge.look()).servers
    assert {name for name, s in servers.items() if s.takes_work} == {a.name}


async def test_a_flip_that_fails_is_undone(bench: Bench, edge: Any) -> None:
    old, good, late = [await bench.member(name) for name in "abc"]
    await edge.enter(old)
    bench.unready("c")
    with pytest.raises(EdgeRefused, match="did not come up"):
        await edge.flip((good, late), (("web", old.name),))
    servers = (await edge.look()).servers
    assert {name for name, s in servers.items() if s.takes_work} == {old.name}
    assert {name for name, s in servers.items() if s.admin == "ready"} == {old.name}


async def test_maintenance_is_seen_and_kept(bench: Bench, edge: Any) -> None:
    await edge.maintenance(True)
    await edge.maintenance(True)
    assert (await bench.edge().look()).maintenance
    await edge.reload(replace(bench.config, allow=("192.0.2.1",)), ())
    assert (await edge.look()).maintenance
    await edge.maintenance(False)
    assert not (await edge.look()).maintenance


async def test_hold_is_seen_and_kept(bench: Bench, edge: Any) -> None:
    hold = Hold(round(time.time() + 30, 3), 30.0)
    await edge.hold(hold)
    await edge.hold(hold)
    assert (await bench.edge().look()).held_until == hold.until
    await edge.reload(replace(bench.config, allow=("192.0.2.1",)), ())
    assert (await edge.look()).held_until == hold.until
    await edge.hold(None)
    assert (await edge.look()).held_until is None


async def test_who_is_awaited_is_seen_and_kept(bench: Bench, edge: Any) -> None:
    assert (await edge.look()).awaited == set()
    member = await bench.member("a")
    await edge.enter(member)
    await edge.leave("web", member.name)
    assert (await bench.edge().look()).awaited == {"web"}
    for _ in range(2):
        await edge.awaits(["api"], ["web"])
        assert (await bench.edge().look()).awaited == {"api"}
    await edge.reload(replace(bench.config, allow=("192.0.2.1",)), ())
    assert (await edge.look()).awaited == {"api"}
    await edge.enter(member)
    assert (await edge.look()).awaited == {"api", "web"}


async def test_which_files_are_served_is_seen_and_kept(bench: Bench, edge: Any) -> None:
    served, other = "0123456789abcdef", "fedcba9876543210"
    publishing = replace(bench.config, static=static.Static(("/static",), "/nowhere"))
    await edge.reload(publishing, ())
    assert (await edge.look()).files == ""
    await edge.serve(other)
    await edge.serve(served)
    assert (await bench.edge().look()).files == served
    await edge.reload(replace(publishing, allow=("192.0.2.1",)), ())
    assert (await edge.look()).files == served
    await edge.serve("")
    assert (await edge.look()).files == ""


async def test_members_are_there_from_the_first_moment(bench: Bench) -> None:
    member = await bench.member("a")
    lost = replace(member, backend="nothing")
    await bench.start((member, lost))
    servers = (await bench.edge().look()).servers
    assert {name for name, server in servers.items() if server.takes_work} == {member.name}


async def test_reload_keeps_members_as_they_are(bench: Bench, edge: Any) -> None:
    a, b, gone = [await bench.member(name) for name in "abc"]
    for member in (a, b, gone):
        await edge.enter(member)
    await edge.leave("web", b.name)
    wanted = replace(bench.config, backends=(*bench.config.backends, stand.backend("more")))
    pid = (await edge.look()).pid
    await edge.reload(wanted, (a, b))
    seen = await edge.look()
    assert seen.config == config.digest(wanted)
    assert seen.pid == pid
    assert seen.servers[a.name].takes_work
    assert seen.servers[b.name].admin == "maint"
    assert gone.name not in seen.servers
    await edge.enter(b)
    await edge.enter(await bench.member("d", "more"))
    assert (await edge.look()).servers["more.d"].takes_work
    await edge.leave("web", a.name)
    assert await edge.remove("web", a.name)


async def test_an_heir_takes_over_and_keeps_members_as_they_are(bench: Bench, edge: Any) -> None:
    a, b, gone = [await bench.member(name) for name in "abc"]
    for member in (a, b, gone):
        await edge.enter(member)
    await edge.leave("web", b.name)
    wanted = replace(bench.config, backends=(*bench.config.backends, stand.backend("more")))
    heir = await edge.heir(wanted, (a, b))
    # Until it is started, who serves goes on.
    assert (await edge.look()).config == config.digest(bench.config)
    await bench.begin(heir)
    seen = await edge.look()
    assert (seen.state, seen.config) == ("running", config.digest(wanted))
    assert seen.servers[a.name].takes_work
    assert seen.servers[b.name].admin == "maint"
    assert gone.name not in seen.servers
    await edge.enter(b)
    await edge.enter(await bench.member("d", "more"))


async def test_another_client_finds_it_all(bench: Bench, edge: Any) -> None:
    member = await bench.member("a")
    await edge.enter(member)
    other = bench.edge()
    assert await other.look() == await edge.look()
    await other.leave("web", member.name)
    await other.enter(member)
    assert (await edge.look()).servers[member.name].takes_work


async def test_counters_name_the_frontend_and_each_backend(edge: Any) -> None:
    counters = await edge.counters()
    assert set(counters) == {"", "web", "api"}
    assert counters[""] == base.Counters(0, 0, 0, 0)


async def test_sockets_are_told_from_requests_and_shut_by_number(bench: Bench, edge: Any) -> None:
    a, b = await bench.member("a"), await bench.member("b")
    await edge.enter(a)
    assert await edge.sockets() == {}
    async with bench.clients("a", sockets=9, requests=2) as still:
        await edge.enter(b)
        await edge.leave("web", a.name)
        assert await edge.sockets() == {a.name: 9}
        assert await edge.shut({a.name: 4, "web.nobody": 3}) == {a.name: 5}
        assert await still(5) == (5, 2)
        assert await edge.sockets() == {a.name: 5}
        assert (await edge.look()).servers[a.name].in_flight == 7
        left = await edge.shut({a.name: 50})
        assert left.get(a.name, 0) == 0
        assert await still(0) == (0, 2)


async def test_sockets_of_an_old_worker_are_counted_and_shut(bench: Bench, edge: Any) -> None:
    a = await bench.member("a")
    await edge.enter(a)
    async with bench.clients("a", sockets=5, requests=1) as still:
        wanted = replace(bench.config, backends=(*bench.config.backends, stand.backend("more")))
        await edge.reload(wanted, (a,))
        assert await edge.sockets() == {a.name: 5}
        await edge.leave("web", a.name)
        assert await edge.shut({a.name: 2}) == {a.name: 3}
        assert await still(3) == (3, 1)


async def test_nothing_can_be_done_to_a_dead_edge(bench: Bench, edge: Any) -> None:
    member = await bench.member("a")
    await bench.stop()
    for attempt in (edge.enter(member), edge.maintenance(True), edge.counters()):
        with pytest.raises(EdgeRefused):
            await attempt


async def test_many_enter_at_once(bench: Bench, edge: Any) -> None:
    """Forty come up together: HAProxy lets in ten questions at a time."""
    members = [await bench.member(f"m{n}") for n in range(1, 41)]
    await asyncio.gather(*(edge.enter(member) for member in members))
    found = (await edge.look()).servers
    assert {found[member.name].takes_work for member in members} == {True}
    await asyncio.gather(*(edge.leave(member.backend, member.name) for member in members))
    assert {server.admin for server in (await edge.look()).servers.values()} == {"maint"}
