"""A reboot: all processes are gone, the state is kept, and the stack comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess

from tests.real.standing import Standing

from gapless import errors
from gapless.engine.paths import Paths
from gapless.runtimes.machine import proc
from gapless.runtimes.process import records, sessions

ANOTHER_BOOT = "0" * 8 + "-0000-4000-8000-" + "0" * 12
CACHE = """
[data.cache]
type = "redis"
"""


def serving(stack: Standing) -> int:
    found = stack.controller.observed.replicas
    return sum(r.server is not None and r.server.takes_work for r in found)


async def ask_store(stack: Standing, line: str) -> str:
    """One line for the store's own shell, once it is there, and what it says."""
    await stack.until(lambda: stack.controller.observed.data["cache"].state == "ready")
    argv, env = stack.controller.site.stores["cache"].shell()
    done = await asyncio.to_thread(
        subprocess.run,
        argv,
        input=f"{line}\n",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().strip('"')


def power_off(paths: Paths) -> list[records.Record]:
    """Everything of the stack dies at once; what was recorded of it is of a boot that is over."""
    kept = records.Records(paths.state, paths.stack)
    found = [record for name in kept.names() if (record := kept.load(name)) is not None]
    for record in found:
        assert sessions.kill(record, wait=True)
    for place in (paths.state / "procs").glob("*.json"):
        document = json.loads(place.read_text())
        place.write_text(json.dumps(document | {"boot": ANOTHER_BOOT}))
    notebook = paths.state / "notebook.json"
    notebook.write_text(json.dumps(json.loads(notebook.read_text()) | {"boot": ANOTHER_BOOT}))
    shutil.rmtree(paths.run)
    return found


def reuse_pids(paths: Paths, stranger: int) -> None:
    """The pids of all that ran are somebody else's now: of one since the boot, of one before."""
    for number, place in enumerate(sorted((paths.state / "procs").glob("*.json"))):
        document = json.loads(place.read_text()) | {"pid": stranger}
        if number == 0:
            document["boot"] = proc.boot()
        place.write_text(json.dumps(document))


async def test_everything_comes_back_by_itself(stack: Standing) -> None:
    stack.write(replicas=2, watch="0s", more=CACHE)
    await stack.do("up")
    assert await ask_store(stack, "SET kept yes") == "OK"
    assert await ask_store(stack, "SAVE") == "OK"
    before = set(stack.pids().values())
    paths = Paths.of(stack.name)
    await stack.drop()
    assert len(power_off(paths)) == 4
    stranger = await asyncio.create_subprocess_exec("/bin/sleep", "600", start_new_session=True)
    try:
        reuse_pids(paths, stranger.pid)
        await stack.begin()
        await stack.until(lambda: serving(stack) == 2)
        assert (await stack.get())[0] == 200
        assert stack.controller.desired.stack == 1
        assert not before & set(stack.pids().values())
        assert await ask_store(stack, "GET kept") == "yes"
        assert stranger.returncode is None
        await stack.do("down")
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_port_that_somebody_took_meanwhile_is_given_up(stack: Standing) -> None:
    stack.write(replicas=1, watch="0s", more=CACHE)
    await stack.do("up")
    assert await ask_store(stack, "SET kept yes") == "OK"
    await stack.do("down")
    await stack.end()
    port = stack.controller.site.notebook.ports["data.cache"]
    stranger = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with stranger:
        await stack.begin()
        await stack.do("up")
        assert await ask_store(stack, "GET kept") == "yes"
        assert stack.controller.site.notebook.ports["data.cache"] != port
    said = [str(event["what"]) for event in stack.controller.site.journal.tail(500)]
    assert any(f"listens on {port}" in line for line in said)


async def test_ports_stay_as_long_as_anything_runs(stack: Standing) -> None:
    stack.write(replicas=1, watch="0s", more=CACHE)
    await stack.do("up")
    before = dict(stack.controller.site.notebook.ports)
    await stack.drop()
    await stack.begin()
    assert stack.controller.site.notebook.ports == before
    assert await ask_store(stack, "PING") == "PONG"


async def test_what_was_taken_down_stays_down(stack: Standing) -> None:
    stack.write(replicas=1, watch="0s")
    await stack.do("up")
    await stack.do("down")
    await stack.end()
    paths = Paths.of(stack.name)
    power_off(paths)
    await stack.begin()
    await stack.controller.round_done()
    assert stack.operations.nothing_to_keep
    assert stack.controller.observed.replicas == ()


async def test_a_deploy_that_the_power_cut_short_is_undone(stack: Standing) -> None:
    stack.write(replicas=1, watch="2s")
    await stack.do("up")
    stack.version("good", 2)
    deploy = asyncio.create_task(stack.operations.deploy({}))
    while not any("@r2" in id for id in stack.pids()):
        await stack.controller.round_done()
    await stack.drop()
    deploy.cancel()
    await asyncio.gather(deploy, return_exceptions=True)
    power_off(Paths.of(stack.name))
    await stack.begin()
    await stack.until(lambda: stack.controller.desired.rollout is None and serving(stack) == 1)
    outcome = stack.controller.desired.outcome
    assert outcome is not None
    assert not outcome.held
    assert stack.controller.desired.stack == 1


async def test_down_needs_no_release_that_can_be_read(stack: Standing) -> None:
    stack.write(replicas=1, watch="0s", more=CACHE)
    await stack.do("up")
    await stack.end()
    paths = Paths.of(stack.name)
    manifest = paths.releases / "r1/release.json"
    good = manifest.read_text()
    manifest.write_text("{")
    await stack.begin()
    # What serves is not given up for a file that cannot be read …
    while stack.controller.blind is None:
        with contextlib.suppress(errors.Damaged):
            await stack.controller.round_done()
    assert (await stack.get())[0] == 200
    # … and what is to stop can be stopped: programs are known by their own records.
    await stack.do("down")
    manifest.write_text(good)
    assert [found.id for found in await stack.controller.site.runtime.look() if found.alive] == []
