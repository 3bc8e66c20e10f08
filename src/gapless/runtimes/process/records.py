"""Who was started: one small owner-only file a program, written before the program may run.

A record never holds an environment value. It is replaced by atomic rename, so a controller
killed at any instant leaves the old one, the new one or none, never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Address, Exit

LONGEST = 200
MARK = "GAPLESS_PROCESS"
"""Environment variable that marks a program and its children as ours."""


@dataclass(frozen=True, slots=True)
class Record:
    """Identity and facts of one started program. ``start`` is in clock ticks since boot."""

    id: str
    stack: str
    pid: int
    start: int
    boot: str
    nonce: str
    labels: Mapping[str, str]
    address: str | None = None
    record_exit: bool = False
    uid: int | None = None

    @property
    def mark(self) -> str:
        """The line that its environment, and that of its children, begins life with."""
        return f"{MARK}={self.stack}/{self.id}/{self.nonce}"

    def listens(self) -> Address | None:
        return None if self.address is None else Address.parse(self.address)


def home(state: Path) -> str:
    """Tells stacks of one name under different roofs apart, within their programs' marks."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]


def file_name(id: str) -> str:
    """An id as the name of a file. Raises RuntimeFault for one that cannot be."""
    name = urllib.parse.quote(id, safe="@+:=,")
    if not id or id.startswith(".") or len(name) > LONGEST:
        raise RuntimeFault(f"{id!r} cannot be the id of a program")
    return name


class Records:
    """The records (``procs/``) and the recorded ends (``exits/``) of one stack."""

    def __init__(self, state: Path, stack: str) -> None:
        self.procs = state / "procs"
        self.exits = state / "exits"
        self.stack = stack
        self.home = home(state)

    def make(self) -> None:
        """Create the directories. Raises EnvironmentFault."""
        for folder in (self.procs, self.exits):
            make_folder(folder, 0o700)

    def save(self, record: Record) -> None:
        """Durable on return. Raises EnvironmentFault (disk full, not writable)."""
        write_durably(self.procs / f"{file_name(record.id)}.json", json.dumps(asdict(record)))

    def names(self) -> Iterator[str]:
        """Ids that have a record."""
        try:
            entries = sorted(entry.name for entry in self.procs.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.endswith(".json") and not entry.startswith("."):
                yield urllib.parse.unquote(entry.removesuffix(".json"))

    def load(self, id: str) -> Record | None:
        """None: absent, another stack's, or unreadable (a power cut; then nothing of it runs)."""
        try:
            body: dict[str, Any] = json.loads((self.procs / f"{file_name(id)}.json").read_text())
            record = Record(**body)
        except (OSError, ValueError, TypeError):
            return None
        return record if record.stack == self.stack and record.id == id else None

    def drop(self, id: str) -> None:
        """Remove record and recorded end. Already gone: no error."""
        for path in (self.procs / f"{file_name(id)}.json", self.exit_path(id)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.exits / f".{file_name(id)}.json").unlink()

    def exit_path(self, id: str) -> Path:
        return self.exits / f"{file_name(id)}.json"

    def exit(self, id: str) -> Exit | None:
        """The end that the launcher of a job wrote down, or None."""
        try:
            body = json.loads(self.exit_path(id).read_text())
            return Exit(code=body["code"], signal=body["signal"], timed_out=body["timed_out"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def make_folder(folder: Path, mode: int, *, uid: int | None = None, gid: int | None = None) -> None:
    """Create it with exactly this mode (and owner). Raises EnvironmentFault with the cause."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if uid is not None:
            os.chown(folder, uid, uid if gid is None else gid)
        folder.chmod(mode)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be used: {error.strerror}") from None


def write_durably(path: Path, text: str) -> None:
    """Replace a file atomically, owner-only, on disk when this returns. Raises EnvironmentFault."""
    temporary = path.with_name(f".{path.name}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from None
