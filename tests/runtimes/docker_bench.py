"""A Docker engine for tests, and an image that is made of what this machine has: no registry."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import aiodocker
import pytest

from gapless.errors import GaplessError
from gapless.runtimes.docker.client import Client

PROGRAMS = ("sh", "sleep", "cat", "echo", "id", "ls", "head", "seq", "env", "true", "mkdir", "dd")
"""What the image can do."""
FOLDERS = ("dev", "etc", "proc", "sys", "tmp", "run", "var")
NAME = "gapless-test"


@functools.cache
def image() -> str:
    """The digest of an image with a shell and a few programs; made once, then found by its tag.

    Skips the test, saying why, where no engine answers.
    """
    return asyncio.run(_image())


async def _image() -> str:
    client = Client()
    try:
        docker = await client.engine()
    except GaplessError as error:
        pytest.skip(str(error))
    try:
        body = _archive(PROGRAMS)
        tag = hashlib.sha256(body).hexdigest()[:12]
        found = await client.image(f"{NAME}:{tag}")
        if found is None:
            query = {"fromSrc": "-", "repo": NAME, "tag": tag}
            data = io.BytesIO(body)
            async with docker._query("images/create", "POST", params=query, data=data) as answer:
                await answer.read()
            found = await client.image(f"{NAME}:{tag}")
        assert found is not None
        digest: str = found["Id"]
        return digest
    except aiodocker.DockerError as error:
        pytest.skip(f"no image can be made: {error}")
    finally:
        await client.close()


def _archive(programs: Iterable[str]) -> bytes:
    """The programs with the libraries that they are linked with; the same bytes for the same."""
    wanted: dict[str, str] = {}
    for name in programs:
        path = shutil.which(name)
        assert path is not None
        wanted[f"bin/{name}"] = os.path.realpath(path)
        for library in _libraries(path):
            wanted[library.lstrip("/")] = os.path.realpath(library)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name, path in sorted(wanted.items()):
            content = Path(path).read_bytes()
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(content), 0o755
            archive.addfile(file, io.BytesIO(content))
    return made.getvalue()


def _libraries(path: str) -> list[str]:
    told = subprocess.run(
        ["/usr/bin/ldd", path], check=False, capture_output=True, text=True
    ).stdout
    words = [word for line in told.splitlines() for word in line.split()]
    return [word for word in words if word.startswith("/")]
