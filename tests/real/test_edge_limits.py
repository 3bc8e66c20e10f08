"""Rates and connections by address, at a real edge: clients are many addresses of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.edge import stand

from gapless.drills import rate_limit
from gapless.edge import config, limits

LIMIT = rate_limit.Limit("/", 20.0, 20, 1.0)
RATE = limits.Rate(20, 1.0)
SECONDS = 4.0


@contextlib.asynccontextmanager
async def limited(*rates: limits.Rate, **other: Any) -> AsyncIterator[stand.Stand]:
    wanted = limits.Limits(rates, other.pop("connections", None))
    async with stand.standing(limits=wanted, **other) as place:
        for folder in (place.root, place.root / "run"):
            folder.chmod(0o711)
        app = await place.app("a")
        Path(app.path).chmod(0o777)
        await place.enter(app)
        yield place


def port(place: stand.Stand) -> int:
    return int(place.config.listen.rpartition(":")[2])


async def ask(
    place: stand.Stand, path: str = "/", *headers: str, source: str = "127.0.0.1"
) -> tuple[int, dict[str, str]]:
    """(status, headers) over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(place), local_addr=(source, 0))
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return parsed(await reader.read(-1), writer)


def parsed(answer: bytes, writer: asyncio.StreamWriter) -> tuple[int, dict[str, str]]:
    writer.close()
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}


async def through(place: stand.Stand, times: int, path: str = "/", *headers: str) -> Counter[int]:
    return Counter([(await ask(place, path, *headers))[0] for _ in range(times)])


async def as_from(place: stand.Stand, address: str) -> int:
    """The status for a client of any address, as a retired worker passes it on."""
    version = "TCP6" if ":" in address else "TCP4"
    own = "::1" if ":" in address else "127.0.0.1"
    path = place.root / "run" / f"edge{config.PUBLIC}.sock"
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(f"PROXY {version} {address} {own} 4000 80\r\n".encode())
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return parsed(await reader.read(-1), writer)[0]


async def attack(place: stand.Stand) -> rate_limit.Table:
    return await rate_limit.attack(LIMIT, place.url, None, SECONDS)


async def test_one_client_gets_what_is_allowed_and_the_other_all_it_asks_for() -> None:
    async with limited(RATE) as place:
        table = await attack(place)
    assert rate_limit.judge(table) == ()
    assert table.eager.refused > table.eager.admitted


async def test_planted_one_count_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ADDRESS", "src,ipmask(0,0)")
    async with limited(RATE) as place:
        reasons = rate_limit.judge(await attack(place))
    assert any("the second client was refused" in one for one in reasons), reasons


async def test_planted_a_limit_ten_times_too_wide() -> None:
    async with limited(limits.Rate(200, 1.0)) as place:
        reasons = rate_limit.judge(await attack(place))
    assert any("are allowed in" in one for one in reasons), reasons


async def test_planted_what_is_refused_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on asking then never gets anything more."""
    sound = limits.for_frontend

    def late(*given: Any) -> list[str]:
        lines = sound(*given)
        counts = [line for line in lines if "sc-inc-gpc0" in line]
        rest = [line for line in lines if line not in counts]
        at = next(n for n, line in enumerate(rest) if "status 429" in line)
        return [*rest[:at], *counts, *rest[at:]]

    monkeypatch.setattr(limits, "for_frontend", late)
    async with limited(RATE) as place:
        reasons = rate_limit.judge(await attack(place))
    assert any("should have" in one for one in reasons), reasons


async def test_what_is_told() -> None:
    async with limited(limits.Rate(2, 60.0)) as place:
        status, said = await ask(place)
        assert status == 200
        assert said["ratelimit-policy"] == '"1";q=2;w=60'
        assert said["ratelimit"] == '"1";r=1;t=60'
        await ask(place)
        status, said = await ask(place)
        assert status == 429
        assert said["retry-after"] == "60"
        assert said["ratelimit"] == '"1";r=0;t=60'
        assert said["content-type"] == "text/plain"
        status, said = await ask(place, "/", "Accept: application/json")
        assert (status, said["content-type"]) == (429, "application/json")
        assert (await ask(place, source="127.0.0.9"))[0] == 200


async def test_one_in_a_window_is_one_in_a_window() -> None:
    async with limited(limits.Rate(1, 0.5)) as place:
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen: Counter[int] = Counter()
        while loop.time() - began < 2.4:
            seen += await through(place, 1)
        windows = (loop.time() - began) / 0.5
    assert windows - 2 <= seen[200] <= windows + 1


async def test_several_limits_hold_together_and_each_counts_what_it_let_through() -> None:
    rates = (limits.Rate(6, 60.0), limits.Rate(2, 60.0, path="/login", method="GET"))
    spelt = ["//login", "/%6cogin", "/./login", "/login/", "/login;v=1", "/login?x"]
    async with limited(*rates) as place:
        assert await through(place, 2, "/login") == {200: 2}
        for path in spelt:
            assert (await ask(place, path))[0] == 429, path
        assert await through(place, 5, "/loginx") == {200: 4, 429: 1}


async def test_more_limits_than_haproxy_follows_by_itself() -> None:
    rates = [limits.Rate(2, 60.0, path=f"/{number}") for number in range(5)]
    async with limited(*rates, connections=50) as place:
        for number in range(5):
            assert await through(place, 3, f"/{number}") == {200: 2, 429: 1}


async def test_by_key_and_by_address_where_there_is_none() -> None:
    async with limited(limits.Rate(2, 60.0, key="header:X-Api-Key")) as place:
        for key in ("secret-one", "secret-two"):
            assert await through(place, 3, "/", f"X-Api-Key: {key}") == {200: 2, 429: 1}
        assert await through(place, 3) == {200: 2, 429: 1}
        table = await place.edge._answer(["show table _rate-1"])
    assert "used:3" in table
    assert "secret" not in table


async def test_by_cookie() -> None:
    async with limited(limits.Rate(1, 60.0, key="cookie:session_id")) as place:
        for value in "ab":
            found = await through(place, 2, "/", f"Cookie: session_id={value}")
            assert found == {200: 1, 429: 1}


async def test_allowed_addresses_and_other_methods_have_no_limit() -> None:
    many = tuple(f"10.{n // 256}.{n % 256}.0/24" for n in range(500))
    rates = (
        limits.Rate(1, 60.0, allow=(*many, "127.0.0.0/31", "2001:db8::/32")),
        limits.Rate(1, 60.0, method="POST"),
    )
    async with limited(*rates) as place:
        assert await through(place, 4) == {200: 4}
        await ask(place, source="127.0.0.2")
        assert (await ask(place, source="127.0.0.2"))[0] == 429


async def test_ipv6_counts_by_its_first_64_bits() -> None:
    async with limited(limits.Rate(2, 60.0)) as place:
        found = [await as_from(place, f"2001:db8::{n}:1") for n in range(1, 5)]
        assert found == [200, 200, 429, 429]
        assert await as_from(place, "2001:db8:0:1::1") == 200
        assert await as_from(place, "10.0.0.1") == 200


@pytest.mark.parametrize("uid", [None, 70_123], ids=["as we are", "as nobody in particular"])
async def test_a_reload_forgets_nothing(uid: int | None) -> None:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    async with limited(limits.Rate(5, 60.0), uid=uid) as place:
        assert await through(place, 6) == {200: 5, 429: 1}
        assert await through(place, 1, "/", "X-A: b") == {429: 1}

        async def grown() -> bool:
            return "resync_timeout=<PAST>" in await place.edge._answer(["show peers"])

        # A worker that just started may still hear from one before: it hands nothing on yet.
        await stand.until(grown, "the worker has counts of its own")
        for maxconn in (400, 450):
            members = (place.member(place.apps[0]),)
            await place.edge.reload(replace(place.config, maxconn=maxconn), members)

            async def remembered() -> bool:
                return "127.0.0.1 " in await place.edge._answer(["show table _rate-1"])

            await stand.until(remembered, "the new worker has heard of it")
            assert await through(place, 2) == {429: 2}
            assert (await ask(place, source="127.0.0.9"))[0] == 200


async def test_memory_is_bounded_however_many_addresses_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "KEPT", 20_480)
    async with limited(limits.Rate(100, 30.0)) as place:
        pid = (await place.edge._workers()).current
        before = resident(pid)
        for start in range(0, 30_000, 250):
            orders = [
                f"set table _rate-1 key ::ffff:10.0.{n >> 8}.{n & 255} data.gpc0 1"
                for n in range(start, start + 250)
            ]
            await place.edge._answer(orders)
        table = await place.edge._answer(["show table"])
        grown = (resident(pid) - before) * 1024
        assert (await ask(place, source="127.0.0.9"))[0] == 200
    used = int(table.partition("used:")[2].split()[0])
    assert 0.98 * limits.KEPT < used <= limits.KEPT
    assert grown / used < limits.EACH


def resident(pid: int | None) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def test_connections_of_one_address() -> None:
    async with limited(connections=4) as place:
        held = []
        for _ in range(4):
            held.append(
                await asyncio.open_connection("127.0.0.1", port(place), local_addr=("127.0.0.2", 0))
            )
            held[-1][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await held[-1][0].readuntil(b"\r\n")).split()[1] == b"200"
        status, said = await ask(place, source="127.0.0.2")
        assert status == 429
        assert said["retry-after"] == "2"
        assert (await ask(place, source="127.0.0.3"))[0] == 200
        for _, writer in held:
            writer.close()

        async def again() -> bool:
            return (await ask(place, source="127.0.0.2"))[0] == 200

        await stand.until(again, "there is room again")


async def test_far_too_many_connections_of_one_address_are_not_even_spoken_to() -> None:
    async with limited(connections=2) as place:
        held = [
            await asyncio.open_connection("127.0.0.1", port(place), local_addr=("127.0.0.2", 0))
            for _ in range(8)
        ]
        reads = [asyncio.create_task(reader.read(1)) for reader, _ in held]

        # Which ones are taken is not said: two threads of the edge take them as they come.
        async def four_are_refused() -> bool:
            return sum(read.done() for read in reads) == 4

        await stand.until(four_are_refused, "four of eight are refused")
        assert (await ask(place, source="127.0.0.3"))[0] == 200
        for read in reads:
            read.cancel()
        ends = await asyncio.gather(*reads, return_exceptions=True)
        kept = [end for end in ends if isinstance(end, asyncio.CancelledError)]
        assert len(kept) == 4
        assert all(end in (b"", *kept) or isinstance(end, ConnectionError) for end in ends)
        for _, writer in held:
            writer.close()


async def test_when_the_edge_is_full_it_says_so_and_hangs_up() -> None:
    async with limited(maxconn=40) as place:
        held = []
        for _ in range(38):
            held.append(await asyncio.open_connection("127.0.0.1", port(place)))
            held[-1][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await held[-1][0].readuntil(b"\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port(place))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        status, said = parsed(await asyncio.wait_for(reader.read(-1), 8), writer)
        assert (status, said["retry-after"]) == (503, "2")
        for _, other in held:
            other.close()

        async def again() -> bool:
            return (await ask(place))[0] == 200

        await stand.until(again, "there is room again")
