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
from gapless.errors import Refused
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.machine import files
from gapless.runtimes.mixed import MixedRuntime

STACK = """
gapless = 1
name = "unit"
[service.web]
image = "{image}"
run = {run}
replicas = 2
ready = {{ path = "/ready", every = "200ms" }}
surge = "all"
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

    async def remains(self) -> tuple[list[str], list[str]]:
        """Names of its containers, dead ones too, and of its networks."""
        owner = spec.Owner(self.name, files.home(Paths.of(self.name).state))
        client = Client()
        found = await client.containers(owner.labels)
        networks = await client.networks(owner.labels)
        await client.close()
        return [body["Names"][0] for body in found], list(networks)

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


MADE = """
gapless = 1
name = "made"
setup = "pip install --no-index -r requirements.txt"
[service.web]
build = {{ base = "{base}" }}
run = ["python", "probe_app.py", "--socket", "${{socket}}"]
ready = {{ path = "/ready", every = "200ms" }}
start = "120s"
drain = "5s"
watch = "500ms"
limits = {{ memory = "128M", cpu = 1 }}

[job.look]
build = {{ context = "look", args = {{ FROM = "{base}" }}, target = "last" }}
run = ["/said"]
when = "release"

[edge]
listen = "127.0.0.1:{port}"
"""
LOOK = """
ARG FROM
FROM $FROM AS first
COPY said /said
FROM first AS last
ENTRYPOINT ["cat"]
FROM first AS beyond
RUN ["false"]
"""


class Made(Boxed):
    """A stack whose images are made of its source: with a base, and with a Dockerfile."""

    def __init__(self, folder: Path, base: str) -> None:
        (folder / "look").mkdir(parents=True)
        (folder / "look" / "Dockerfile").write_text(LOOK)
        (folder / "look" / "said").write_text("built by its Dockerfile\n")
        (folder / "requirements.txt").write_text("# nothing\n")
        super().__init__(folder, "made", base)

    def version(self, mode: str, mark: int = 1) -> None:
        Standing.version(self, mode, mark)

    def write(self, **_: Any) -> None:
        self.file.write_text(MADE.format(base=self.base, port=self.port))

    async def deploy(self) -> tuple[dict[str, Any], list[str]]:
        """And the lines that its build said."""
        said: list[str] = []
        with self.controller.events.listen() as heard:
            result = await self.do("deploy", wait=True)
            while not heard.empty():
                event = heard.get_nowait()
                said += [event["line"]] if event["event"] == "build" else []
        return result, said


async def test_source_and_setup_become_an_image_that_may_do_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = await asyncio.to_thread(docker_bench.python_image)
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        made = Made(folder / "app", base)
        await made.begin()
        try:
            await made.do("up")
            await inspected(await made.containers())
            (log,) = Paths.of("made").logs.glob("look*")
            assert "built by its Dockerfile" in log.read_text()
            # New source, and a setup that has nothing new to do: one layer.
            made.version("good", 2)
            async with Load(made.url) as load:
                result, said = await made.deploy()
                assert (result["release"], result["failed"]) == (2, 0)
                await unbuildable(made)
                assert set(await made.containers()) == {"web.1@r2"}
            assert (load.failed, load.answers["ok"] > 20) == ({}, True)
            setup = next(n for n, line in enumerate(said) if 'RUN ["pip"' in line)
            assert "Using cache" in said[setup + 1]
        finally:
            await made.operations.down({})
            left = await made.remains()
            await made.end()
        # What the release jobs left is ours too.
        assert left == ([], [])


async def inspected(containers: dict[str, str]) -> None:
    """No right, no place to write, none of the machine's people, and no more than its limits."""
    assert set(containers) == {"web.1@r1"}
    client = Client()
    for key in containers.values():
        body = await client.inspect(key)
        assert body is not None
        config, host = body["Config"], body["HostConfig"]
        assert int(config["User"].partition(":")[0]) > 0 or os.geteuid() != 0
        assert (host["CapAdd"] or [], host["CapDrop"]) == ([], ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["ReadonlyRootfs"] and list(host["Tmpfs"]) == ["/tmp"]
        assert host["NanoCpus"] == 10**9 and host["Memory"] >= 128 * 1024**2
        assert host["LogConfig"]["Config"] == {"max-size": "16m", "max-file": "3"}
        assert not host["PortBindings"] and not host["Privileged"]
    await client.close()


async def unbuildable(made: Made) -> None:
    """What cannot be built is told with its cause, and the old version serves on."""
    before = await made.containers()
    requirements = made.folder / "requirements.txt"
    requirements.write_text("no-such-thing-anywhere\n")
    with pytest.raises(Refused) as caught:
        await made.do("deploy")
    assert caught.value.message.startswith("web: build: docker: ")
    assert any("no-such-thing-anywhere" in line for line in caught.value.detail["lines"])
    requirements.write_text("# nothing\n")
    text = made.file.read_text()
    made.file.write_text(text.replace(f'base = "{made.base}"', 'base = "127.0.0.1:9/none:1"'))
    with pytest.raises(Refused) as caught:
        await made.do("deploy")
    assert "web: build: 127.0.0.1:9/none:1 is not here, and no registry" in caught.value.message
    made.file.write_text(text)
    assert await made.containers() == before


BARE = """
gapless = 1
name = "bare"
[service.web]
image = "{image}"
run = "python3 -m http.server ${{port}}"
route = "/"
replicas = 2
start = "120s"
drain = "1s"
watch = "200ms"

[job.ask]
image = "{image}"
run = ["python3", "/ask.py"]
user = "12345:54321"
volumes = {{ "/ask.py" = {{ source = "ask.py", read_only = true }} }}
env = {{ DB = "${{db.url}}", CACHE = "${{cache.url}}", WEB = "${{web.url}}", API = "${{api.url}}" }}

[service.api]
image = "{image}"
run = "python3 -m http.server ${{port}}"
route = false
start = "120s"
drain = "1s"
watch = "200ms"

[data.db]
type = "postgres"
[data.cache]
type = "redis"

[edge]
listen = "127.0.0.1:{port}"
"""
ASK = """
import json, os, socket
from urllib.parse import urlsplit

def ask(url, words, amount):
    try:
        with socket.create_connection((url.hostname, url.port), 5) as line:
            line.sendall(words)
            return line.recv(amount).decode()
    except ConnectionError:
        return ""

names = ("DB", "CACHE", "WEB", "API")
urls = {key: urlsplit(os.environ[key]) for key in names if key in os.environ}
hello = b"\\x00\\x03\\x00\\x00user\\x00app\\x00database\\x00app\\x00\\x00"
get = b"GET / HTTP/1.0\\r\\n\\r\\n"
found = {"as": [os.getuid(), os.getgid()]}
found["at"] = [f"//{url.hostname}:{url.port}" for url in urls.values()]
# A request for a password, or an error; a right password; a page.
words = {"DB": (len(hello) + 4).to_bytes(4, "big") + hello, "WEB": get, "API": get}
words["CACHE"] = f"AUTH {urls['CACHE'].password}\\r\\n".encode()
parts = {"DB": slice(0, 1), "CACHE": slice(0, 3), "WEB": slice(9, 12), "API": slice(9, 12)}
for name, url in urls.items():
    found[name.lower()] = ask(url, words[name], parts[name].stop)[parts[name]]
print(json.dumps(found))
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
        (folder / "ask.py").write_text(ASK)
        name = f"foreign-{port}"
        key, _ = await client.create(name, {"Image": base, "Cmd": ["sleep", "600"]})
        try:
            await client.start(key)
            code, said = await gapless(folder, "check")
            assert (code, "images need --target docker" in said) == (2, True)
            await gapless(folder, "check", "--target", "docker", well=True)
            await gapless(folder, "up", "-d", "--target", "docker", well=True)
            before = await living("bare")
            assert set(before) == {"web.1@r1", "web.2@r1", "api.1@r1"}
            assert await status(port) == 200
            _, said = await gapless(folder, "run", "ask", well=True)
            found = json.loads(next(line for line in said.splitlines() if line[:1] == "{"))
            assert found.pop("as") == [12345, 54321]
            places = found.pop("at")
            assert found == {"db": "R", "cache": "+OK", "web": "200", "api": "200"}
            # Who is in no network of the stack's finds doors that are shut to it.
            assert await asked_from_elsewhere(client, base, places) == {
                "db": "E", "cache": "-WR", "web": "", "api": ""
            }  # fmt: skip
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


async def asked_from_elsewhere(client: Client, base: str, places: list[str]) -> dict[str, str]:
    """What a container of somebody else hears at the addresses that are the stack's own."""
    names = ("DB", "CACHE", "WEB", "API")
    env = [f"{name}=http:{place}" for name, place in zip(names, places, strict=True)]
    body = {"Image": base, "Cmd": ["python3", "-c", ASK], "Env": env}
    key, _ = await client.create(f"asker-{places[2].rpartition(':')[2]}", body)
    try:
        await client.start(key)
        pieces = [piece async for piece in client.output(key, "0")]
        said = b"".join(pieces).decode()
        assert "{" in said, said
        found: dict[str, Any] = json.loads(said[said.index("{") :])
    finally:
        await client.remove(key, force=True)
    return {name: found[name] for name in ("db", "cache", "web", "api")}


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
