"""What the engine is sent to make an image of: the same bytes for the same files; blocking."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from gapless.errors import EnvironmentFault


def archive(folders: Mapping[str, Path], files: Mapping[str, bytes]) -> IO[bytes]:
    """A tar file, at its beginning: ``folders`` by the place of their content in it ("" for the
    top), and ``files`` by path. The caller closes it. Raises EnvironmentFault.

    Owner and time of each are nobody's, so that what has not changed is found in the cache.
    """
    try:
        with contextlib.ExitStack() as undo:
            made = undo.enter_context(tempfile.TemporaryFile())
            with tarfile.open(fileobj=made, mode="w") as tar:
                for place, folder in sorted(folders.items()):
                    _folder(tar, place)
                    _add(tar, place, folder)
                for name, content in sorted(files.items()):
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = len(content), 0o644
                    tar.addfile(entry, io.BytesIO(content))
            made.seek(0)
            undo.pop_all()
            return made
    except OSError as error:
        raise EnvironmentFault(f"build: cannot copy the source: {error.strerror}") from None


def _folder(tar: tarfile.TarFile, place: str) -> None:
    if place:
        entry = tarfile.TarInfo(place)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)


def _add(tar: tarfile.TarFile, place: str, folder: Path) -> None:
    for here, below, names in os.walk(folder):
        below.sort()
        for name in sorted((*below, *names)):
            path = Path(here, name)
            inside = path.relative_to(folder).as_posix()
            entry = tar.gettarinfo(str(path), f"{place}/{inside}" if place else inside)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = 0
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
