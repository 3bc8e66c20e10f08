"""Healing on real parts: stopped, lifeless, too large, too old. Who and in which order counts."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.real.standing import Load, Standing

from gapless.drills import probe_app
from gapless.engine import status
from gapless.observed import Replica
from gapless.runtimes.process import cgroups


@pytest.fixture
def stack(stack: Standing) -> Standing:
    here = Path(__file__).parent
    shutil.copyfile(probe_app.__file__, stack.folder / "probe_base.py")
    shutil.copyfile(here / "ailing.py", stack.folder / "probe_app.py")
    return stack


def replicas(stack: Standing) -> dict[str, Replica]:
    return {str(r.id): r for r in stack.controller.observed.replicas}


async def ask(stack: Standing, id: str, path: str) -> str:
    """Ask one replica at its own address."""
    address = replicas(stack)[id].address
    assert address is not None
    assert address.socket is not None
    connector = aiohttp.UnixConnector(path=address.socket, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://localhost{path}") as answer,
    ):
        return await answer.text()


def steps(stack: Standing) -> list[tuple[str, str]]:
    """(step, cause) of all that the controller did, oldest first."""
    return [(e["what"], e["cause"]) for e in stack.controller.site.journal.tail(500)]


async def test_a_stopped_replica_leaves_and_is_replaced(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    victim = before["web.2@r1"]
    assert victim
    async with Load(stack.url) as load:
        os.kill(victim, signal.SIGSTOP)
        await stack.until(lambda: "web.2@r1.2" in stack.pids())
        await stack.do("wait")
    lost = sum(load.failed.values())
    assert lost <= 2, f"more than what was in flight and could not be sent again: {load.failed}"
    after = stack.pids()
    assert set(after) == {"web.1@r1", "web.2@r1.2", "web.3@r1"}
    assert after["web.1@r1"] == before["web.1@r1"]
    done = [text for text, _ in steps(stack)]
    assert done.index("web.2@r1 leave edge") < done.index("web.2@r1 kill")
    causes = dict(steps(stack))
    assert "stood still" in causes["web.2@r1.2 start"]


async def test_one_that_goes_on_in_time_is_taken_back(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    victim = before["web.2@r1"]
    assert victim
    os.kill(victim, signal.SIGSTOP)
    await stack.until(lambda: "web.2@r1 leave edge" in dict(steps(stack)))
    os.kill(victim, signal.SIGCONT)
    await stack.do("wait")
    assert stack.pids() == before
    assert [text for text, _ in steps(stack)].count("web.2@r1 enter edge") == 2


async def test_failed_liveness_restarts_one_at_a_time(stack: Standing) -> None:
    stack.write(keys='live = { path = "/live", every = "200ms", after = 2 }')
    await stack.do("up")
    await ask(stack, "web.1@r1", "/fall-ill")
    await ask(stack, "web.3@r1", "/fall-ill")
    wanted = {"web.1@r1.2", "web.2@r1", "web.3@r1.2"}
    await stack.until(lambda: set(stack.pids()) == wanted)
    await stack.do("wait")
    done = [text for text, _ in steps(stack)]
    first, second = sorted(done.index(f"web.{n}@r1 leave edge") for n in (1, 3))
    healed = done[first].split()[0].replace("@r1", "@r1.2")
    assert first < done.index(f"{healed} enter edge") < second
    assert 'is not live (GET /live: 500, "ill")' in dict(steps(stack))[f"{healed} start"]


async def test_a_liveness_that_never_answers_well_ends_the_deploy(stack: Standing) -> None:
    stack.write(watch="8s", keys='live = "/no-such-page"')
    with pytest.raises(Exception, match="failed its liveness probe"):
        await stack.do("up")


async def test_too_much_memory_is_replaced_without_a_gap(stack: Standing) -> None:
    stack.write(keys='limits = { memory = "64M" }')
    await stack.do("up")
    async with Load(stack.url) as load:
        assert await ask(stack, "web.2@r1", "/eat?mb=60") == "eaten\n"
        await stack.until(lambda: set(stack.pids()) == {"web.1@r1", "web.2@r1.2", "web.3@r1"})
    assert load.failed == {}
    done = [text for text, _ in steps(stack)]
    assert done.index("web.2@r1.2 enter edge") < done.index("web.2@r1 leave edge")
    assert "is over its memory limit" in dict(steps(stack))["web.2@r1.2 start"]


async def test_recycling_by_requests_loses_nothing(stack: Standing) -> None:
    stack.write(keys="recycle = { requests = 150 }")
    await stack.do("up")
    before = set(stack.pids())
    async with Load(stack.url) as load:
        await stack.until(lambda: not before & set(stack.pids()))
    assert load.failed == {}
    done = [text for text, _ in steps(stack)]
    for id in before:
        assert done.index(f"{id}.2 enter edge") < done.index(f"{id} leave edge")


async def test_recycling_by_age_loses_nothing(stack: Standing) -> None:
    stack.write(keys='recycle = { age = "10s" }')
    await stack.do("up")
    before = set(stack.pids())
    async with Load(stack.url) as load:
        await stack.until(lambda: before - set(stack.pids()))
    assert load.failed == {}
    assert any("@r1 is 1" in cause and "s old" in cause for _, cause in steps(stack))


async def test_one_that_runs_away_hits_the_wall_and_only_it(stack: Standing) -> None:
    if any(cgroups.Cgroups(f"test-{os.getpid()}").kept().values()):
        pytest.skip("no control groups here")
    stack.write(keys='limits = { memory = "64M", cpu = 1.5 }')
    await stack.do("up")
    before = stack.pids()
    with pytest.raises(aiohttp.ClientError):
        await ask(stack, "web.2@r1", "/eat?mb=200")
    await stack.until(lambda: "web.2@r1.2" in stack.pids())
    await stack.do("wait")
    assert dict(steps(stack))["web.2@r1.2 start"] == "web.2@r1 ended: killed at its memory limit"
    assert {id: pid for id, pid in stack.pids().items() if id in before}.items() <= before.items()
    assert (await stack.get())[0] == 200


async def test_a_crash_is_told_from_a_start_that_fails(stack: Standing) -> None:
    await stack.do("up")
    victim = stack.pids()["web.2@r1"]
    assert victim
    os.kill(victim, signal.SIGKILL)
    await stack.until(lambda: "web.2@r1.2" in stack.pids())
    await stack.do("wait")
    assert "killed by signal 9, " in dict(steps(stack))["web.2@r1 crashed"]
    row = next(r for r in rows(stack) if r["id"] == "web.2@r1.2")
    assert row["last_end"].startswith("web.2@r1 crashed: killed by signal 9, ")
    assert row["restarts"] == 0, "who had been ready starts again at once"
    # Now the release is there no more, and no successor can start.
    tree = stack.controller.site.releases.get(1).tree
    (tree / "mode").chmod(0o644)
    (tree / "mode").write_text("crash 1\n")
    os.kill(stack.pids()["web.1@r1"] or 0, signal.SIGKILL)
    await stack.until(lambda: any(r["state"] == "backing-off" for r in rows(stack)))
    row = next(r for r in rows(stack) if r["state"] == "backing-off")
    assert row["id"] == "web.1"
    assert row["reason"].startswith("web.1@r1.2 cannot start: exit code 3")
    assert "made to crash at start" in dict(steps(stack))["web.1@r1.2 cannot start"]
    assert "web.1@r1.2 crashed" not in dict(steps(stack))


def rows(stack: Standing) -> list[dict[str, Any]]:
    """The replicas of web as ``ps`` shows them."""
    (service,) = status.report(stack.controller, {})["services"]
    found: list[dict[str, Any]] = service["replicas"]
    return found
