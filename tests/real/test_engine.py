"""The whole, on real parts: HAProxy, processes, the loop. Load is light; order is what counts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.real.standing import Load, Standing

from gapless import errors
from gapless.engine import clock, durable
from gapless.runtimes.process import priority


async def test_up_serves_and_down_leaves_nothing(stack: Standing) -> None:
    result = await stack.do("up")
    assert result["services"]["web"] == {"ready": 3, "wanted": 3}
    assert (await stack.get())[0] == 200
    assert len(stack.pids()) == 3
    await stack.do("down")
    assert stack.pids() == {}
    with pytest.raises(OSError, match="Cannot connect"):
        await stack.get()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has somebody else to be")
async def test_what_reads_from_strangers_is_not_root(stack: Standing) -> None:
    await stack.do("up")
    site = stack.controller.site
    (serving,) = Path(f"/proc/{stack.controller.observed.edge.pid}/task").glob("*/children")
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in serving.read_text().split()}
    assert owners == {site.uid("edge")}
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in stack.pids().values()}
    assert owners == {site.uid("web")}
    assert len({0, site.uid("edge"), site.uid("web")}) == 3


async def test_a_deploy_loses_nothing(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    stack.version("good", 2)
    async with Load(stack.url) as load:
        await load.more()
        result = await stack.do("deploy", wait=True)
        await load.more()
    assert load.failed == {}
    assert result["failed"] == 0
    assert result["release"] == 2
    assert set(stack.pids()) == {"web.1@r2", "web.2@r2", "web.3@r2"}
    assert not set(before.values()) & set(stack.pids().values())


async def test_an_unchanged_folder_is_not_deployed(stack: Standing) -> None:
    await stack.do("up")
    assert (await stack.do("deploy"))["unchanged"] is True
    assert set(stack.pids()) == {"web.1@r1", "web.2@r1", "web.3@r1"}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("crash", "ended before it was ready (exit code 3)"),
        ("never-ready", "was not ready within 4 s (GET /ready: 503"),
        ("bad", "run of bad answers"),
    ],
)
async def test_a_bad_version_costs_nothing(stack: Standing, mode: str, reason: str) -> None:
    await stack.do("up")
    before = stack.pids()
    stack.version(mode, 2)
    stack.write(start="4s" if mode == "never-ready" else "20s")
    async with Load(stack.url) as load:
        with pytest.raises(errors.Refused) as refusal:
            await stack.do("deploy")
    assert reason in refusal.value.message
    assert refusal.value.exit_code == 4
    assert before.items() <= stack.pids().items(), "an old replica was touched"
    bad = sum(load.failed.values())
    assert bad == 0 if mode != "bad" else bad <= 20
    assert (await stack.get())[0] == 200


async def test_rollback_goes_back_and_forth(stack: Standing) -> None:
    await stack.do("up")
    stack.version("good", 2)
    await stack.do("deploy", wait=True)
    async with Load(stack.url) as load:
        await stack.do("rollback", wait=True)
    assert load.failed == {}
    assert set(stack.pids()) == {"web.1@r1.2", "web.2@r1.2", "web.3@r1.2"}


async def test_scaling_touches_nobody_else(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    async with Load(stack.url) as load:
        await stack.do("scale", counts={"web": 5})
        assert before.items() <= stack.pids().items()
        await stack.do("scale", counts={"web": 2})
    assert load.failed == {}
    assert stack.pids().items() <= before.items()
    assert len(stack.pids()) == 2


async def test_a_restart_is_as_gapless_as_a_deploy(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    async with Load(stack.url) as load:
        await stack.do("restart", wait=True)
    assert load.failed == {}
    assert set(stack.pids()) == {"web.1@r1.2", "web.2@r1.2", "web.3@r1.2"}
    assert not set(before.values()) & set(stack.pids().values())


async def test_maintenance_answers_503_and_ends(stack: Standing) -> None:
    await stack.do("up")
    await stack.do("maintenance", on=True)
    status, _ = await stack.get()
    assert status == 503
    await stack.do("maintenance", on=False)
    assert (await stack.get())[0] == 200


async def test_a_killed_replica_is_replaced(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    await stack.controller.site.runtime.signal("web.2@r1", "KILL")
    # Dying takes its time: until then it counts as ready, and there is nothing to wait for.
    await stack.until(lambda: "web.2@r1" not in stack.pids())
    await stack.do("wait")
    after = stack.pids()
    assert set(after) == {"web.1@r1", "web.2@r1.2", "web.3@r1"}
    assert after["web.1@r1"] == before["web.1@r1"]


async def test_the_next_controller_adopts_everything(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    edge = stack.controller.observed.edge.pid
    async with Load(stack.url) as load:
        await stack.drop()
        await stack.begin()
        await stack.do("up")
    assert load.failed == {}
    assert stack.pids() == before
    assert stack.controller.observed.edge.pid == edge


@pytest.mark.parametrize("kept", [True, False])
async def test_the_next_controller_believes_old_workers_to_be_well(
    stack: Standing, kept: bool
) -> None:
    """They were ready long ago, and its first look comes before the first answer to its probes."""
    worker = '[service.work]\nrun = "/bin/sleep 1000"\nreplicas = 3\nstart = "1s"'
    stack.write(replicas=1, more=worker)
    await stack.do("up")
    before = stack.pids("work")
    book = stack.controller.site.notebook
    begun = max(r.started_at for r in stack.controller.observed.replicas)
    await asyncio.sleep(max(0.0, begun + 1 - clock.now()))
    await stack.drop()
    saved = durable.Notebook.load(book.path)
    assert all(saved.of(id).ever_ready for id in before)
    if not kept:
        book.path.unlink()
    await stack.begin()
    await stack.do("wait")
    assert stack.pids("work") == before


WEIGHT = "cat /proc/self/autogroup"
GIVES_WAY = f"""
[service.work]
run = ["/bin/sh", "-c", "{WEIGHT}; trap '{WEIGHT}; exit' TERM; while :; do sleep 0.1; done"]
"""


NO_AUTOGROUPS = pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="no autogroups here"
)


@NO_AUTOGROUPS
async def test_a_worker_gives_way_when_it_begins_beside_others_and_when_it_ends(
    stack: Standing,
) -> None:
    stack.write(replicas=1, more=GIVES_WAY)
    await stack.do("up")
    stack.version("good", 2)
    await stack.do("deploy")
    logs = stack.controller.site.paths.state / "logs"

    def weights(release: int) -> list[int]:
        (log,) = logs.glob(f"work.1@r{release}.log")
        return [int(line.split()[-1]) for line in log.read_text().splitlines()]

    async with asyncio.timeout(60):
        while len(weights(1)) < 2:
            await stack.controller.round_done()
    normal, gentle = priority.NORMAL, priority.BACKGROUND
    assert weights(1) == [normal, gentle]  # there was nobody to give way to at first
    assert weights(2) == [gentle]


@NO_AUTOGROUPS
async def test_who_has_a_request_in_hand_does_not_give_way_when_it_ends(stack: Standing) -> None:
    stack.write(replicas=1)
    text = stack.file.read_text().replace('drain = "5s"', 'drain = "1s"')
    stack.file.write_text(text.replace('grace = "2s"', 'grace = "20s"'))
    await stack.do("up")
    (pid,) = stack.pids().values()
    slow = asyncio.create_task(stack.get("/slow?s=8"))
    await stack.until(
        lambda: any(s.in_flight for s in stack.controller.observed.edge.servers.values())
    )
    restart = asyncio.create_task(stack.do("restart"))
    await stack.until(
        lambda: stack.controller.site.notebook.of("web.1@r1").signalled_at is not None
    )
    assert not slow.done()
    assert int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1]) == priority.NORMAL
    assert await slow == (200, "slow and steady\n")
    await restart


async def test_a_controller_lost_in_a_deploy_is_undone_by_the_next(stack: Standing) -> None:
    await stack.do("up")
    before = stack.pids()
    stack.version("good", 2)
    async with Load(stack.url) as load:
        deploy = asyncio.create_task(stack.operations.deploy({}))
        while not any("@r2" in id for id in stack.pids()):
            await stack.controller.round_done()
        await stack.drop()
        deploy.cancel()
        await asyncio.gather(deploy, return_exceptions=True)
        await stack.begin()
        await stack.do("wait")
    assert load.failed == {}
    assert stack.pids() == before
    outcome = stack.controller.desired.outcome
    assert outcome is not None
    assert not outcome.held
    assert "controller died" in outcome.reason
