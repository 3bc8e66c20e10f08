"""Images in containers, steered like processes: started, switched, rolled back, adopted, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.real.standing import Load, Standing, open_folder
from tests.runtimes import docker_bench

from gapless import stackfile
from gapless.drills import ports, probe_app
from gapless.engine import main
from gapless.engine.controller import Controller
from gapless.engine.operations import Operations
from gapless.engine.paths import Paths
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.mixed import MixedRuntime

STACK = """
gapless = 1
name = "unit"
[service.web]
image = "{image}"
run = {run}
replicas = 2
ready = "/ready"
start = "120s"
drain = "5s"
grace = "2s"
watch = "500ms"
volumes = {{ "/given" = "gapless.toml" }}
env = {{ MODE = "/app/mode" }}

[service.beside]
run = ["sleep", "600"]

[edge]
listen = "127.0.0.1:{port}"
"""


class Boxed(Standing):
    """A stack whose service is an image under a tag that moves on with each version."""

    patience = 180
    run = '["python3", "app.py", "--socket", "${socket}"]'

    def __init__(self, folder: Path, name: str, base: str) -> None:
        self.base = base
        super().__init__(folder, name)
        self.image = f"gapless-test-app:p{self.port}"
        self.write()

    def version(self, mode: str, mark: int = 1) -> None:
        """Nothing: versions are images (``build``)."""

    def write(self, **_: Any) -> None:
        image = getattr(self, "image", "none")
        self.file.write_text(STACK.format(image=image, run=self.run, port=self.port))

    async def build(self, mode: str, mark: int) -> None:
        """Move the tag on to another image."""
        files = {"app.py": Path(probe_app.__file__).read_bytes()}
        files["mode"] = f"{mode} {mark}\n".encode()
        await docker_bench.application(self.base, files, self.image)

    async def begin(self) -> None:
        paths = Paths.of(self.name)
        paths.make()
        stack = stackfile.load(self.file).stack
        self.controller = Controller(main.site(paths, stack, self.folder, "docker"))
        self.operations = Operations(self.controller, self.file, None)
        self.controller.adopt()
        self._task = asyncio.create_task(self.controller.run())
        await self.controller.round_done()

    async def close(self) -> None:
        self.controller.site.journal.close()
        runtime = self.controller.site.runtime
        assert isinstance(runtime, MixedRuntime)
        await runtime.close()

    async def containers(self) -> dict[str, str]:
        return await living(self.name)


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Boxed]:
    base = await asyncio.to_thread(docker_bench.python_image)
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        running = Boxed(folder / "app", "unit", base)
        await running.build("good", 1)
        await running.begin()
        try:
            yield running
        finally:
            if not running.controller.stopping:
                await running.operations.down({})
            await running.end()


async def test_an_image_is_deployed_rolled_back_and_adopted_without_a_gap(stack: Boxed) -> None:
    await stack.do("up")
    assert set(await stack.containers()) == {"web.1@r1", "web.2@r1"}
    assert "beside.1@r1" in {str(r.id) for r in stack.controller.observed.replicas}
    assert (await stack.do("deploy"))["unchanged"] is True
    # The tag moves on: the file is the same, and what it names is not.
    await stack.build("good", 2)
    async with Load(stack.url) as load:
        result = await stack.do("deploy", wait=True)
        assert set(await stack.containers()) == {"web.1@r2", "web.2@r2"}
        # And back, to the very image that the tag had left.
        await stack.do("rollback", wait=True)
        before = await stack.containers()
        assert set(before) == {"web.1@r1.2", "web.2@r1.2"}
        # The controller is cut off, and the next one takes over what runs.
        await stack.drop()
        await stack.begin()
        await stack.do("wait")
        assert await stack.containers() == before
    assert load.failed == {}
    assert load.answers["ok"] > 100
    assert (result["release"], result["failed"]) == (2, 0)


BARE = """
gapless = 1
name = "bare"
[service.web]
image = "{image}"
run = "python3 -m http.server ${{port}}"
replicas = 2
start = "120s"
drain = "1s"
watch = "200ms"

[job.ask]
image = "{image}"
run = ["python3", "-c", "import os; print(open('/given').read()[1:12], os.getuid(), os.getgid())"]
user = "12345:54321"
volumes = {{ "/given" = {{ source = "gapless.toml", read_only = true }} }}

[edge]
listen = "127.0.0.1:{port}"
"""


async def test_the_command_runs_images_and_down_takes_what_is_ours_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = await asyncio.to_thread(docker_bench.python_image)
    client = Client()
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        port = ports.reserve()
        (folder / "gapless.toml").write_text(BARE.format(image=base, port=port))
        name = f"foreign-{port}"
        key, _ = await client.create(name, {"Image": base, "Cmd": ["sleep", "600"]})
        try:
            await client.start(key)
            code, said = await gapless(folder, "check")
            assert (code, "image services need --target docker" in said) == (2, True)
            await gapless(folder, "check", "--target", "docker", well=True)
            await gapless(folder, "up", "-d", "--target", "docker", well=True)
            before = await living("bare")
            assert set(before) == {"web.1@r1", "web.2@r1"}
            assert await status(port) == 200
            _, said = await gapless(folder, "run", "ask", well=True)
            assert "gapless = 1 12345 54321" in said
            # Remembered: the next one is not told where the stack runs, and another is refused.
            holder = json.loads((await gapless(folder, "lock", "status", "--json"))[1])["holder"]
            os.kill(int(holder.split()[1].rstrip(",")), signal.SIGKILL)
            assert await status(port) == 200
            code, said = await gapless(folder, "up", "-d", "--target", "process")
            assert (code, "runs on target docker, not process" in said) == (4, True)
            await gapless(folder, "up", "-d", well=True)
            assert await living("bare") == before
            await gapless(folder, "down", well=True)
            assert await client.containers({spec.STACK: "bare"}) == []
            assert await client.networks({spec.STACK: "bare"}) == []
            foreign = await client.inspect(key)
            assert foreign is not None and foreign["State"]["Running"]
        finally:
            await gapless(folder, "down")
            await client.remove(key, force=True)
            await client.close()


async def gapless(folder: Path, *words: str, well: bool = False) -> tuple[int, str]:
    """One command in a folder: its exit code and all that it said. ``well``: it must succeed."""
    command = [sys.executable, "-m", "gapless", *words]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    said = done.stdout + done.stderr
    assert not well or done.returncode == 0, said
    return done.returncode, said


async def status(port: int) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as got:
        return got.status


async def living(stack: str) -> dict[str, str]:
    """Id to the engine's key, of all containers of a stack that live."""
    client = Client()
    found = await client.containers({spec.STACK: stack})
    await client.close()
    return {b["Labels"][spec.ID]: b["Id"] for b in found if b["State"] == "running"}
