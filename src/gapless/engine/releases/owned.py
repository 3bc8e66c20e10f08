"""Whose the files of a release are: at first the builder's, in the end nobody's to change."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path


def give(folder: Path, uid: int) -> None:
    """All of it to the builder, who is about to write there."""
    for path in _everything(folder):
        os.chown(path, uid, uid, follow_symlinks=False)


def seal(folder: Path, group: int | None) -> None:
    """Read-only. As root: root's, readable by the group; else the owner's alone. No setuid.

    Nothing of the builder may be running any more.
    """
    root = os.geteuid() == 0
    for path in _everything(folder):
        mode = path.lstat().st_mode
        if root:
            os.chown(path, 0, 0 if group is None else group, follow_symlinks=False)
        if stat.S_ISLNK(mode):
            continue
        bits = 0o500 if stat.S_ISDIR(mode) or mode & 0o111 else 0o400
        if root:
            bits |= bits >> 3
            if group is None:
                bits |= bits >> 6
        path.chmod(bits)


def lend(folder: Path, parts: Iterable[str]) -> None:
    """Parts of a sealed folder that containers are given: whoever an image becomes may read them.

    Not the folder itself, which keeps others on the machine out of all that is in it.
    """
    for part in parts:
        place = folder / part
        found = _everything(place) if place.is_dir() else [place]
        inside = place != folder and place.exists() and not place.is_symlink()
        for path in found if inside else ():
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) | (mode & 0o500) >> 6)


def remove(folder: Path) -> None:
    """All of it, however read-only. Already gone: no error. Raises OSError."""
    if not folder.exists():
        return
    for here, folders, _ in os.walk(folder):
        for name in (".", *folders):
            path = Path(here, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)


def _everything(folder: Path) -> list[Path]:
    """Every path in it and itself, deepest first; links are not followed."""
    found = []
    for here, folders, files in os.walk(folder, topdown=False):
        found += [Path(here, name) for name in files]
        found += [Path(here, name) for name in folders if Path(here, name).is_symlink()]
        found.append(Path(here))
    return found
