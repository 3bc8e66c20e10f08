"""Presence over two replicas, in the real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from gapless.app.presence import CHUNK, Presence
from tests.examples import stores


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with stores.running() as (_, cache):
        yield cache.url


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
async def client(url: str, request: pytest.FixtureRequest) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(url, decode_responses=request.param) as found:
        await found.flushall()
        yield found


async def test_everybody_sees_everybody(client: redis.asyncio.Redis) -> None:
    one, two = Presence(client), Presence(client)
    await one.enter("1", "lobby", "Ann")
    await one.enter("2", "lobby", "Ann")
    await two.enter("3", "lobby", "B\0b")
    assert await two.there("lobby") == ["Ann", "B\0b"]
    await one.enter("1", "attic", "Ann")
    assert await two.there("lobby") == ["Ann", "B\0b"]
    assert await one.leave("2") == "lobby"
    assert await one.leave("2") is None
    assert await two.there("lobby") == ["B\0b"]
    assert await two.there("attic") == ["Ann"]
    await two.close()
    assert await one.there("lobby") == []


async def test_who_is_not_heard_of_fades_and_others_stay(client: redis.asyncio.Redis) -> None:
    dead, alive = (Presence(client, beat=0.2, gone=1.5) for _ in range(2))
    await dead.enter("1", "lobby", "dead")
    await alive.enter("2", "lobby", "alive")
    keeper = asyncio.create_task(alive.keep())
    async with asyncio.timeout(30):
        while await alive.there("lobby") != ["alive"]:  # noqa: ASYNC110  # it is a poll
            await asyncio.sleep(0.05)
    # What faded is removed, too, and the place itself goes with the last who gives a sign.
    async with asyncio.timeout(30):
        while await client.zcard("presence:lobby") != 1:  # noqa: ASYNC110  # it is a poll
            await asyncio.sleep(0.05)
    assert 0 < await client.ttl("presence:lobby") <= 3
    keeper.cancel()
    await asyncio.wait({keeper})


async def test_many_are_renewed_at_once(client: redis.asyncio.Redis) -> None:
    presence = Presence(client)
    many = CHUNK * 2 + 1
    for n in range(many):
        presence._mine[str(n)] = ("hall", f"u{n:05}")
    await presence.renew()
    assert await presence.there("hall") == [f"u{n:05}" for n in range(many)]


def test_a_beat_slower_than_death_is_refused() -> None:
    with pytest.raises(ValueError, match="below gone"):
        Presence(None, beat=30, gone=30)
