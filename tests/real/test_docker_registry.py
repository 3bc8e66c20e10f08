"""Images of a real registry that asks for a password: it is told that, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tests.real.boxed import gapless, living, roof
from tests.runtimes import docker_bench

from gapless.drills import ports
from gapless.runtimes.docker.client import Client

USER, PASSWORD = "puller", "pull-0nly-this"
HASHED = f"{USER}:$2b$04$lAFJqFHq7tXZJaXKuWFwNuE.lekIeVXmm7vQF7DPhCGz9E37AlsdW\n"
SERVER = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "{host}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/people}}}}
"""
FILE = """\
gapless = 1
name = "pulled"

[registries]
"{host}" = {{ user = "puller", password = "PULL" }}

[service.web]
image = "{host}/me/web:1"
run = ["sleep", "600"]
grace = "1s"
drain = "1s"
watch = "200ms"

[job.built]
build = "built"
run = ["true"]
when = "manual"
"""


@dataclass(frozen=True, slots=True)
class Registry:
    """``host``: 127.0.0.1 and a port, which engines speak plain HTTP to."""

    host: str

    @property
    def images(self) -> tuple[str, ...]:
        return f"{self.host}/me/web:1", f"{self.host}/me/base:1"


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Registry]:
    """A registry with two images that are no longer here."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs a registry: apt-get install docker-registry")
    image = await asyncio.to_thread(docker_bench.image)
    made = Registry(f"127.0.0.1:{ports.reserve()}")
    (folder / "people").write_text(HASHED)
    (folder / "config.yml").write_text(SERVER.format(folder=folder, host=made.host))
    server = await asyncio.create_subprocess_exec(
        program, "serve", str(folder / "config.yml"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    client = Client()
    try:
        await answers(made.host)
        docker = await client.engine()
        for name in made.images:
            await client.tag(image, *name.rsplit(":", 1))
            login = {"username": USER, "password": PASSWORD}
            await docker.images.push(name, auth=login)
            await client.untag(name)
        yield made
    finally:
        server.terminate()
        await server.wait()
        for name in made.images:
            await client.untag(name)
        await client.close()


async def answers(host: str) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{host}/v2/") as got:
                    assert got.status == 401
                    return
            await asyncio.sleep(0.05)


async def test_a_registry_is_told_the_password_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with roof(monkeypatch, "pulled") as folder:
        (folder / "registry").mkdir()
        async with serving(folder / "registry") as registry:
            app = folder / "app"
            (app / "built").mkdir(parents=True)
            (app / "built" / "Dockerfile").write_text(f"FROM {registry.images[1]}\n")
            (app / "gapless.toml").write_text(FILE.format(host=registry.host))
            try:
                await pulled(app, folder / "state", monkeypatch)
            finally:
                await gapless(app, "down")


async def pulled(app: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = await gapless(app, "up", "-d", "--target", "docker")
    assert (code, "gapless secret set PULL" in said) == (2, True), said
    # The wrong one: what the registry says, without a word of what it was told.
    monkeypatch.setenv("PULL", "another-w0rd")
    code, said = await gapless(app, "up", "-d", "--target", "docker")
    assert code == 4 and "web: image" in said and "no registry gave it" in said, said
    assert "another-w0rd" not in said
    monkeypatch.setenv("PULL", PASSWORD)
    await gapless(app, "up", "-d", "--target", "docker", well=True)
    containers = await living("pulled")
    assert set(containers) == {"web.1@r1"}
    # Neither in what the engine knows of it nor in anything that is written or told.
    assert "PULL" not in await whole(containers["web.1@r1"])
    assert found(state) == {"secrets.json"}
    for words in (("history",), ("describe", "web.1"), ("logs",)):
        _, told = await gapless(app, *words)
        assert PASSWORD not in told


async def whole(key: str) -> str:
    """All that the engine tells of a container, without the word itself."""
    client = Client()
    about = json.dumps(await client.inspect(key))
    await client.close()
    assert PASSWORD not in about and USER not in about
    return about


def found(state: Path) -> set[str]:
    """The files of the state in which the password stands."""
    files = [Path(at, name) for at, _, names in os.walk(state) for name in names]
    word = PASSWORD.encode()
    own = [file for file in files if not file.is_symlink() and file.is_file()]
    return {file.name for file in own if word in file.read_bytes()}
