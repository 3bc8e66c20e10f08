"""The database dies and comes back: nobody is restarted, everybody says why, traffic returns.

What happens is noted as it happens; counts and the order of events decide, times are logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.examples import stores
from tests.real import dependent_app
from tests.real.standing import Standing, open_folder

import gapless.app
from gapless import errors
from gapless.drills import scratch
from gapless.engine import status

log = logging.getLogger(__name__)

LOOKS_AFTER = 4
"""Looks after the return in which nobody may be restarted for what was before."""

STACK = """
gapless = 1
name = "{name}"
[env]
DATABASE_URL = "${{db.url}}"
[service.web]
run = ["{python}", "dependent_app.py", "${{port}}"]
replicas = 3
ready = "/health/ready"
live = {{ path = "{live}", every = "500ms", after = 2 }}
start = "20s"
[data.db]
type = "postgres"
url = "{url}"
[edge]
listen = "127.0.0.1:{port}"
"""


@pytest.fixture(scope="module")
def database() -> Iterator[stores.Running]:
    with stores.running() as (db, _):
        yield db


@dataclass
class Outage:
    """What was seen of it."""

    pids: list[dict[str, int | None]] = field(default_factory=list)
    """Before, during, after."""
    live: set[int] = field(default_factory=set)
    """Answers of the replicas' live pages while it lasted."""
    reasons: set[str] = field(default_factory=set)
    """Why they are not ready, as ``ps`` has it."""
    edge: tuple[int, str | None] = (0, None)
    """What users got in the end: status and Retry-After."""
    refusal: str = ""


def judge(seen: Outage) -> list[str]:
    """What did not hold."""
    before, during, after = seen.pids
    faults = []
    if not (before == during == after):
        faults.append(f"restarted: {before} became {during} and {after}")
    if seen.live != {200}:
        faults.append(f"live pages: {seen.live}")
    if not seen.reasons or not all('503, "db: ' in reason for reason in seen.reasons):
        faults.append(f"reasons: {seen.reasons}")
    if seen.edge[0] != 503 or seen.edge[1] is None:
        faults.append(f"users got {seen.edge}")
    if "db" not in seen.refusal:
        faults.append(f"a deploy said {seen.refusal!r}")
    return faults


async def replica_says(stack: Standing, page: str) -> set[int]:
    """What the replicas themselves answer."""
    found = set()
    async with aiohttp.ClientSession() as session:
        for one in stack.controller.observed.replicas:
            if one.alive and one.address is not None:
                url = f"http://{one.address.host}:{one.address.port}{page}"
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        found.add(answer.status)
    return found


async def until(what: str, true: Any, seconds: float = 30.0) -> float:
    """Seconds until it is true; the test fails when it never is."""
    begin = time.monotonic()
    while not await true():
        assert time.monotonic() - begin < seconds, f"never came: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - begin


async def at_edge(stack: Standing) -> tuple[int, str | None]:
    """Status and Retry-After that a user gets."""
    async with aiohttp.ClientSession() as session, session.get(stack.url + "/") as answer:
        return answer.status, answer.headers.get("Retry-After")


@contextlib.asynccontextmanager
async def running(
    database: stores.Running, mode: str, live: str = "/health/live"
) -> AsyncIterator[Standing]:
    """Three replicas of the application, which run ``mode``; whether they live is asked there."""
    with open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(folder / "state"))
        stack = Standing(folder / "app", "needs")
        shutil.copy(dependent_app.__file__, stack.folder / "dependent_app.py")
        library = Path(gapless.app.__file__).parent
        shutil.copytree(library, stack.folder / "gapless/app")
        (stack.folder / "gapless/__init__.py").touch()
        stack.version(mode)
        stack.file.write_text(
            STACK.format(
                name=stack.name,
                python=scratch.interpreter(),
                port=stack.port,
                url=database.url,
                live=live,
            )
        )
        await stack.begin()
        try:
            await stack.do("up")
            yield stack
        finally:
            await stack.operations.down({})
            await stack.end()


async def outage(stack: Standing, away: Any, back: Any) -> Outage:
    """Take the database away, look, bring it back, look."""
    seen = Outage()

    async def answers_503() -> bool:
        seen.edge = await at_edge(stack)
        return seen.edge[0] == 503

    async def serves() -> bool:
        return (await at_edge(stack))[0] == 200

    async def told() -> bool:
        report = status.report(stack.controller, {})
        found = [one["reason"] for one in report["services"][0]["replicas"]]
        seen.reasons = set(found)
        return all('"db: ' in reason for reason in found)

    seen.pids.append(stack.pids())
    await asyncio.to_thread(away)
    log.info("users get 503 after %.2f s", await until("503", answers_503))
    begin = time.monotonic()
    await at_edge(stack)
    log.info("and at once: %.0f ms", 1000 * (time.monotonic() - begin))
    with contextlib.suppress(AssertionError):
        log.info("ps says why after %.2f s more", await until("the reason", told, 10))
    assert await replica_says(stack, "/health/ready") <= {503}
    for _ in range(10):
        seen.live |= await replica_says(stack, "/health/live")
        await asyncio.sleep(0.3)
    try:
        await stack.do("deploy")
    except errors.Refused as refusal:
        seen.refusal = refusal.message
    seen.pids.append(stack.pids())
    await asyncio.to_thread(back)
    log.info("traffic is back after %.2f s", await until("200", serves))
    for _ in range(LOOKS_AFTER):
        await stack.controller.round_done()
    seen.pids.append(stack.pids())
    return seen


@pytest.mark.parametrize("live", ["/health/live", "/health/ready"])
async def test_a_database_that_is_gone_restarts_nobody(database: stores.Running, live: str) -> None:
    """Not even where the question whether they live was wired to the database by mistake."""
    async with running(database, "good", live) as stack:
        seen = await outage(stack, database.stop, database.start)
        assert judge(seen) == []


async def test_a_database_that_hangs_restarts_nobody(database: stores.Running) -> None:
    async with running(database, "good") as stack:
        seen = await outage(stack, lambda: database.freeze(True), lambda: database.freeze(False))
        assert judge(seen) == []


async def test_a_program_that_ends_with_its_database_is_found(database: stores.Running) -> None:
    """The planted fault: it takes itself down, and the judge says so."""
    async with running(database, "dies") as stack:
        seen = await outage(stack, database.stop, database.start)
        assert [fault.partition(":")[0] for fault in judge(seen)][:1] == ["restarted"]
