"""Stores as containers: made, reached by name, killed, adopted, kept over down and up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.real import test_docker
from tests.real.standing import open_folder
from tests.real.test_docker import gapless, living
from tests.runtimes import docker_bench

from gapless.engine.paths import Paths
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.machine import files

FILE = """
gapless = 1
name = "kept"

[service.web]
image = "{python}"
run = ["sleep", "600"]
env = {{ CACHE = "${{cache.url}}" }}
grace = "1s"
drain = "1s"
watch = "200ms"

[job.ask]
image = "{python}"
run = ["python3", "/ask.py"]
volumes = {{ "/ask.py" = {{ source = "ask.py", read_only = true }} }}
env = {{ DB = "${{db.url}}", CACHE = "${{cache.url}}" }}

[data.db]
type = "postgres"
image = "{stores}"
settings = {{ max_connections = 30 }}

[data.cache]
type = "redis"
image = "{stores}"
"""
IDS = {"data.db", "data.cache", "web.1@r1"}


@pytest.fixture
async def folder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    python = await asyncio.to_thread(docker_bench.python_image)
    stores = await asyncio.to_thread(docker_bench.stores_image)
    with open_folder() as made:
        monkeypatch.setenv("GAPLESS_STATE", str(made / "state"))
        (made / "gapless.toml").write_text(FILE.format(python=python, stores=stores))
        (made / "ask.py").write_text(test_docker.ASK)
        yield made
        await gapless(made, "down")


async def test_stores_run_in_containers_and_keep_what_they_have(folder: Path) -> None:
    await gapless(folder, "up", "-d", "--target", "docker", well=True)
    before = await living("kept")
    assert set(before) == IDS
    await inspected(before)
    await apart(before)
    assert await asked(folder) == (["//db", "//cache"], {"db": "R", "cache": "+OK"})
    system = await identity(folder)
    # Killed, it is another container of the same files; the others are left alone.
    client = Client()
    await client.kill(before["data.db"], "SIGKILL")
    async with asyncio.timeout(60):
        after = before
        while after.get("data.db") in (None, before["data.db"]):
            await gapless(folder, "wait", well=True)
            after = await living("kept")
    assert {id for id in IDS if after[id] == before[id]} == IDS - {"data.db"}
    # Without its controller all goes on, and the next one takes it over.
    holder = json.loads((await gapless(folder, "lock", "status", "--json"))[1])["holder"]
    os.kill(int(holder.split()[1].rstrip(",")), signal.SIGKILL)
    await gapless(folder, "up", "-d", well=True)
    assert await living("kept") == after
    assert (await asked(folder))[1] == {"db": "R", "cache": "+OK"}
    await gapless(folder, "down", well=True)
    own = spec.Owner("kept", files.home(Paths.of("kept").state)).labels
    assert await client.containers(own) == []
    assert await client.networks(own) == []
    await client.close()
    assert await identity(folder) == system


async def inspected(containers: dict[str, str]) -> None:
    """No right, nothing published, and nobody of the machine's."""
    client = Client()
    for id in ("data.db", "data.cache"):
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
    owner = spec.Owner("kept", files.home(Paths.of("kept").state))
    nets = {}
    for id, key in containers.items():
        body = await client.inspect(key)
        assert body is not None
        nets[id] = set(body["NetworkSettings"]["Networks"])
    inner, outer = owner.stores, owner.network
    assert nets == {"data.db": {inner}, "data.cache": {inner}, "web.1@r1": {inner, outer}}
    about = [await client.network(name) for name in (inner, outer)]
    assert [one and one["Internal"] for one in about] == [True, False]
    db = await client.inspect(containers["data.db"])
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
        pieces = [piece async for piece in client.output(key, "0")]
    finally:
        await client.remove(key, force=True)
    return b"".join(pieces).decode().partition(" ")[2].strip()


async def asked(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What a container of the stack calls its stores, and what they say to it."""
    _, said = await gapless(folder, "run", "ask", well=True)
    found = json.loads(next(line for line in said.splitlines() if line[:1] == "{"))
    names = [place.rpartition(":")[0] for place in found["at"]]
    return names, {name: found[name] for name in ("db", "cache")}


async def identity(folder: Path) -> str:
    """Of the database: another one has another."""
    (file,) = (folder / "state").rglob("pgdata/global/pg_control")
    return file.read_bytes()[:8].hex()
