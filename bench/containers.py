"""``python -m bench.containers IMAGE``: what it costs to replace the same containers in three ways.

IMAGE has a Python 3 and nothing else is asked of it; the application is the probe service. Needs a
Docker engine; ``docker-compose`` (or the plugin) where it is installed, else a row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import compare, machine
from gapless import errors
from gapless.drills import generator, probe_app
from gapless.drills import spec as specs
from gapless.edge import binary

REPLICAS = 3
STACK = """
gapless = 1
name = "bench-containers"
[service.web]
build = {{ base = "{image}" }}
run = ["python3", "probe_app.py", "--socket", "${{socket}}"]
replicas = 3
surge = "all"
ready = "/ready"
start = "60s"
watch = "2s"
drain = "10s"
[edge]
listen = "127.0.0.1:{port}"
"""
COMPOSE = """
services:
  web:
    image: {image}
    command: {command}
    ports: ["127.0.0.1:{first}-{last}:8000"]
    deploy: {{replicas: 3}}
"""
EVERYWHERE = """
import asyncio, probe_app
start = asyncio.start_server
asyncio.start_server = lambda accept, host, port, **more: start(accept, "0.0.0.0", port, **more)
raise SystemExit(probe_app.main())
"""
COMMAND = ("python3", "-c", EVERYWHERE, "--port", "8000")
"""The probe service where a published port finds it."""
PROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  retries 2
  option redispatch
frontend in
  bind 127.0.0.1:{port}
  default_backend web
backend web
  option httpchk GET /ready
  {servers}
"""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    requests: int
    failed: int
    slow: str
    seconds: float

    def __str__(self) -> str:
        left = f"{self.failed:,} of {self.requests:,}"
        return f"| {self.name} | {left} | {self.slow} | {self.seconds:.1f} s |"


def load(port: int) -> specs.Spec:
    """What the peers on the machine get, at the probe service's paths."""
    return compare.load(port, post="/echo", slow="/slow?s=1")


class Gapless:
    """``up`` on entering, ``down`` on leaving; its images are what the others run."""

    name = "gapless deploy"

    def __init__(self, folder: Path, image: str, edge: str = "", store: str = "") -> None:
        """``edge``: the image of the load balancer; "": it is a program of the machine.
        ``store``: that of a PostgreSQL ``db``; "": there is none."""
        self.port = machine.free_ports(1)[0]
        self._folder = folder
        self._env = {"GAPLESS_STATE": str(folder / "state")}
        shutil.copy(probe_app.__file__, folder / "probe_app.py")
        (folder / "mode").write_text("good 1\n")
        text = STACK.format(image=image, port=self.port)
        text += f'image = "{edge}"\n' if edge else ""
        text += f'[data.db]\ntype = "postgres"\nimage = "{store}"\n' if store else ""
        (folder / "gapless.toml").write_text(text)

    def command(self, *words: str) -> str:
        argv = [sys.executable, "-m", "gapless", *words]
        return machine.run(argv, cwd=self._folder, env=self._env, limit=180)

    def start(self) -> None:
        self.command("up", "-d", "--target", "docker")

    def deploy(self) -> None:
        (self._folder / "mode").write_text("good 2\n")
        self.command("deploy", "--wait")

    def images(self) -> tuple[str, str]:
        """The present release's and the one before."""
        found = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "gapless/bench-*")
        tags = [line for line in found.splitlines() if ":web-r" in line]
        home = next(p for p in tags if p.endswith(":web-r2")).rpartition(":")[0]
        return f"{home}:web-r1", f"{home}:web-r2"

    def stop(self) -> None:
        self.command("-y", "down", "--data")


class Plain:
    """HAProxy before three containers, replaced one by one as a script does: stop, start."""

    name = "docker stop, docker run, one by one"

    def __init__(self, folder: Path, before: str, after: str) -> None:
        self.folder = folder
        self.before, self.after = before, after
        self.port, *_ = machine.free_ports(1)
        self.ports = _row_of_ports()
        self._proxy: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.run(self.before)
        servers = (
            f"server s{n} 127.0.0.1:{port} check inter 1s" for n, port in enumerate(self.ports)
        )
        text = PROXY.format(port=self.port, servers="\n  ".join(servers))
        (self.folder / "proxy.cfg").write_text(text)
        argv = [str(binary.find()), "-db", "-f", str(self.folder / "proxy.cfg")]
        self._proxy = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for port in (*self.ports, self.port):
            machine.until("a port", lambda port=port: machine.answers(port))  # type: ignore[misc]
        time.sleep(2.0)

    def run(self, image: str) -> None:
        for port in self.ports:
            self._one(port, image)

    def _one(self, port: int, image: str) -> None:
        docker("rm", "-f", f"gapless-bench-{port}", well=False)
        words = ("run", "-d", "--name", f"gapless-bench-{port}", "-p", f"127.0.0.1:{port}:8000")
        docker(*words, image, *COMMAND)

    def deploy(self) -> None:
        for port in self.ports:
            docker("stop", f"gapless-bench-{port}")
            self._one(port, self.after)
            machine.until("a port", lambda port=port: machine.answers(port))  # type: ignore[misc]

    def stop(self) -> None:
        for port in self.ports:
            docker("rm", "-f", f"gapless-bench-{port}", well=False)
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.wait()


class Compose(Plain):
    """The same with Compose, in its usual manner."""

    name = "docker compose up -d"

    def _up(self, image: str) -> None:
        words = json.dumps(COMMAND)
        ports = {"first": self.ports[0], "last": self.ports[-1]}
        text = COMPOSE.format(image=image, command=words, **ports)
        (self.folder / "compose.yaml").write_text(text)
        self._compose("up", "-d", "--scale", f"web={REPLICAS}")

    def _compose(self, *words: str) -> None:
        tool = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        argv = [*tool, "-p", "gapless-bench", "-f", "compose.yaml", *words]
        machine.run(argv, cwd=self.folder, env={}, limit=120)

    def run(self, image: str) -> None:
        self._up(image)

    def deploy(self) -> None:
        self._up(self.after)

    def stop(self) -> None:
        with contextlib.suppress(errors.WorkFailed):
            self._compose("down")
        super().stop()


def docker(*words: str, well: bool = True) -> str:
    try:
        return machine.run(["docker", *words], cwd=Path("/"), env={}, limit=60)
    except errors.WorkFailed:
        if well:
            raise
        return ""


def _row_of_ports() -> tuple[int, ...]:
    """Beside each other, as a range in a Compose file needs them."""
    for first in range(20_000 + os.getpid() % 5_000, 32_000):
        row = tuple(range(first, first + REPLICAS))
        if not any(map(machine.answers, row)):
            return row
    raise errors.EnvironmentFault("no free ports")


def measure(peer: Gapless | Plain) -> Row:
    """One replacement of all replicas under load."""
    with generator.Load(load(peer.port)) as running:
        running.until(requests=1, seconds=10)
        time.sleep(compare.BEFORE)
        begun = time.monotonic()
        peer.deploy()
        seconds = time.monotonic() - begun
        time.sleep(compare.AFTER)
        measured = running.finish()
    whole = measured.total()
    slow = [count for phase in measured.phases.values() for count in phase.values() if count.slow]
    bad, all_slow = sum(c.failed for c in slow), sum(c.requests for c in slow)
    return Row(peer.name, whole.requests, whole.failed, f"{bad} of {all_slow}", seconds)


@contextlib.contextmanager
def standing(peer: Gapless | Plain) -> Iterator[Gapless | Plain]:
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.containers")
    parser.add_argument("image", help="what the application is built on: has a Python 3")
    image = parser.parse_args(words).image
    rows = []
    with tempfile.TemporaryDirectory(prefix="gapless-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        ours = Gapless(folder, image)
        with standing(ours):
            rows.append(measure(ours))
            images = ours.images()
            kinds = [Plain]
            try:
                docker("compose", "version")
                kinds.append(Compose)
            except errors.WorkFailed:
                kinds += [Compose] if shutil.which("docker-compose") else []
            for kind in kinds:
                with standing(kind(folder, *images)) as peer:
                    rows.append(measure(peer))
    print("| replaced by | failed of | of slow ones | took |\n|---|---|---|---|")
    print("\n".join(map(str, rows)))
    print(json.dumps([str(row) for row in rows]), file=sys.stderr)


if __name__ == "__main__":
    main()
