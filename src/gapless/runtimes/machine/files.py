"""Names, directories and files of a stack on this machine, made so that no half of one is seen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.parse
from pathlib import Path

from gapless.errors import EnvironmentFault, RuntimeFault

LONGEST = 200


def home(state: Path) -> str:
    """Tells stacks of one name under different roofs apart, within their programs' marks."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]


def file_name(id: str) -> str:
    """An id as the name of a file. Raises RuntimeFault for one that cannot be."""
    name = urllib.parse.quote(id, safe="@+:=,")
    if not id or id.startswith(".") or len(name) > LONGEST:
        raise RuntimeFault(f"{id!r} cannot be the id of a program")
    return name


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
