"""Leases against the real PostgreSQL and Valkey; holders are real processes, killed and paused."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
import redis
import redis.asyncio

from gapless.app import lease_postgres, lease_redis
from gapless.app.lease import BlockingLease, BlockingStore, Lease, Lost, Store
from tests.examples import stores

TTL = 1.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[stores.Running, stores.Running]]:
    with stores.running() as found:
        yield found


@pytest.fixture
async def pool(both: tuple[stores.Running, stores.Running]) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(both[0].url, min_size=0, max_size=8) as found:
        yield found


@pytest.fixture(params=["asyncpg", "psycopg", "redis"])
async def kept(
    request: pytest.FixtureRequest, both: tuple[stores.Running, stores.Running]
) -> AsyncIterator[Callable[[], Store]]:
    """Makes stores that know the same leases, each with connections of its own."""
    db, cache = both
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "asyncpg":
            pool = await stack.enter_async_context(asyncpg.create_pool(db.url, min_size=0))
            yield lambda: lease_postgres.Asyncpg(pool)
        elif request.param == "psycopg":
            made: list[Any] = []

            async def connect() -> Any:
                made.append(await psycopg.AsyncConnection.connect(db.url))
                return made[-1]

            yield lambda: lease_postgres.AsyncPsycopg(connect)
            for one in made:
                await one.close()
        else:
            client = await stack.enter_async_context(redis.asyncio.from_url(cache.url))
            yield lambda: lease_redis.Redis(client)


@pytest.fixture(params=["psycopg", "redis"])
def blocking(
    request: pytest.FixtureRequest, both: tuple[stores.Running, stores.Running]
) -> Iterator[Callable[[], BlockingStore]]:
    db, cache = both
    made: list[Any] = []

    def connect() -> Any:
        made.append(psycopg.connect(db.url))
        return made[-1]

    if request.param == "psycopg":
        yield lambda: lease_postgres.DbApi(connect)
    else:
        made.append(redis.from_url(cache.url))
        yield lambda: lease_redis.BlockingRedis(made[0])
    for one in made:
        one.close()


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # it is a poll
            await asyncio.sleep(0.01)


async def come(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What ``ask`` gives once it gives something."""
    async with asyncio.timeout(40):
        while (found := await ask()) is None:  # noqa: ASYNC110  # it is a poll
            await asyncio.sleep(0.01)
    return found


async def test_tokens_grow_and_one_holds(kept: Callable[[], Store]) -> None:
    one, two = kept(), kept()
    first = await one.acquire("grow", "a", 30)
    assert first is not None
    assert await two.acquire("grow", "b", 30) is None
    other = await two.acquire("other", "b", 30)
    assert other is not None
    await two.release("other", other)
    assert await one.renew("grow", first, 30)
    assert not await two.renew("grow", first + 1, 30)
    await two.release("grow", first + 1)
    assert await two.acquire("grow", "b", 30) is None
    await one.release("grow", first)
    assert not await one.renew("grow", first, 30)
    second = await two.acquire("grow", "b", 30)
    assert second is not None and second > first
    await two.release("grow", second)


async def test_what_is_not_renewed_runs_out(kept: Callable[[], Store]) -> None:
    store = kept()
    first = await store.acquire("short", "a", 0.05)
    assert first is not None
    second = await come(lambda: store.acquire("short", "b", 30))
    assert second > first
    assert not await store.renew("short", first, 30)
    await store.release("short", second)


async def test_many_at_once_and_one_leads(kept: Callable[[], Store]) -> None:
    leases = [Lease("many", kept(), ttl=5) for _ in range(5)]
    async with contextlib.AsyncExitStack() as stack:
        for lease in leases:
            await stack.enter_async_context(lease)
        await until(lambda: any(lease.leading for lease in leases))
        leader = next(lease for lease in leases if lease.leading)
        assert [lease for lease in leases if lease.leading] == [leader]
        token = leader.token
        assert token is not None
        await leader.__aexit__(None)
        assert not leader.leading
        await until(lambda: any(lease.leading for lease in leases))
        assert next(lease.token or 0 for lease in leases if lease.leading) > token


async def test_the_end_comes_where_a_driver_swallows_the_cancellation() -> None:
    asked = asyncio.Event()

    class Deaf(lease_redis.Redis):
        async def acquire(self, name: str, holder: str, ttl: float) -> int | None:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("broken off") from None
            return None

    async with Lease("deaf", Deaf(None), ttl=30):
        await asked.wait()


def test_threads_lead_one_after_the_other(blocking: Callable[[], BlockingStore]) -> None:
    second = BlockingLease("threads", blocking(), ttl=TTL)
    with BlockingLease("threads", blocking(), ttl=TTL) as first:
        token = first.wait(20)
        assert token is not None
        with second:
            assert second.wait(3 * TTL) is None
            assert first.token == token
            first.__exit__()
            after = second.wait(20)
            assert after is not None and after > token


async def test_work_stops_when_the_lease_is_lost(pool: asyncpg.Pool) -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        told.append("begin")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("end")

    async with Lease("work", lease_postgres.Asyncpg(pool), ttl=TTL) as lease:
        task = asyncio.create_task(lease.lead(work))
        await begun.wait()
        # Somebody took it: as after a pause, seen from the other side.
        await pool.execute("update gapless_lease set token = token + 1, holder = 'x'")
        await until(lambda: told[:2] == ["begin", "end"])
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()


async def test_a_write_is_checked_where_it_happens(pool: asyncpg.Pool) -> None:
    store = lease_postgres.Asyncpg(pool)
    async with Lease("write", store, ttl=30) as lease, pool.acquire() as writer:
        await lease.wait()
        async with writer.transaction():
            await lease.check(writer)
        with pytest.raises(ValueError, match="within the transaction"):
            await lease.check(writer)
        await pool.execute("update gapless_lease set expires = now() where name = 'write'")
        with pytest.raises(Lost):
            async with writer.transaction():
                await lease.check(writer)
        taken = await store.acquire("write", "somebody", 30)
        assert taken is not None
        with pytest.raises(Lost, match="write: "):
            async with writer.transaction():
                await lease.check(writer)
        await store.release("write", taken)


async def test_a_new_leader_waits_for_the_write_and_renewing_does_not(pool: asyncpg.Pool) -> None:
    store = lease_postgres.Asyncpg(pool)
    token = await store.acquire("wait", "a", 30)
    assert token is not None
    async with pool.acquire() as writer:
        async with writer.transaction():
            assert await store.check(writer, "wait", token, 30)
            async with asyncio.timeout(20):
                assert await store.renew("wait", token, 30)
            # Time is up while the write is under way.
            await pool.execute("update gapless_lease set expires = now() where name = 'wait'")
            next_one = asyncio.create_task(store.acquire("wait", "b", 30))
            waits = "select count(*) from pg_locks where not granted"
            async with asyncio.timeout(20):
                while not await writer.fetchval(waits):
                    assert not next_one.done()
                    await asyncio.sleep(0.01)
        assert await next_one == token + 1


async def test_a_writer_that_idles_in_its_transaction_is_ended(
    pool: asyncpg.Pool, both: tuple[stores.Running, stores.Running]
) -> None:
    store = lease_postgres.Asyncpg(pool)
    token = await store.acquire("idle", "a", 0.3)
    assert token is not None
    writer = await psycopg.AsyncConnection.connect(both[0].url)
    checker = lease_postgres.AsyncPsycopg(lambda: psycopg.AsyncConnection.connect(both[0].url))
    assert await checker.check(writer, "idle", token, 0.3)
    after = await come(lambda: store.acquire("idle", "b", 30))
    assert after == token + 1
    with pytest.raises(psycopg.Error, match="idle-in-transaction"):
        await writer.execute("select 1")
    await writer.close()
    await store.release("idle", after)


async def test_redis_does_not_pretend(both: tuple[stores.Running, stores.Running]) -> None:
    async with (
        redis.asyncio.from_url(both[1].url) as client,
        Lease("advice", lease_redis.Redis(client)) as lease,
    ):
        await lease.wait()
        with pytest.raises(TypeError, match="keep it in Postgres"):
            await lease.check(client)


async def test_a_store_that_is_away_costs_the_lead_and_nothing_else(
    both: tuple[stores.Running, stores.Running],
) -> None:
    cache = both[1]
    async with (
        redis.asyncio.from_url(cache.url) as client,
        Lease("away", lease_redis.Redis(client), ttl=TTL) as lease,
    ):
        first = await lease.wait()
        cache.freeze(True)
        try:
            await until(lambda: not lease.leading)
        finally:
            cache.freeze(False)
        async with asyncio.timeout(20):
            # The same one where the store had kept it for us all the while, else a greater one.
            assert await lease.wait() >= first


# Processes that write as fast as they may; what they leave behind is the evidence.

HOLDERS = {"asyncpg": "tests.app.writer", "psycopg": "tests.app.blocking_writer"}


@contextlib.contextmanager
def holders(kind: str, url: str, count: int, flags: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", HOLDERS[kind], url, f"{kind}{flags}", str(TTL), flags],
            env={**os.environ, "SERVER_ID": f"p{n}", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        )
        for n in range(count)
    ]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()


async def disturb(
    pool: asyncpg.Pool, kind: str, url: str, rounds: int, flags: str = ""
) -> list[tuple[int, str]]:
    """Pause or kill leader after leader; returns (token, pid) of all writes in commit order."""
    await pool.execute("drop table if exists written")
    await pool.execute("create table written (n bigserial, token bigint, pid int)")
    newer = "select token, pid from written where token > $1 order by n desc limit 1"
    with holders(kind, url, 3, flags) as children:
        leader = await come(lambda: pool.fetchrow(newer, 0))
        for _ in range(rounds):
            os.kill(leader["pid"], signal.SIGSTOP)
            after = await come(functools.partial(pool.fetchrow, newer, leader["token"]))
            # It wakes up in the middle of what it did, and goes on writing if it can.
            os.kill(leader["pid"], signal.SIGCONT)
            leader = after
        killed = next(child for child in children if child.pid == leader["pid"])
        killed.kill()
        killed.wait()
        await come(lambda: pool.fetchrow(newer, leader["token"]))
    rows = await pool.fetch("select token, pid from written order by n")
    return [(row["token"], row["pid"]) for row in rows]


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg"])
async def test_no_write_of_a_stale_leader(
    kind: str, pool: asyncpg.Pool, both: tuple[stores.Running, stores.Running]
) -> None:
    written = await disturb(pool, kind, both[0].url, 5)
    tokens = [token for token, _ in written]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) >= 6
    assert len(set(written)) == len(set(tokens)), json.dumps(sorted(set(written)))


async def test_without_the_check_stale_writes_are_found(
    pool: asyncpg.Pool, both: tuple[stores.Running, stores.Running]
) -> None:
    """The planted fault: writers that believe themselves."""
    written = await disturb(pool, "asyncpg", both[0].url, 4, "-unchecked")
    tokens = [token for token, _ in written]
    assert tokens != sorted(tokens)
