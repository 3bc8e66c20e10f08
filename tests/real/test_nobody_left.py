"""A service that loses all its replicas, on real parts: its requests wait for the next ones."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.real.standing import Load, Standing

REFUSED = "503"
"""What a request was told that did not wait; what was in hand ends otherwise."""


async def strike(stack: Standing) -> Load:
    """Load under which all replicas are killed at once, until it is served again."""
    await stack.do("up")
    async with Load(stack.url) as load:
        await load.more()
        before = stack.pids()
        for pid in before.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await stack.until(lambda: not set(before) & set(stack.pids()))
        await stack.do("wait")
        await load.more(50)
    return load


async def test_all_are_killed_at_once_and_nobody_is_refused(stack: Standing) -> None:
    load = await strike(stack)
    assert REFUSED not in load.failed
    assert (await stack.controller.site.edge.counters())["web"].nobody_left > 0
    assert sum(load.failed.values()) <= load.clients  # POSTs that were in hand


async def test_planted_nobody_waits(stack: Standing) -> None:
    stack.write(keys='wait = "0s"')
    assert (await strike(stack)).failed[REFUSED] > 0


async def test_nor_is_one_that_is_stopped_once_its_replicas_have_died(stack: Standing) -> None:
    """Nobody is there to be led out of the edge."""
    stack.write(replicas=1, keys='wait = "60s"')
    await stack.do("up")
    (mode,) = stack.controller.site.paths.releases.glob("r1/**/mode")
    mode.chmod(0o644)  # of a release, so sealed
    mode.write_text("crash 1\n")
    (pid,) = stack.pids().values()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await stack.until(lambda: stack.controller.observed.failures)
    early = asyncio.create_task(stack.get())
    await stack.until(lambda: not stack.controller.observed.replicas)
    assert not early.done()
    await stack.do("stop", services=["web"])
    for request in (early, stack.get()):
        assert (await asyncio.wait_for(request, 30))[0] == 503


@pytest.mark.parametrize("way", ["stop", "scale"])
async def test_a_service_that_is_to_have_none_is_not_waited_for(stack: Standing, way: str) -> None:
    stack.write(replicas=1, keys='wait = "60s"')
    await stack.do("up")
    if way == "stop":
        await stack.do("stop", services=["web"])
    else:
        await stack.do("scale", counts={"web": 0})
    assert (await asyncio.wait_for(stack.get(), 30))[0] == 503
    if way == "stop":
        await stack.do("start", services=["web"])
    else:
        await stack.do("scale", counts={"web": 1})
    assert (await stack.get())[0] == 200
