"""``python -m bench.engines IMAGE``: what it costs when parts die beside containers that serve.

As root, with an engine of its own (``dockerd`` with other directories and sockets than the
machine's), which is killed and restarted with and without ``live-restore``. IMAGE, of the machine's
engine, has a Python 3; ``--edge IMAGE``: the load balancer is a container, too; ``--store IMAGE``:
a PostgreSQL is there as well, into which somebody writes all the time.

All of it has a network of its own: an engine without a default bridge removes the one that it
finds, and that would be the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import compare, containers, machine, rows
from gapless import errors
from gapless.drills import generator

POOL = "base=10.213.0.0/16,size=24"
APART = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "apart")
INSIDE = "--inside"
BACK = 90.0
"""Seconds in which all has to be ready again."""


class Engine:
    """A ``dockerd`` of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/d.sock"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, *, live: bool) -> None:
        argv = ["dockerd", "-H", self.url, "--bridge=none", "--iptables=false"]
        argv += ["--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "x")]
        argv += ["--pidfile", str(self._folder / "pid"), "--default-address-pool", POOL]
        argv += ["--live-restore"] if live else []
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        machine.until("the engine", lambda: bool(self.docker("version", well=False)), 60)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)
            self._child.wait(60)
        self._child = None

    def docker(self, *words: str, well: bool = True) -> str:
        return containers.docker("-H", self.url, *words, well=well)

    def load(self, image: str) -> None:
        """Copy an image from the machine's engine."""
        file = self._folder / "image.tar"
        containers.docker("save", "-o", str(file), image)
        self.docker("load", "-q", "-i", str(file))
        file.unlink()

    def remove(self) -> None:
        for key in self.docker("ps", "-aq", well=False).split():
            self.docker("rm", "-f", key, well=False)
        self.end()
        for left in ("x/netns/default", "data"):  # which it mounts, and leaves
            argv = ["umount", str(self._folder / left)]
            subprocess.run(argv, check=False, capture_output=True)


class Stand:
    """A stack of three on that engine, under load, struck again and again."""

    def __init__(self, ours: containers.Gapless, engine: Engine) -> None:
        self.ours = ours
        self.engine = engine

    def ready(self) -> dict[str, str]:
        """Replica to container, when all three are ready; else nothing."""
        try:
            seen: dict[str, Any] = json.loads(self.ours.command("ps", "--json"))
        except (errors.WorkFailed, ValueError):
            return {}
        web = next((s for s in seen["services"] if s["name"] == "web"), None)
        if seen["controller"] != "running" or web is None or web["ready"] < containers.REPLICAS:
            return {}
        if any(store["state"] != "ready" for store in seen["data"]):
            return {}
        return self.containers()

    def containers(self) -> dict[str, str]:
        """Id to key, of those that run."""
        form = '{{.Label "gapless.id"}} {{.ID}}'
        found = self.engine.docker("ps", "--format", form, well=False).splitlines()
        return dict(line.split() for line in found if line[:1] != " ")

    def controller(self) -> int:
        holder = json.loads(self.ours.command("lock", "status", "--json"))["holder"]
        return int(holder.split()[1].rstrip(","))

    def struck(self, name: str, strike: Callable[[], object]) -> str:
        """A row of the table."""
        machine.until("all ready", lambda: bool(self.ready()), BACK)
        before = self.ready()
        with generator.Load(containers.load(self.ours.port)) as running:
            running.until(requests=1, seconds=10)
            time.sleep(compare.BEFORE)
            begun = time.monotonic()
            strike()
            machine.until("all ready", lambda: bool(self.ready()), BACK)
            seconds = time.monotonic() - begun
            time.sleep(compare.AFTER)
            measured = running.finish()
        whole, after = measured.total(), self.ready()
        kept = sum(after.get(id) == key for id, key in before.items())
        at = [failure["at"] for failure in measured.failures]
        window = max(at) - min(at) if at else 0.0
        left = f"{whole.failed:,} of {whole.requests:,}"
        return f"| {name} | {left} | {window:.1f} s | {kept} of {len(before)} | {seconds:.1f} s |"

    def all(self) -> Iterator[str]:
        def controller() -> None:
            os.kill(self.controller(), signal.SIGKILL)
            self.ours.command("up", "-d")

        def container(name: str) -> Callable[[], None]:
            def strike() -> None:
                key = next(key for id, key in self.containers().items() if id.startswith(name))
                self.engine.docker("kill", "-s", "KILL", key)
                machine.until("its end", lambda: key not in self.containers().values())

            return strike

        def engine(live: bool, number: signal.Signals) -> Callable[[], None]:
            def strike() -> None:
                self.engine.end(number)
                time.sleep(3.0)
                self.engine.start(live=live)

            return strike

        yield self.struck("kill -9 of the controller", controller)
        yield self.struck("kill -9 of one container", container("web"))
        if "data.db" in self.containers():
            yield self.struck("kill -9 of the store's container", container("data.db"))
        if "edge" in self.containers():
            yield self.struck("kill -9 of the edge's container", container("edge"))
            yield self.struck("the edge reloaded", lambda: self.ours.command("restart", "edge"))
        yield self.struck("dockerd restarted, live-restore", engine(True, signal.SIGTERM))
        yield self.struck("dockerd kill -9, live-restore", engine(True, signal.SIGKILL))
        machine.until("all ready", lambda: bool(self.ready()), BACK)
        engine(False, signal.SIGTERM)()  # from here on it takes its containers with it
        yield self.struck("dockerd restarted, no live-restore", engine(False, signal.SIGTERM))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.engines")
    parser.add_argument("image", help="what the application is built on: has a Python 3")
    parser.add_argument("--edge", default="", help="what the load balancer runs in")
    parser.add_argument("--store", default="", help="what a PostgreSQL runs in")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.inside:
        measure(asked.image, asked.edge, asked.store)
        return
    before = _bridged()
    argv = [sys.executable, "-m", "bench.engines", asked.image, "--edge", asked.edge]
    argv += ["--store", asked.store, INSIDE]
    done = subprocess.run([*APART, *argv], check=False)
    if _bridged() != before:
        raise errors.WorkFailed("bench: the machine's own engine has lost its bridge")
    sys.exit(done.returncode)


def _bridged() -> bool:
    return "docker0" in [name for _, name in socket.if_nameindex()]


def measure(image: str, edge: str, store: str) -> None:
    """Print the table; here is a network that nobody else has."""
    home = Path(tempfile.mkdtemp(prefix="gapless-bench-"))
    home.chmod(0o711)
    (home / "app").mkdir(mode=0o711)
    engine = Engine(home)
    with contextlib.ExitStack() as left:
        left.callback(shutil.rmtree, home, ignore_errors=True)
        left.callback(engine.remove)
        engine.start(live=True)
        for one in filter(None, (image, edge, store)):
            engine.load(one)
        os.environ["DOCKER_HOST"] = engine.url
        os.environ["GAPLESS_STATE"] = str(home / "app/state")
        ours = containers.Gapless(home / "app", image, edge, store)
        left.enter_context(containers.standing(ours))
        writer = rows.Writer("bench-containers", "db") if store else None
        if writer is not None:
            writer.start()
        print("| what | failed of | failing for | kept | ready after |\n|---|---|---|---|---|")
        for row in Stand(ours, engine).all():
            print(row, flush=True)
        if writer is not None:
            lost = writer.finish()
            print(f"\n{lost} of {len(writer.acknowledged):,} rows that the store took are lost")


if __name__ == "__main__":
    main()
