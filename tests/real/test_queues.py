"""How much work is not done, on a real Valkey with real workers of Celery."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.real import celeries, stores

from gapless.data import redisqueue, resp
from gapless.data.redisqueue import Depth
from gapless.errors import DataFault


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


async def depth(there: celeries.Broker, queue: str = celeries.QUEUE) -> Depth:
    connection = await resp.Connection.open(there.target)
    try:
        return await redisqueue.depth(connection, queue, datetime.now(UTC))
    finally:
        connection.close()


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110  # servers raise no event
            await asyncio.sleep(0.02)


async def test_lists_streams_and_what_is_none(roof: Path) -> None:
    async with celeries.broker(roof) as there:
        assert await depth(there, "nothing") == Depth()
        await there.ask("RPUSH", "jobs", "a", "b", "c")
        await there.ask("LPUSH", "jobs\x06\x163", "d")
        await there.ask("LPUSH", "jobs:9", "e")
        await there.ask("SET", "jobs:4", "not a list")
        assert await depth(there, "jobs") == Depth(5)
        await there.ask("SET", "text", "x")
        with pytest.raises(DataFault, match="is a string, not a queue"):
            await depth(there, "text")
        for n in range(10):
            await there.ask("XADD", "log", "*", "n", str(n))
        assert await depth(there, "log") == Depth(10)
        await there.ask("XGROUP", "CREATE", "log", "near", "0")
        await there.ask("XGROUP", "CREATE", "log", "far", "0")
        await there.ask("XREADGROUP", "GROUP", "near", "me", "COUNT", "4", "STREAMS", "log", ">")
        first = (await there.ask("XRANGE", "log", "-", "+", "COUNT", "1"))[0][0]
        await there.ask("XACK", "log", "near", first)
        assert await depth(there, "log/near") == Depth(6, 3)
        assert await depth(there, "log") == Depth(10)
        with pytest.raises(DataFault, match="no consumer group nobody"):
            await depth(there, "log/nobody")
        # An entry deleted from the middle: the server knows no lag any more.
        middle = (await there.ask("XRANGE", "log", "-", "+", "COUNT", "7"))[6][0]
        await there.ask("XDEL", "log", middle)
        assert await depth(there, "log/near") == Depth(5, 3)


async def test_counts_what_workers_have_taken(roof: Path) -> None:
    """Two hands, four taken in advance: all five tasks are with the worker, none is done."""
    async with celeries.broker(roof) as there:
        there.send("a", "meet", "5", "30")
        await there.ask("LPUSH", "other", "x")
        assert await depth(there) == Depth(5)
        with there.worker(roof / "w", "-c", "2", "--prefetch-multiplier", "2"):
            await until(lambda: _is(there, Depth(1, 4)))
            assert await depth(there, "other") == Depth(1)
            await there.ask("SET", "probe:a:full", "1")
            await there.ask("SET", "probe:a:gate", "1")
            await until(lambda: _is(there, Depth()))
        assert Counter(one["task"] for one in await there.log("a")) == {
            f"a-{n}": 2 for n in range(5)
        }


async def test_a_task_for_later_is_no_backlog(roof: Path) -> None:
    async with celeries.broker(roof) as there:
        with there.worker(roof / "w", "-c", "1"):
            there.send("a", "later", "3", "3600")
            await until(lambda: _equals(there.ask("HLEN", "unacked"), 3))
            assert await depth(there) == Depth()


async def test_a_warm_stop_ends_what_it_has_and_leaves_the_rest(roof: Path) -> None:
    async with celeries.broker(roof) as there:
        there.send("a", "meet", "6", "30")
        with there.worker(roof / "w", "-c", "2", "--prefetch-multiplier", "2") as worker:
            await until(lambda: _is(there, Depth(2, 4)))
            await until(lambda: _equals(there.ask("GET", "probe:a:in"), "2"))
            worker.send_signal(signal.SIGTERM)
            await there.ask("SET", "probe:a:full", "1")
            await there.ask("SET", "probe:a:gate", "1")
            assert await asyncio.to_thread(worker.wait, 30) == 0
        done = Counter(one["task"] for one in await there.log("a") if one["what"] == "end")
        left = await depth(there)
        assert set(done.values()) == {1}
        assert left == Depth(6 - len(done))
        with there.worker(roof / "w", "-c", "2"):
            await until(lambda: _is(there, Depth()))
        done = Counter(one["task"] for one in await there.log("a") if one["what"] == "end")
        assert done == {f"a-{n}": 1 for n in range(6)}


async def test_a_killed_workers_tasks_count_until_they_are_given_to_another(roof: Path) -> None:
    async with celeries.broker(roof) as there:
        there.send("a", "meet", "2", "30")
        with there.worker(roof / "w", "-c", "2", PROBE_VISIBILITY="2"):
            await until(lambda: _equals(there.ask("GET", "probe:a:in"), "2"))
        assert await depth(there) == Depth(0, 2)
        await there.ask("SET", "probe:a:full", "1")
        await there.ask("SET", "probe:a:gate", "1")
        with there.worker(roof / "w", "-c", "2", PROBE_VISIBILITY="2"):
            await until(lambda: _is(there, Depth()))
        log = await there.log("a")
        assert [one["what"] for one in log[:2]] == ["start", "start"]
        assert {one["task"] for one in log if one["what"] == "end"} == {"a-0", "a-1"}
        assert all(one["again"] for one in log if one["what"] == "end")


async def _is(there: celeries.Broker, wanted: Depth) -> bool:
    return await depth(there) == wanted


async def _equals(answer: Awaitable[object], wanted: object) -> bool:
    return await answer == wanted
