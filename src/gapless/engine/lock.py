"""One writer: a lock on one file, with the holder's name in the refusal.

``flock`` goes with the process, so a killed controller never leaves it behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
from typing import TextIO

from gapless.engine.paths import Paths
from gapless.errors import EnvironmentFault, Locked


def take(paths: Paths) -> TextIO:
    """Hold the stack's lock until the file is closed. Raises Locked, naming the holder."""
    try:
        handle = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(
            f"{paths.lock}: cannot be opened: {error.strerror}",
            hint="gapless must be able to write there; GAPLESS_STATE chooses another place",
        ) from None
    file = os.fdopen(handle, "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip() or "somebody"
        file.close()
        raise Locked(
            f"{paths.stack}: another controller holds the lock ({holder})",
            hint="gapless ps shows what runs; there is one controller per stack",
        ) from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds, only the name is missing
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()}, user {who()}\n".encode(), 0)
    return file


def holds(paths: Paths, file: TextIO) -> bool:
    """Whether the file that we hold still is the stack's lock: a hand may have cleaned up there,
    and then somebody else can get a lock of his own.
    """
    try:
        there, ours = paths.lock.stat(), os.fstat(file.fileno())
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def who() -> str:
    """The user's name, or the uid where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
