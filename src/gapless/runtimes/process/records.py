"""Who was started: one small owner-only file a program, written before the program may run.

A record never holds an environment value. It is replaced by atomic rename, so a controller
killed at any instant leaves the old one, the new one or none, never half of one.
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gapless.model.process import Address, Exit
from gapless.runtimes.machine import files

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


class Records:
    """The records (``procs/``) and the recorded ends (``exits/``) of one stack."""

    def __init__(self, state: Path, stack: str) -> None:
        self.procs = state / "procs"
        self.exits = state / "exits"
        self.stack = stack
        self.home = files.home(state)

    def make(self) -> None:
        """Create the directories. Raises EnvironmentFault."""
        for folder in (self.procs, self.exits):
            files.make_folder(folder, 0o700)

    def save(self, record: Record) -> None:
        """Durable on return. Raises EnvironmentFault (disk full, not writable)."""
        files.write_durably(
            self.procs / f"{files.file_name(record.id)}.json", json.dumps(asdict(record))
        )

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
            body: dict[str, Any] = json.loads(
                (self.procs / f"{files.file_name(id)}.json").read_text()
            )
            record = Record(**body)
        except (OSError, ValueError, TypeError):
            return None
        return record if record.stack == self.stack and record.id == id else None

    def drop(self, id: str) -> None:
        """Remove record and recorded end. Already gone: no error."""
        for path in (self.procs / f"{files.file_name(id)}.json", self.exit_path(id)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.exits / f".{files.file_name(id)}.json").unlink()

    def exit_path(self, id: str) -> Path:
        return self.exits / f"{files.file_name(id)}.json"

    def exit(self, id: str) -> Exit | None:
        """The end that the launcher of a job wrote down, or None."""
        try:
            body = json.loads(self.exit_path(id).read_text())
            return Exit(code=body["code"], signal=body["signal"], timed_out=body["timed_out"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
