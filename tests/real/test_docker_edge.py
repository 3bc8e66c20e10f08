"""Images and their load balancer in containers, steered like processes: started, switched, rolled
back to the very image, adopted, killed, ended; the load balancer without any right."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError
from tests.real import outside
from tests.real.boxed import Boxed, living, roof
from tests.real.standing import Load
from tests.runtimes import docker_bench

from gapless.drills import ports, probe_app
from gapless.edge import asking, wire
from gapless.edge.haproxy import HAProxyEdge
from gapless.engine.paths import Paths
from gapless.errors import Refused, WorkFailed
from gapless.model.process import Process
from gapless.observed import EdgeServer
from gapless.runtimes.docker.client import Client

STACK = """
gapless = 1
name = "{name}"
[service.web]
image = "{image}"
run = ["python3", "app.py", "--socket", "${{socket}}"]
replicas = 2
ready = {{ path = "/ready", every = "200ms" }}
surge = "all"
start = "120s"
drain = "60s"
grace = "2s"
watch = "200ms"
volumes = {{ "/given" = "gapless.toml" }}
env = {{ MODE = "/app/mode" }}

[service.beside]
run = ["sleep", "600"]
watch = "200ms"

[edge]
listen = "*:{port}"
{edge}
{more}
"""


class Fronted(Boxed):
    """A stack whose load balancer is an image, too; on a port that not everybody may have."""

    def __init__(self, folder: Path, base: str) -> None:
        self.image = self.edge = "none"
        super().__init__(folder, "fronted", base)
        self.image = f"gapless-test-app:p{self.port}"
        self.edge = f"gapless-test-edge:p{self.port}"
        self.tags = (self.image, self.edge)
        self.port = low_port() if os.geteuid() == 0 else self.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.write()

    def write(self, *, more: str = "", **_: Any) -> None:
        text = STACK.format(
            name=self.name,
            image=self.image,
            port=self.port,
            edge=f'image = "{self.edge}"' if self.edge else "",
            more=more,
        )
        self.file.write_text(text)

    def version(self, mode: str, mark: int = 1) -> None:
        """Nothing: versions are images (``build``)."""

    async def build(self, mode: str, mark: int) -> None:
        """Move the service's tag on to another image."""
        files = {"app.py": Path(probe_app.__file__).read_bytes()}
        files["mode"] = f"{mode} {mark}\n".encode()
        await docker_bench.application(self.base, files, self.image)

    async def renew(self, mark: str) -> None:
        """Likewise that of the load balancer."""
        base = await asyncio.to_thread(docker_bench.edge_image)
        await docker_bench.application(base, {"mark": mark.encode()}, self.edge)

    async def without(self, id: str) -> None:
        """Wait until that container has ended."""
        async with asyncio.timeout(60):
            while id in await self.containers():
                await self.controller.round_done()

    async def forget(self) -> None:
        """Take the tags of its images away."""
        client = Client()
        for name in self.tags:
            await client.untag(name)
        await client.close()

    async def worker(self) -> int | None:
        return await asking.Asking(Paths.of(self.name).run, self.name).worker()


def low_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fronted]:
    base = await asyncio.to_thread(docker_bench.python_image)
    async with roof(monkeypatch, "fronted") as folder:
        running = Fronted(folder / "app", base)
        await running.renew("first")
        await running.build("good", 1)
        await running.begin()
        try:
            yield running
        finally:
            if not running.controller.stopping:
                await running.operations.down({})
                assert await running.remains() == ([], [])
            await running.end()
            await running.forget()


async def test_an_image_and_its_edge_go_through_it_all_without_a_gap(stack: Fronted) -> None:
    await stack.do("up")
    before = await stack.containers()
    assert set(before) == {"web.1@r1", "web.2@r1", "edge"}
    assert "beside.1@r1" in {str(r.id) for r in stack.controller.observed.replicas}
    assert (await stack.do("deploy"))["unchanged"] is True
    await unprivileged(before["edge"])
    await alone(stack)
    images = await contents(before)
    async with Load(stack.url) as load:
        await load.more()
        worker = await stack.worker()
        await stack.do("restart", services=["edge"])
        assert await stack.worker() != worker
        assert await stack.containers() == before
        await other_images(stack)
        await one_that_never_takes_over(stack)
        # And back, to the very images that the tags had left.
        await stack.do("rollback", wait=True)
        await stack.without("edge.2")
        after = await contents(await stack.containers())
        assert after == {
            id: images[id.removesuffix(".2")] for id in ("web.1@r1.2", "web.2@r1.2", "edge")
        }
        await load.more()
    assert load.failed == {}
    assert done(stack).count("edge replace") == 2
    # Killed as a whole: who connects waits for the next one.
    async with Load(stack.url) as load:
        await load.more()
        pid = stack.controller.observed.edge.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        edge = stack.controller.observed.edge
        await stack.until(lambda: stack.controller.observed.edge.pid not in (None, pid))
        await stack.do("wait")
        await load.more(50)
    assert edge.state == "running" and load.refused == 0
    assert set(await stack.containers()) == set(after)
    await moved(stack)


async def contents(containers: Mapping[str, str]) -> dict[str, str]:
    """The images that they run."""
    client = Client()
    bodies = {id: await client.inspect(key) for id, key in containers.items()}
    await client.close()
    return {id: body["Image"] for id, body in bodies.items() if body is not None}


async def alone(stack: Fronted) -> None:
    """From outside there is the load balancer, and whatever a container publishes by itself."""
    client = Client()
    published = ports.reserve()
    body = {
        "Image": stack.base,
        "Cmd": ["python3", "-m", "http.server", "8000"],
        "ExposedPorts": {"8000/tcp": {}},
        "HostConfig": {"PortBindings": {"8000/tcp": [{"HostPort": str(published)}]}},
    }
    key, _ = await client.create("", body)
    try:
        with outside.namespace() as there:
            await client.start(key)
            # The one is what the stack has, the other the planted fault.
            async with asyncio.timeout(60):
                while await seen(stack, there) != {stack.port, published}:
                    await stack.controller.round_done()
    finally:
        await client.remove(key, force=True)
        await client.close()


async def seen(stack: Fronted, there: outside.Outside) -> set[int]:
    return outside.ours(await asyncio.to_thread(there.open_ports), stack.name)


async def other_images(stack: Fronted) -> None:
    """The next edge takes over from the one that serves, which ends when it has nothing to do."""
    before = await stack.containers()
    # The tags move on: the file is the same, and what it names is not.
    await stack.build("good", 2)
    await stack.renew("second")
    deploying = asyncio.create_task(stack.do("deploy"))
    await stack.until(lambda: any(":r2" in name for name in in_edge(stack)))
    assert "edge replace" not in done(stack)
    short, long = (asyncio.create_task(stack.get(f"/slow?s={n}")) for n in (3, 30))
    result = await deploying
    assert (result["release"], result["failed"]) == (2, 0)
    assert done(stack).count("edge replace") == 1
    after = await stack.containers()
    assert {"edge", "edge.2"} <= set(after) and after["edge"] == before["edge"]
    assert (await short)[0] == 200
    await stack.drop()
    await stack.begin()
    # What the elder has in hand is known, and its replica stays for it.
    (held,) = await in_elders(stack)
    assert stack.controller.observed.edge.program == "edge.2" and not long.done()
    assert held in await stack.containers()
    await cut_in_elders(stack, held)
    assert isinstance((await asyncio.gather(long, return_exceptions=True))[0], ClientError)
    await stack.without("edge")
    assert await in_elders(stack) == set()
    assert (await stack.containers())["edge.2"] == after["edge.2"]


def done(stack: Fronted) -> list[str]:
    return [event["what"] for event in stack.controller.site.journal.tail(200)]


async def moved(stack: Fronted) -> None:
    """To the machine it passes while nothing runs, and in no other way."""
    stack.edge = ""
    stack.write()
    with pytest.raises(Refused, match="between the machine and a container") as refused:
        await stack.do("deploy")
    assert refused.value.hint == "gapless down, then gapless up -d"
    await stack.do("down")
    await stack.end()
    before = stack.controller.desired
    image, stack.image = stack.image, "localhost:1/none"
    stack.write()
    await stack.begin()
    with pytest.raises(Refused, match="no registry gave it"):
        await stack.do("up")
    # What cannot be built costs nothing of what there was.
    assert (stack.controller.desired.vector, stack.controller.desired.stack) == (
        before.vector,
        before.stack,
    )
    stack.image = image
    stack.write()
    await stack.end()
    await stack.begin()
    await stack.do("up")
    assert not {"edge", "edge.2"} & set(await stack.containers())
    assert stack.controller.observed.edge.pid is not None
    assert (await stack.get("/"))[0] == 200


async def one_that_never_takes_over(stack: Fronted) -> None:
    """It is waited for, and says nothing of the edge that serves when it dies."""
    runtime = stack.controller.site.runtime
    serving = stack.controller.observed.edge
    heir = Process("edge.3", ("sleep", "60"), image=stack.base, entrypoint=(), sealed=True)
    await runtime.start(heir)
    await stack.until(lambda: stack.controller.observed.edge.heir_since is not None)
    seen = stack.controller.observed.edge
    assert (seen.state, seen.pid, seen.program) == ("running", serving.pid, serving.program)
    await runtime.signal(heir.id, "KILL")
    await stack.until(lambda: stack.controller.observed.edge.heir_since is None)
    seen = stack.controller.observed.edge
    assert (seen.state, seen.pid, seen.program) == ("running", serving.pid, serving.program)
    await stack.do("wait")
    assert done(stack).count("edge start") == 1


async def in_elders(stack: Fronted) -> set[str]:
    """Replicas for which workers that were replaced have requests in hand."""
    edge = stack.controller.site.edge
    assert isinstance(edge, HAProxyEdge)
    found = set()
    for pid in (await edge._known_workers()).old:
        servers = [seen.server for seen in await edge._old_servers(pid)]
        found |= {one.name.replace(":", "@") for one in servers if one.in_flight}
    return found


async def cut_in_elders(stack: Fronted, replica: str) -> None:
    """End what they have in hand of one; with the edge that serves it would be the load's too."""
    edge = stack.controller.site.edge
    assert isinstance(edge, HAProxyEdge)
    for pid in (await edge._known_workers()).old:
        sessions = await edge._through_master(pid, wire.SESSIONS)
        for id in wire.sessions(sessions, "web", replica.replace("@", ":")):
            await edge._through_master(pid, wire.end_session(id))


def in_edge(stack: Fronted) -> Mapping[str, EdgeServer]:
    return stack.controller.observed.edge.servers


async def unprivileged(key: str) -> None:
    """No capability at all, an account of its own, nothing to write but for its sockets."""
    client = Client()
    body = await client.inspect(key)
    await client.close()
    assert body is not None
    host = body["HostConfig"]
    assert int(body["Config"]["User"].partition(":")[0]) > 0 or os.geteuid() != 0
    assert (host["CapAdd"] or [], host["CapDrop"]) == ([], ["ALL"])
    assert "no-new-privileges:true" in host["SecurityOpt"] and host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "host" and not host["PortBindings"] and not host["Privileged"]
    writable = [one["Target"] for one in host["Mounts"] if not one.get("ReadOnly")]
    assert [Path(place).name for place in writable] == ["e"]
    status = Path(f"/proc/{body['State']['Pid']}/status").read_text()
    held = {line for line in status.splitlines() if line.startswith("Cap")}
    assert {line.split()[1].strip("0") for line in held} == {""}


async def test_an_image_without_haproxy_is_told(stack: Fronted) -> None:
    stack.edge = stack.base  # an image without HAProxy
    stack.write()
    with pytest.raises(WorkFailed, match="its image has no haproxy on its PATH"):
        await stack.do("up")
    assert "edge" not in await living(stack.name)
