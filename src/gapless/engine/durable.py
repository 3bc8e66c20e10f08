"""Small JSON files that survive a crash at any instant: written aside, synced, renamed."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gapless.errors import Damaged, EnvironmentFault
from gapless.model.desired import Desired
from gapless.model.process import ReplicaId

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@functools.cache
def _record() -> TypeAdapter[Desired]:
    # Imported here: whoever only masks a log or writes a file waits for none of it.
    from pydantic import TypeAdapter

    return TypeAdapter(Desired)


def write(path: Path, text: str, *, sync: bool = True) -> None:
    """Replace the file's content atomically, owner-only.

    Raises EnvironmentFault (disk full, not writable); the old content is then untouched.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written: {error.strerror}",
            hint="free some space, then run the command again; what runs is untouched",
        ) from None


def load_desired(path: Path) -> Desired:
    """The record; a new one where there is none. Raises Damaged, EnvironmentFault."""
    try:
        return _record().validate_json(path.read_bytes())
    except FileNotFoundError:
        return Desired()
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Damaged(
            f"{path}: the record of what is wanted is damaged: {_first_fault(error)}",
            hint="what runs goes on; restore the file from a backup, or remove it to begin anew",
        ) from None


def _first_fault(error: ValueError) -> str:
    """The first of pydantic's faults in one line, with its place; else the error's own words."""
    listed = getattr(error, "errors", None)
    if listed is None:
        return str(error)
    first = listed(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def save_desired(path: Path, desired: Desired) -> None:
    """Durable before anything is done about it."""
    write(path, _record().dump_json(desired, indent=1).decode())


@dataclass(slots=True)
class Marks:
    """What the controller did to a replica and when (CLOCK_BOOTTIME): facts no look can show."""

    entered_at: float | None = None
    left_at: float | None = None
    told_at: float | None = None
    told_sockets: int | None = None
    told_rate: float | None = None
    shut_at: float | None = None
    signalled_at: float | None = None
    killed_at: float | None = None
    ever_ready: bool = False
    background: bool = False
    token: str | None = None


@dataclass(slots=True)
class _Pages:
    """A notebook as it is written."""

    boot: str
    marks: dict[str, Marks]
    attempts: dict[str, int]
    ports: dict[str, int]


@functools.cache
def _pages() -> TypeAdapter[_Pages]:
    from pydantic import TypeAdapter

    return TypeAdapter(_Pages)


PORTS = "ports.json"


def _load_ports(path: Path, lost: bool) -> dict[str, int]:
    """The file of ports; {} where there is none. ``lost``: nobody else knows them."""
    try:
        found = json.loads(path.read_bytes())
        return {str(owner): int(port) for owner, port in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if not lost:
            return {}
        raise Damaged(
            f"{path}: the ports of stores and services are lost: {error}",
            hint="what runs goes on; restore the file, or gapless down, remove it and up again",
        ) from None


@dataclass(slots=True)
class Notebook:
    """Marks by replica id, attempts by ``service.ordinal@rN``, ports by owner.

    Written at each change, so that the next controller knows what this one had done. Losing it
    costs a repeated drain, never a request. Ports are what clients of stores and services hold on
    to, so they also stand in a file of their own, which survives a power cut.
    """

    path: Path
    marks: dict[str, Marks] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    boot: str = ""

    @classmethod
    def load(cls, path: Path) -> Notebook:
        """Read it; marks of an earlier boot are dropped, attempts and ports kept.

        Raises Damaged where the ports are lost with both files.
        """
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        try:
            saved = _pages().validate_json(path.read_bytes())
            for slot in saved.attempts:
                ReplicaId.parse(slot)
            book = cls(path, saved.marks, saved.attempts, saved.ports, saved.boot)
            lost = False
        except (OSError, ValueError) as error:
            book = cls(path)
            lost = not isinstance(error, FileNotFoundError)
        book.ports |= _load_ports(path.with_name(PORTS), lost)
        if book.boot != boot:
            book.marks, book.boot = {}, boot
        return book

    def of(self, id: str) -> Marks:
        """The marks of one replica, empty ones at first."""
        return self.marks.setdefault(id, Marks())

    def keep_port(self, owner: str, port: int) -> None:
        """Give a port to an owner for good; durable on return. Raises EnvironmentFault."""
        self._keep_ports({**self.ports, owner: port})

    def forget_port(self, owner: str) -> None:
        """Its owner gets another one. Raises EnvironmentFault."""
        self._keep_ports({name: port for name, port in self.ports.items() if name != owner})

    def _keep_ports(self, ports: dict[str, int]) -> None:
        write(self.path.with_name(PORTS), json.dumps(ports, indent=1))
        self.ports = ports
        self.save()

    def save(self) -> None:
        """Write it. No sync: after a power cut no process is left that it speaks of."""
        pages = _Pages(self.boot, self.marks, self.attempts, self.ports)
        # By pydantic: what is written so often must not take longer the more replicas there are.
        write(self.path, _pages().dump_json(pages).decode(), sync=False)
