"""The example's own programs, in the example's own locked environment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.examples import stores

from gapless.drills import ports
from gapless.engine.releases import library

ROOT = Path(__file__).parents[2]
CHAT = ROOT / "examples/chat"


def environment() -> Path:
    """The ``bin`` folder of a virtual environment with what the example locks; made once.

    ``gapless.app`` is in it as it is in that of a release.
    """
    lock = CHAT / "requirements.txt"
    tag = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = ROOT / "build" / f"chat-compiled-{tag}"
    home.parent.mkdir(exist_ok=True)
    with (ROOT / "build/lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (home / "made").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
            # Compiled by pip: nothing is written there while somebody copies it.
            extra = ["--disable-pip-version-check", "--root-user-action", "ignore"]
            subprocess.run([*pip, *extra, "-r", str(lock)], check=True)
            (home / "made").touch()
        (packages,) = home.glob("lib/python*/site-packages")
        for path, content in library.files().items():
            place = packages / path
            if not place.exists() or place.read_bytes() != content:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
    return home / "bin"


class Application:
    """Starts programs of the example with the stores' addresses in their environment."""

    def __init__(self, bin: Path, database_url: str, redis_url: str) -> None:
        self._bin = bin
        self._env = {
            "PATH": f"{bin}:/usr/bin:/bin",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            # What would be a warning for the user is a failure for us, see ``output``.
            "PYTHONWARNINGS": "default",
        }

    def run(self, argv: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
        """A program that ends by itself."""
        return subprocess.run(
            [self._bin / argv[0], *argv[1:]],
            env=self._env | env,
            cwd=CHAT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextlib.contextmanager
    def started(
        self, argv: Sequence[str], log: Path, **env: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs until the block ends; then it gets TERM and has to obey."""
        with log.open("wb") as output:
            child = subprocess.Popen(
                [self._bin / argv[0], *argv[1:]],
                env=self._env | env,
                cwd=CHAT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield child
            child.terminate()
            assert child.wait(timeout=30) in (0, -signal.SIGTERM), log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    @contextlib.contextmanager
    def web(self, log: Path, **env: str) -> Iterator[str]:
        """One replica as ``gapless.toml`` runs it, but on a port; gives its address."""
        port = ports.reserve()
        base = f"http://127.0.0.1:{port}"
        command = [*web_command()[:2], "--port", str(port), *web_command()[4:]]
        with self.started(command, log, **env) as child:
            stores.wait_for("web answers", lambda: child.poll() is not None or answers(base))
            assert child.poll() is None, log.read_text()
            yield base


def web_command() -> list[str]:
    """``uvicorn chat.main:app --uds ${socket} …`` as the stack file has it."""
    import shlex
    import tomllib

    table = tomllib.loads((CHAT / "gapless.toml").read_text())
    words = shlex.split(table["service"]["web"]["run"])
    assert words[2:4] == ["--uds", "${socket}"]
    return words


def answers(base: str) -> bool:
    """Whether anything listens there."""
    try:
        ask(base, "/health/live")
    except OSError:
        return False
    return True


def ask(base: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, decoded JSON) of a GET, or of a POST with a JSON body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as answer:
        with answer:
            return answer.code, json.load(answer)
