"""Stacks of containers for tests: their controller in this process, or by the command."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.real.standing import Standing, open_folder

from gapless import stackfile
from gapless.engine import main
from gapless.engine.controller import Controller
from gapless.engine.operations import Operations
from gapless.engine.paths import Paths
from gapless.errors import EnvironmentFault
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.machine import files
from gapless.runtimes.mixed import MixedRuntime

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
"""What a container hears at the places that it is told of: a letter or a word of each answer."""


@contextlib.asynccontextmanager
async def roof(monkeypatch: pytest.MonkeyPatch, *stacks: str) -> AsyncIterator[Path]:
    """A folder, with the state of these stacks in it; no image of theirs is left behind."""
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        try:
            yield folder
        finally:
            client = Client()
            with contextlib.suppress(EnvironmentFault):  # then there was no test, either
                for name in stacks:
                    await sweep(client, owner(name).repository)
            await client.close()


def owner(stack: str) -> spec.Owner:
    return spec.Owner(stack, files.home(Paths.of(stack).state))


async def tags(stack: str) -> set[str]:
    """Of the images that its releases need."""
    client = Client()
    try:
        return set(await client.tags(owner(stack).repository))
    finally:
        await client.close()


async def sweep(client: Client, repository: str) -> None:
    """Images go with their last name."""
    for tag in await client.tags(repository):
        await client.untag(f"{repository}:{tag}")


class Boxed(Standing):
    """A stack on the target docker; ``base`` is what its images are made of."""

    patience = 180

    def __init__(self, folder: Path, name: str, base: str) -> None:
        self.base = base
        super().__init__(folder, name)

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
        labels = owner(self.name).labels
        client = Client()
        found = await client.containers(labels)
        networks = await client.networks(labels)
        await client.close()
        return [body["Names"][0] for body in found], list(networks)

    async def containers(self) -> dict[str, str]:
        return await living(self.name)


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


async def living(stack: str) -> dict[str, str]:
    """Id to the engine's key, of all programs of a stack that live in containers."""
    client = Client()
    found = await client.containers({spec.STACK: stack})
    await client.close()
    labels = {b["Id"]: b["Labels"] for b in found if b["State"] == "running"}
    return {of[spec.ID]: key for key, of in labels.items() if spec.ID in of}
