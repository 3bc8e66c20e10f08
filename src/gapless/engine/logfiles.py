"""Log files as they lie: which program's they are, their last lines, what must not be shown."""

from __future__ import annotations

import errno
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gapless.engine import offline
from gapless.engine.paths import Paths
from gapless.model.process import ReplicaId

BLOCK = 1 << 16
SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class LogFile:
    """The log of one program. ``changed`` in seconds since 1970."""

    id: str
    path: Path
    alive: bool
    changed: float

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called: the whole id, service and ordinal, the service."""
        try:
            replica = ReplicaId.parse(self.id)
        except ValueError:
            return (self.id, self.id.removeprefix("data."), self.id.partition("@")[0])
        return (self.id, f"{replica.service}.{replica.ordinal}", replica.service)

    def answers_to(self, name: str) -> bool:
        return name in self.names


def find(paths: Paths) -> list[LogFile]:
    """All logs of a stack, the one changed last at the end; empty ones of the dead left out."""
    programs = [program for program in offline.programs(paths) if program.alive]
    living = {program.id for program in programs}
    living |= {program.labels["job"] for program in programs if "due" in program.labels}
    found = []
    for path in paths.logs.glob(f"*{SUFFIX}"):
        name = urllib.parse.unquote(path.name.removesuffix(SUFFIX))
        try:
            changed = path.stat().st_mtime
        except OSError:
            continue
        found.append(LogFile(name, path, name in living or name == "controller", changed))
    return sorted(found, key=lambda entry: entry.changed)


def size(path: Path) -> int:
    """Bytes; 0 where there is no file."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def begin(stream: IO[bytes], offset: int) -> int:
    """The first byte from ``offset`` on that is still there.

    Rotation frees the front of a file in place: what was there reads as zeros, not as lines. A
    file shorter than the offset was made anew.
    """
    end = os.fstat(stream.fileno()).st_size
    if offset > end:
        offset = 0
    try:
        return os.lseek(stream.fileno(), offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        return offset


def read(path: Path, tail: int | None) -> tuple[list[str], int]:
    """The last ``tail`` lines (None: all), and the offset behind them in the live file.

    Parts that rotation has cut off (``ID.log.1`` is the newest) are read where they are needed.
    No file: no lines.
    """
    lines, offset = _read_one(path, tail)
    parts = [part for part in path.parent.glob(f"{path.name}.*") if part.suffix[1:].isdigit()]
    for part in sorted(parts, key=lambda part: int(part.suffix[1:])):
        if tail is not None and len(lines) >= tail:
            break
        older, _ = _read_one(part, None if tail is None else tail - len(lines))
        lines = older + lines
    return lines, offset


def _read_one(path: Path, tail: int | None) -> tuple[list[str], int]:
    try:
        with path.open("rb") as stream:
            first = begin(stream, 0)
            end = os.fstat(stream.fileno()).st_size
            start = first if tail is None else _backwards(stream, first, end, tail)
            stream.seek(start)
            raw = stream.read(max(0, end - start))
    except OSError:
        return [], 0
    lines = raw.lstrip(b"\0").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    lines = lines if tail is None else lines[max(0, len(lines) - tail) :]
    return [line.decode("utf-8", "replace") for line in lines], start + len(raw)


def _backwards(stream: IO[bytes], first: int, end: int, tail: int) -> int:
    """Where reading must start to get at least ``tail`` lines."""
    at, seen = end, 0
    while at > first and seen <= tail:
        step = min(BLOCK, at - first)
        at -= step
        stream.seek(at)
        seen += stream.read(step).count(b"\n")
    return at


def masker(paths: Paths) -> Callable[[str], str]:
    """What hides the values of the stack's secrets in a line. Raises what the store raises."""
    if not paths.secrets.exists():
        return lambda line: line
    from gapless.engine import secrets

    return secrets.Secrets(paths).masker()
