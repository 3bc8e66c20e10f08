"""Images of our making in containers, beside an edge of the machine: built, switched, ended."""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path
from typing import Any

import pytest
from tests.real.boxed import Boxed, roof
from tests.real.standing import Load
from tests.runtimes import docker_bench

from gapless.drills import ports
from gapless.edge import config
from gapless.engine import inside
from gapless.engine.paths import Paths
from gapless.errors import Refused, WorkFailed
from gapless.model.stack import Stack
from gapless.runtimes.docker.client import Client

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

[job.smoke]
build = {{ base = "{base}" }}
run = ["python", "/app/smoke.py"]
env = {{ WEB = "${{web.url}}" }}
when = "after-release"

[edge]
listen = "127.0.0.1:{plain}"
tls_listen = "127.0.0.1:{port}"
tls = "self-signed"
"""
SMOKE = """
import os, ssl, urllib.request
trusting = ssl._create_unverified_context()  # the edge shows a certificate of its own making
url = os.environ["WEB"]
print(url, urllib.request.urlopen(url, timeout=20, context=trusting).status)
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
        (folder / "smoke.py").write_text(SMOKE)
        self.plain = ports.reserve()
        super().__init__(folder, "made", base)
        self.url = f"https://127.0.0.1:{self.port}"

    def write(self, **_: Any) -> None:
        self.file.write_text(MADE.format(base=self.base, port=self.port, plain=self.plain))

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
    async with roof(monkeypatch, "made") as folder:
        made = Made(folder / "app", base)
        await made.begin()
        try:
            await made.do("up")
            await inspected(await made.containers())
            await by_tls(made)
            (log,) = Paths.of("made").logs.glob("look*")
            assert "built by its Dockerfile" in log.read_text()
            # New source, and a setup that has nothing new to do: one layer.
            made.version("good", 2)
            async with Load(made.url) as load:
                await load.more()
                result, said = await made.deploy()
                assert (result["release"], result["failed"]) == (2, 0)
                await unbuildable(made)
                assert set(await made.containers()) == {"web.1@r2"}
                await load.more()
            assert load.failed == {}
            setup = next(n for n, line in enumerate(said) if 'RUN ["pip"' in line)
            assert "Using cache" in said[setup + 1]
        finally:
            await made.operations.down({})
            left = await made.remains()
            await made.end()
        # What the release jobs left is ours too.
        assert left == ([], [])


async def by_tls(made: Made) -> None:
    """Containers reach the stack's own TLS, at the machine's address on their network."""
    bridge = made.controller.site.bridge
    assert bridge is not None
    (log,) = Paths.of("made").logs.glob("smoke*")
    assert f"https://{bridge.host}:{made.port} 200" in log.read_text()
    smoke = functools.partial(inside.Inside(made.controller).run, {"name": "smoke"})
    with pytest.MonkeyPatch.context() as planted:
        # Told where the public finds it, which is the container itself.
        told = Stack.url_from
        planted.setattr(Stack, "url_from", lambda stack, _: told(stack, None))
        with pytest.raises(WorkFailed):
            await smoke()
    with pytest.MonkeyPatch.context() as planted:
        # Told right, and nobody listens there.
        planted.setattr(config.Config, "inner", lambda *_: None)
        await made.do("restart", services=["edge"])
        with pytest.raises(WorkFailed):
            await smoke()
    await made.do("restart", services=["edge"])
    await smoke()


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
