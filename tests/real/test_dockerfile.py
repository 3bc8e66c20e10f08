"""A rendered Dockerfile, built and run by the engine alone: no part of gapless is in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.boxed import gapless
from tests.runtimes import docker_bench

FILE = """\
gapless = 1
name = "shop"
setup = "pip install --no-index -r requirements.txt"
secrets = ["TOKEN"]

[service.web]
build = {{ base = "{base}" }}
run = ["python", "app.py", "${{host}}", "${{port}}", 'a "b" $HOME ${{env.X:-\\\\}}']
ready = {{ path = "/", every = "1s" }}
env = {{ ODD = 'a "b" \\\\n $HOME `id` #', LEVEL = "${{env.LEVEL:-info}}" }}
"""
APP = """\
import http.server, json, os, sys

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = ("ODD", "LEVEL", "TOKEN")
        found = {"uid": os.getuid(), "words": sys.argv[3:], "files": sorted(os.listdir("."))}
        body = json.dumps(found | {name: os.environ.get(name) for name in names}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Page).serve_forever()
"""
SUM = """
import hashlib, pathlib
total = hashlib.sha256()
for folder in ("/app", "/opt/venv"):
    for path in sorted(pathlib.Path(folder).rglob("*")):
        about = path.lstat().st_mode, path.is_symlink() and path.readlink()
        total.update(f"{path} {about}".encode())
        if path.is_file():
            total.update(path.read_bytes())
print(total.hexdigest())
"""
LIMIT = 60.0
"""Seconds until the container is healthy, at most."""


def docker(*words: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        [str(shutil.which("docker")), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    if shutil.which("docker") is None:
        pytest.skip("the docker program sends what is built")
    base = await asyncio.to_thread(docker_bench.python_image)
    (tmp_path / "gapless.toml").write_text(FILE.format(base=base))
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "old.log").write_text("not released")
    (tmp_path / ".git").mkdir()
    await gapless(tmp_path, "render", "dockerfile", "web", "-o", ".", well=True)
    # Builders of before BuildKit read this name alone.
    shutil.copy(tmp_path / "Dockerfile.web.dockerignore", tmp_path / ".dockerignore")
    return tmp_path


@contextlib.contextmanager
def named(folder: Path) -> Iterator[str]:
    tag = f"gapless-test-alone:{folder.parent.name}-{folder.name}".lower()
    try:
        yield tag
    finally:
        docker("rmi", "-f", tag)


def built(folder: Path, tag: str, *words: str) -> str:
    """The content of the image."""
    asked = ("build", "-q", "-f", "Dockerfile.web", "-t", tag, *words, ".")
    return docker(*asked, folder=folder).strip()


async def test_a_rendered_dockerfile_runs_without_gapless(folder: Path) -> None:
    await asyncio.to_thread(used, folder)


def used(folder: Path) -> None:
    with named(folder) as tag:
        first = built(folder, tag)
        made = steps(first)
        (folder / "app.py").write_text(APP + "# another version\n")
        again = steps(built(folder, tag))
        # What setup made is found again: the source alone is another layer.
        assert len(made) == len(again)
        assert sum(one != other for one, other in zip(made, again, strict=True)) == 1
        docker("rmi", "-f", first)
        key = docker("run", "-d", "-e", "TOKEN=t0ken", "--read-only", "--cap-drop=ALL", tag).strip()
        try:
            answer = json.loads(page(key))
        finally:
            docker("rm", "-f", key)
    assert answer == {
        "uid": 65532,
        "words": [r'a "b" $HOME \\'],
        "ODD": r'a "b" \\n $HOME `id` #',
        "LEVEL": "info",
        "TOKEN": "t0ken",
        "files": [".gitignore", "__pycache__", "app.py", "gapless.toml", "requirements.txt"],
    }


@pytest.mark.skipif("GAPLESS_LONG" not in os.environ, reason="half a minute: GAPLESS_LONG=1")
async def test_two_builds_are_the_same_files(folder: Path) -> None:
    await asyncio.to_thread(alike, folder)


def alike(folder: Path) -> None:
    with named(folder) as tag:
        images = [built(folder, tag, "--no-cache") for _ in range(2)]
        sums = [docker("run", "--rm", image, "python", "-c", SUM) for image in images]
        docker("rmi", "-f", images[0])
    assert sums[0] == sums[1]


def steps(image: str) -> list[str]:
    """The layers of an image."""
    found: list[str] = json.loads(docker("inspect", image))[0]["RootFS"]["Layers"]
    return found


def page(key: str) -> bytes:
    """What it answers once its own check says that it is well."""
    until = time.monotonic() + LIMIT
    while (about := json.loads(docker("inspect", key))[0])["State"]["Health"][
        "Status"
    ] != "healthy":
        assert about["State"]["Running"], docker("logs", key)
        assert time.monotonic() < until, about["State"]["Health"]
        time.sleep(0.1)
    address = about["NetworkSettings"]["IPAddress"]
    with urllib.request.urlopen(f"http://{address}:8000/", timeout=10) as got:
        content: bytes = got.read()
    return content
