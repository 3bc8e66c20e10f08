"""Files that belong to an unprivileged uid.

As root we write only into directories that are root's own: an unprivileged server that could
plant a link in our way would otherwise choose which file of the machine we overwrite.
"""

from __future__ import annotations

import os
import secrets
import shutil
from concurrent import futures
from pathlib import Path

from gapless.errors import EnvironmentFault

SOCKET_LIMIT = 107
"""Longest path of a Unix socket (108 bytes with the final NUL)."""


def folder(path: Path, mode: int, uid: int | None = None, gid: int | None = None) -> None:
    """Make a directory and its parents (0711) as wanted. Raises EnvironmentFault."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
        found = path.stat()
        group = uid if gid is None else gid
        if uid is not None and group is not None and (found.st_uid, found.st_gid) != (uid, group):
            os.chown(path, uid, group, follow_symlinks=False)
        if (path.stat().st_mode & 0o7777) != mode:
            path.chmod(mode)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be made: {error.strerror}") from None


def give(root: Path, uid: int | None) -> None:
    """Hand a tree to ``uid`` and the group of the same number; None: it stays ours."""
    if uid is None:
        return
    for folder_, _, names in os.walk(root):
        os.chown(folder_, uid, uid, follow_symlinks=False)
        for name in names:
            os.chown(os.path.join(folder_, name), uid, uid, follow_symlinks=False)  # noqa: PTH118


def write(path: Path, text: str, mode: int, uid: int | None = None) -> None:
    """Write by atomic rename and on to the disk. Raises EnvironmentFault (full, read-only)."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                if uid is not None:
                    os.fchown(stream.fileno(), uid, uid)
                os.fchmod(stream.fileno(), mode)
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temp.replace(path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from None


def sync(path: Path) -> None:
    """Put a file, or a directory's entries, on to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Put a whole tree on to the disk.

    Many at a time, for the file system then writes its journal for all of them at once: four
    times as fast as one by one. Links are left alone.
    """
    found = [root]
    for folder_, folders, names in os.walk(root):
        found += [Path(folder_) / name for name in (*folders, *names)]
    with futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, (path for path in found if not path.is_symlink())))


def sweep(home: Path, prefix: str) -> None:
    """Remove what interrupted attempts left. What cannot go now goes next time."""
    for left in home.glob(f"{prefix}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def check_reachable(path: Path, uid: int | None) -> None:
    """Raise EnvironmentFault when a directory on the way to ``path`` is closed to ``uid``."""
    if uid is None:
        return
    for parent in (path, *path.parents):
        found = parent.stat()
        needed = 0o100 if found.st_uid == uid else 0o010 if found.st_gid == uid else 0o001
        if not found.st_mode & needed:
            raise EnvironmentFault(
                f"{path}: cannot be reached by uid {uid}, because {parent} is closed to it",
                hint="set GAPLESS_STATE to a directory that others may enter, "
                "such as /var/lib/gapless",
            )


def check_socket(path: Path) -> None:
    """Raise EnvironmentFault when ``path`` is too long for a Unix socket."""
    size = len(os.fsencode(path))
    if size > SOCKET_LIMIT:
        raise EnvironmentFault(
            f"{path}: too long for a Unix socket ({size} of {SOCKET_LIMIT} bytes)",
            hint="set GAPLESS_STATE or XDG_RUNTIME_DIR to a shorter path",
        )
