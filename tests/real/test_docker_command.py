"""A stack by the command alone: images, and stores of the machine and in containers. Reached by
address and by name, and not by others; killed, adopted, ended, and kept over ``down``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.real import boxed
from tests.real.boxed import gapless, living, roof
from tests.runtimes import docker_bench

from gapless.drills import ports
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client

FILE = """
gapless = 1
name = "bare"
[service.web]
image = "{image}"
run = "python3 -m http.server ${{port}}"
route = "/"
env = {{ CACHE = "${{quick.url}}" }}
start = "120s"
drain = "1s"
grace = "1s"
watch = "200ms"

[service.api]
image = "{image}"
run = "python3 -m http.server ${{port}}"
route = false
start = "120s"
drain = "1s"
grace = "1s"
watch = "200ms"

[job.ask]
image = "{image}"
run = ["python3", "/ask.py"]
user = "12345:54321"
volumes = {{ "/ask.py" = {{ source = "ask.py", read_only = true }} }}
env = {{ DB = "${{db.url}}", CACHE = "${{cache.url}}", WEB = "${{web.url}}", API = "${{api.url}}" }}

[job.inside]
image = "{image}"
run = ["python3", "/ask.py"]
volumes = {{ "/ask.py" = {{ source = "ask.py", read_only = true }} }}
env = {{ DB = "${{kept.url}}", CACHE = "${{quick.url}}" }}

[data.db]
type = "postgres"
[data.cache]
type = "redis"
[data.kept]
type = "postgres"
image = "{stores}"
settings = {{ max_connections = 30 }}
[data.quick]
type = "redis"
image = "{stores}"

[edge]
listen = "127.0.0.1:{port}"
"""
STORES = {"data.kept", "data.quick"}
IDS = STORES | {"web.1@r1", "api.1@r1"}
NAMED = {"web-r1", "api-r1", "ask-r1", "inside-r1"}


@dataclass(frozen=True)
class Place:
    """``foreign``: the key of a container that is somebody else's."""

    folder: Path
    port: int
    image: str
    foreign: str
    client: Client

    async def command(self, *words: str) -> str:
        """One that succeeds; what it said."""
        return (await gapless(self.folder, *words, well=True))[1]


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    image = await asyncio.to_thread(docker_bench.python_image)
    stores = await asyncio.to_thread(docker_bench.stores_image)
    port = ports.reserve()
    client = Client()
    async with roof(monkeypatch, "bare") as folder:
        text = FILE.format(image=image, stores=stores, port=port)
        (folder / "gapless.toml").write_text(text)
        (folder / "ask.py").write_text(boxed.ASK)
        key, _ = await client.create(f"foreign-{port}", {"Image": image, "Cmd": ["sleep", "600"]})
        try:
            await client.start(key)
            yield Place(folder, port, image, key, client)
        finally:
            await gapless(folder, "down")
            await client.remove(key, force=True)
            await client.close()


async def test_the_command_runs_images_and_stores_and_down_takes_what_is_ours_alone(
    place: Place,
) -> None:
    code, said = await gapless(place.folder, "check")
    assert (code, "images need --target docker" in said) == (2, True)
    await place.command("check", "--target", "docker")
    await place.command("up", "-d", "--target", "docker")
    before = await living("bare")
    assert set(before) == IDS
    assert await status(place.port) == 200
    found = await asked(place, "ask")
    assert found.pop("as") == [12345, 54321]
    places = found.pop("at")
    assert found == {"db": "R", "cache": "+OK", "web": "200", "api": "200"}
    # Who is in no network of the stack's finds doors that are shut to it.
    assert await asked_from_elsewhere(place.client, place.image, places) == {
        "db": "E", "cache": "-WR", "web": "", "api": ""
    }  # fmt: skip
    await inspected(before)
    await apart(before)
    await inside(place)
    system = identity(place.folder)
    after = await killed(place, before)
    await taken_up(place, after)
    await pruned(place)
    await place.command("down")
    await pruned(place)
    own = boxed.owner("bare").labels
    assert await place.client.containers(own) == []
    assert await place.client.networks(own) == []
    foreign = await place.client.inspect(place.foreign)
    assert foreign is not None and foreign["State"]["Running"]
    assert identity(place.folder) == system


async def pruned(place: Place) -> None:
    """Images of a release that nothing needs go; those of what runs, and of others, stay."""
    if await living("bare"):
        await place.command("build")
    else:
        # As a build that was cut short leaves it.
        await place.client.tag(place.image, boxed.owner("bare").repository, "web-r7")
    others = "gapless/bare-other"
    await place.client.tag(place.image, others, "web-r2")
    try:
        before = await boxed.tags("bare")
        assert before > NAMED
        said = json.loads(await place.command("prune", "--json"))
        assert (said["kept"], await boxed.tags("bare")) == ([1], NAMED)
        assert await place.client.tags(others) == ["web-r2"]
    finally:
        await place.client.untag(f"{others}:web-r2")


async def killed(place: Place, before: dict[str, str]) -> dict[str, str]:
    """A store that is killed is another container of the same files; the others stay."""
    await place.client.kill(before["data.kept"], "SIGKILL")
    after = before
    async with asyncio.timeout(60):
        while after.get("data.kept") in (None, before["data.kept"]):
            await place.command("wait")
            after = await living("bare")
    assert {id for id in IDS if after[id] == before[id]} == IDS - {"data.kept"}
    return after


async def taken_up(place: Place, before: dict[str, str]) -> None:
    """Without its controller all goes on. The next one is not told where the stack runs, and
    another target is refused."""
    holder = json.loads(await place.command("lock", "status", "--json"))["holder"]
    os.kill(int(holder.split()[1].rstrip(",")), signal.SIGKILL)
    assert await status(place.port) == 200
    code, said = await gapless(place.folder, "up", "-d", "--target", "process")
    assert (code, "runs on target docker, not process" in said) == (4, True)
    await place.command("up", "-d")
    assert await living("bare") == before
    await inside(place)


async def inside(place: Place) -> None:
    """A container finds stores that are containers by their names."""
    found = await asked(place, "inside")
    assert [at.rpartition(":")[0] for at in found["at"]] == ["//kept", "//quick"]
    assert (found["db"], found["cache"]) == ("R", "+OK")


async def asked(place: Place, job: str) -> dict[str, Any]:
    """What a container of the stack hears of those whose URLs it is given."""
    said = await place.command("run", job)
    found: dict[str, Any] = json.loads(next(s for s in said.splitlines() if s[:1] == "{"))
    return found


async def inspected(containers: dict[str, str]) -> None:
    """No right, nothing published, and nobody of the machine's."""
    client = Client()
    for id in STORES:
        body = await client.inspect(containers[id])
        assert body is not None
        host = body["HostConfig"]
        assert int(body["Config"]["User"].partition(":")[0]) > 0 or os.geteuid() != 0
        assert (host["CapAdd"] or [], host["CapDrop"]) == ([], ["ALL"])
        assert host["ReadonlyRootfs"] and host["SecurityOpt"] == ["no-new-privileges:true"]
        assert not host["PortBindings"] and not host["Privileged"]
        assert "password" not in json.dumps(body["Config"]["Env"]).lower()
    await client.close()


async def apart(containers: dict[str, str]) -> None:
    """Stores are in a network of their own, which leads nowhere, with who asks for one of them."""
    client = Client()
    owner = boxed.owner("bare")
    nets = {}
    for id, key in containers.items():
        body = await client.inspect(key)
        assert body is not None
        nets[id] = set(body["NetworkSettings"]["Networks"])
    inner, outer = owner.stores, owner.network
    both = {inner, outer}
    assert nets == {
        "data.kept": {inner}, "data.quick": {inner}, "web.1@r1": both, "api.1@r1": {outer}
    }  # fmt: skip
    about = [await client.network(name) for name in (inner, outer)]
    assert [one and one["Internal"] for one in about] == [True, False]
    db = await client.inspect(containers["data.kept"])
    assert db is not None
    host = db["NetworkSettings"]["Networks"][inner]["IPAddress"]
    port = spec.Facts.from_json(db["Config"]["Labels"][spec.FACTS]).address
    assert port is not None and port.port is not None
    # A container of the stack that has no store to ask, and of nobody's, do not get there at all.
    for network, heard in ((outer, ""), ("bridge", ""), (inner, "R")):
        assert await hello(client, network, host, port.port) == heard
    # The machine does get there, as it does everywhere, and is turned away.
    assert await asyncio.to_thread(spoken, host, port.port) == "E"
    await client.close()


HELLO = r"""
import socket, sys
words = b"\0\3\0\0user\0app\0database\0app\0\0"
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 1) as line:
        line.sendall((len(words) + 4).to_bytes(4, "big") + words)
        print(line.recv(1).decode())
except OSError:
    print()
"""


def spoken(host: str, port: int) -> str:
    """The first letter that Postgres answers: R asks for a password, E is an error."""
    argv = [sys.executable, "-c", HELLO, host, str(port)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


async def hello(client: Client, network: str, host: str, port: int) -> str:
    """The same, heard by a container in that network."""
    image = await asyncio.to_thread(docker_bench.python_image)
    body = {
        "Image": image,
        "Cmd": ["python3", "-c", HELLO, host, str(port)],
        "HostConfig": {"NetworkMode": network},
    }
    key, _ = await client.create("", body)
    try:
        await client.start(key)
        pieces = [piece async for piece in client.output(key, "0", follow=True)]
    finally:
        await client.remove(key, force=True)
    return b"".join(pieces).decode().partition(" ")[2].strip()


async def asked_from_elsewhere(client: Client, base: str, places: list[str]) -> dict[str, str]:
    """What a container of somebody else hears at the addresses that are the stack's own."""
    names = ("DB", "CACHE", "WEB", "API")
    env = [f"{name}=http:{place}" for name, place in zip(names, places, strict=True)]
    body = {"Image": base, "Cmd": ["python3", "-c", boxed.ASK], "Env": env}
    key, _ = await client.create(f"asker-{places[2].rpartition(':')[2]}", body)
    try:
        await client.start(key)
        pieces = [piece async for piece in client.output(key, "0", follow=True)]
        said = b"".join(pieces).decode()
        assert "{" in said, said
        found: dict[str, Any] = json.loads(said[said.index("{") :])
    finally:
        await client.remove(key, force=True)
    return {name: found[name] for name in ("db", "cache", "web", "api")}


async def status(port: int) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as got:
        return got.status


def identity(folder: Path) -> str:
    """Of the database in a container: another one has another."""
    found = (folder / "state").rglob("pgdata/global/pg_control")
    (file,) = (one for one in found if "kept" in one.parts)
    return file.read_bytes()[:8].hex()
