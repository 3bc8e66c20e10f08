"""Bad answers that come slowly: fewer than HAProxy alone would ever act upon."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.edge import stand

from gapless.edge import judging


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    async with stand.standing() as made:
        for name in ("good", "bad"):
            await made.enter(await made.app(name))
        await made.edge.look()
        yield made


async def ask(place: stand.Stand, times: int) -> list[int]:
    """Of the one that turns bad, as its cookie says."""
    found = []
    for _ in range(times):
        headers = {"Cookie": "demo-web=token-bad"}
        async with (
            aiohttp.ClientSession() as client,
            client.get(place.url, headers=headers) as answer,
        ):
            found.append(answer.status)
    return found


async def test_a_slow_run_takes_it_out_until_its_checks_are_good(place: stand.Stand) -> None:
    bad = place.apps[1]
    bad.status = 500
    assert await ask(place, judging.SLOW_LIMIT) == [500] * judging.SLOW_LIMIT
    server = await place.server(bad)
    assert server is not None
    assert server.tripped
    assert not server.takes_work
    assert f"{judging.SLOW_LIMIT} bad answers in a row" in server.check
    assert await ask(place, 1) == [200]
    bad.status = 200

    async def back() -> bool:
        server = await place.server(bad)
        return server is not None and server.takes_work and not server.tripped

    await stand.until(back, "it comes back")


async def test_a_good_answer_between_is_no_run(place: stand.Stand) -> None:
    bad = place.apps[1]
    for _ in range(3):
        bad.status = 500
        await ask(place, judging.SLOW_LIMIT - 1)
        bad.status = 200
        await ask(place, 1)
        server = await place.server(bad)
        assert server is not None
        assert server.takes_work
