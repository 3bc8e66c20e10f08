"""A second stack for a while, of the probe service: for faults that user code must not have.

It is an ordinary stack: its own name, state and port, the same runtime and edge, started and
stopped by the same commands. It is swept away at the end, or, after a kill, by the next drill.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from gapless import errors, stackfile
from gapless.drills import ports, probe_app, stage
from gapless.drills.base import Options, Target
from gapless.engine import target
from gapless.engine.client import Client
from gapless.engine.paths import Paths
from gapless.engine.releases import images, owned
from gapless.model import stack as stacks
from gapless.stackfile import checks

FILE = "gapless.toml"
LEDGER = "ledger"


class Source(Protocol):
    """What a scratch stack is made from."""

    def write(self, folder: Path, name: str) -> None:
        """The stack file ``folder/FILE`` of a stack of that name, and what it runs beside it."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a scratch stack stands on: the same as the stack that it is made beside.

    ``base``: the image under its services, in containers; "": they are programs of the machine.
    ``edge``: the image of its load balancer; "": that is a program of the machine. ``python``: what
    runs Python there; "": one that is sure to be there.
    """

    base: str = ""
    edge: str = ""
    python: str = ""

    @classmethod
    def of(cls, whose: stacks.Stack) -> Self:
        """That of a stack which makes its own images of a base; else the machine."""
        tables = (*whose.services.values(), *whose.jobs.values())
        builds = (table.build for table in tables if table.build is not None)
        return cls(next((one.base for one in builds if one.base), ""), whose.edge.image or "")

    def run(self, *words: str) -> str:
        """The lines of a service that has Python run these words."""
        python = self.python or ("python3" if self.base else interpreter())
        argv = json.dumps([python, *words])
        return f"run = {argv}\n" + (f'build = {{ base = "{self.base}" }}\n' if self.base else "")

    def start(self, time: str) -> str:
        """The time that a service is given to start: a container takes longer than a program."""
        return "60s" if self.base else time

    def kept(self, store: str) -> tuple[str, str]:
        """Where a service finds the files of a store, and the line that puts them there."""
        path = f"${{{store}.path}}"
        if not self.base:
            return path, ""
        return f"/{store}", f'volumes = {{ "/{store}" = "{path}" }}\n'

    def front(self) -> str:
        """The lines of the table ``[edge]``."""
        return f'image = "{self.edge}"\n' if self.edge else ""


MACHINE = Ground()
"""All of it are programs of the machine."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the probe service runs. Durations as the stack file writes them."""

    replicas: int = 3
    watch: str = "3s"
    start: str = "8s"
    drain: str = "5s"
    surge: int | str = 1
    sticky: bool = False
    every: str = "500ms"
    """Between two checks of readiness."""
    scale: str = ""
    """Its table, as the stack file writes it; empty: it does not follow its load."""
    static: bool = False
    """Whether it publishes a folder: see ``publish``."""
    edge: str = ""
    """More lines of the table ``[edge]``."""
    ground: Ground = MACHINE
    ledger: bool = False
    """Whether it keeps a record of what it did: see ``probe_app``, ``Scratch.ledger``."""

    def write(self, folder: Path, name: str) -> None:
        """See ``Source``."""
        write_source(folder, name, self)


class Scratch(stage.Stage):
    """The stage of a scratch stack; ``write`` changes what the next deploy reads."""

    def write(self, mode: str) -> None:
        """The version that the next deploy makes: one of ``probe_app.MODES``, and a mark."""
        place = self.target.file.parent / "mode"
        _, _, turn = (place.read_text("utf-8") if place.exists() else "good 0").partition(" ")
        place.write_text(f"{mode} {int(turn or 0) + 1}\n", encoding="utf-8")

    def ledger(self) -> tuple[str, ...]:
        """The ids of requests as the probe service noted them, once for each time it did one."""
        lines = [file.read_text("ascii") for file in self.paths.data.glob(f"{LEDGER}/files*/runs")]
        return tuple("".join(lines).split())


def name_for(stack: str) -> str:
    """The scratch stack's name: a stack name has 32 characters at most."""
    return f"{stack[:26].strip('-')}-drill"


@contextlib.contextmanager
def stack(
    name: str, folder: Path, say: stage.Say, source: Source, options: Options
) -> Iterator[Scratch]:
    """Up and ready on entry, gone on exit. ``folder`` is made and removed. Raises WorkFailed."""
    paths = Paths.of(name)
    sweep(folder, paths)
    folder.mkdir(parents=True, exist_ok=True)
    source.write(folder, name)
    loaded = stackfile.load(folder / FILE)
    on = target.DOCKER if checks.packed(loaded.stack) else None
    made = Scratch(Target(folder / FILE, None, loaded.stack, on), options, paths, say)
    try:
        made.up()
        made.settle()
        yield made
    finally:
        with stage.undisturbed():
            sweep(folder, paths)


def write_source(folder: Path, name: str, settings: Settings) -> None:
    """The stack file and the probe service beside it."""
    shutil.copyfile(probe_app.__file__, folder / "probe_app.py")
    sticky = 'sticky = "cookie"\n' if settings.sticky else ""
    scale = f"scale = {settings.scale}\n" if settings.scale else ""
    ground = settings.ground
    ledger, mount = ground.kept(LEDGER)
    env = f'env = {{ PROBE_LEDGER = "{ledger}/runs" }}\n{mount}' if settings.ledger else ""
    static = 'static = { "/assets" = "assets" }\n' if settings.static else ""
    data = f'[data.{LEDGER}]\ntype = "files"\n' if settings.ledger else ""
    surge = f'"{settings.surge}"' if isinstance(settings.surge, str) else settings.surge
    text = f"""\
gapless = 1
name = "{name}"

[service.web]
{ground.run("probe_app.py", "--socket", "${socket}")}\
replicas = {settings.replicas}
ready = {{ path = "/ready", every = "{settings.every}" }}
start = "{ground.start(settings.start)}"
watch = "{settings.watch}"
drain = "{settings.drain}"
surge = {surge}
{sticky}{scale}{env}
{data}
[edge]
listen = "127.0.0.1:{ports.reserve()}"
{ground.front()}{static}{settings.edge}
[drill]
get = ["/"]
post = ["/echo"]
slow = "/slow?s=1"
"""
    (folder / FILE).write_text(text, encoding="utf-8")
    (folder / "mode").write_text("good 0\n", encoding="utf-8")
    if settings.static:
        publish(folder, 1)


def publish(folder: Path, version: int) -> str:
    """A page and what it needs, under a name that no other version has; the path of that.

    As build tools leave it: what an earlier version needed is gone, and every time is the same.
    """
    home = folder / "assets"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    text = f"export const version = {version};\n" * 100
    name = f"app-{hashlib.sha256(text.encode()).hexdigest()[:12]}.js"
    (home / name).write_text(text, encoding="utf-8")
    (home / "index.html").write_text(f'<script src="{name}"></script>', encoding="utf-8")
    for file in home.iterdir():
        os.utime(file, (1_000_000_000, 1_000_000_000))
    return f"/assets/{name}"


def sweep(folder: Path, paths: Paths) -> None:
    """Remove what a scratch stack left behind, running or not. Nothing there: nothing done."""
    file = folder / FILE
    if paths.state.exists() and file.exists():
        argv = [*stage.CLI, "-f", str(file)]
        down = [*argv, "-y", "down", "--data"]
        # Its controller may be dead, and only a controller stops what runs in good order.
        if not _run(down) and not (_run([*argv, "up", "-d"]) and _run(down)):
            end_all(paths)
    # Where the engine of its containers does not answer, what is on this machine goes all the same.
    with contextlib.suppress(errors.GaplessError):
        asyncio.run(images.forget(paths))
    for place in (folder, paths.state, paths.run):
        clear(place)


def clear(place: Path) -> None:
    """Remove all of it, also what is read-only, as releases are. What can not be is left."""
    with contextlib.suppress(OSError):
        owned.remove(place)
    shutil.rmtree(place, ignore_errors=True)


def _run(argv: list[str]) -> bool:
    try:
        done = subprocess.run(
            argv, capture_output=True, check=False, timeout=60, env=stage.environment()
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def end_all(paths: Paths) -> None:
    """Kill every program that works in the scratch stack's own places, its controller first.

    The last resort: nobody else has any business there.
    """
    with contextlib.suppress(errors.GaplessError, OSError, KeyError):
        os.kill(int(Client(paths).get("/v1/ping")["pid"]), signal.SIGKILL)
    homes = (paths.state, paths.run)
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            where = (place / "cwd").readlink()
            if any(where.is_relative_to(home) for home in homes):
                os.kill(int(place.name), signal.SIGKILL)


def interpreter() -> str:
    """A Python that the service's own account may run: as root, ours may lie in a closed home."""
    ours = sys.executable
    if os.geteuid() != 0 or _open_to_all(Path(ours).resolve()):
        return ours
    return shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or ours


def _open_to_all(file: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in (file, *file.parents))
