"""A folder that services share.

Services may run under different uids, so what one writes belongs to the stack's group: the folder
hands its group to new files (setgid), and its default access list lets the group write them
whatever the writer's umask is. Nobody else can enter.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping

from gapless.data import base, owned
from gapless.errors import DataFault, EnvironmentFault

_ACL = "system.posix_acl_default"


class Files:
    """One folder. See ``data.base.Store`` for the methods."""

    def __init__(self, name: str, place: base.Place) -> None:
        self.name = name
        self._place = place
        self._path = place.home / "files"

    def attributes(self) -> Mapping[str, str]:
        return {"path": str(self._path)}

    def created(self) -> bool:
        return self._path.is_dir() and (self._path.stat().st_mode & 0o7777) == self._mode

    async def create(self) -> None:
        place = self._place
        owned.folder(place.home, 0o711)
        owned.check_reachable(place.home, place.uid)
        group = place.uid if place.group is None else place.group
        if place.uid is not None or place.group is not None:
            owned.folder(self._path, 0o700, place.uid, group)
            _let_group_write(self._path)
        # The mode comes last: it is what says that the folder is made.
        owned.folder(self._path, self._mode, place.uid, group)

    def process(self) -> None:
        return None

    async def probe(self) -> str:
        """ "" when it is there and its owner may write to it."""
        try:
            found = self._path.stat()
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        if (found.st_mode & 0o300) != 0o300:
            return f"{self._path}: mode {found.st_mode & 0o7777:04o} lets nobody write"
        room = os.statvfs(self._path)
        if room.f_bavail == 0 or (room.f_files and not room.f_favail):
            return f"{self._path}: the disk is full"
        return ""

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        raise DataFault(f"{self.name}: a folder has no shell of its own", hint=f"cd {self._path}")

    async def pending(self) -> tuple[base.Pending, ...]:
        return ()

    async def apply(self, *, stopped: bool = False) -> tuple[base.Pending, ...]:
        return ()

    def explain(self, log: str) -> str:
        return ""

    async def close(self) -> None:
        pass

    @property
    def _mode(self) -> int:
        return 0o700 if self._place.uid is None and self._place.group is None else 0o2770


def _let_group_write(path: os.PathLike[str]) -> None:
    """Default access list u::rwx g::rwx o::---: new files ignore the umask for the group."""
    entry = struct.Struct("<HHI")
    nobody = 0xFFFFFFFF
    rules = ((0x01, 7), (0x04, 7), (0x20, 0))  # owner, owning group, others
    value = struct.pack("<I", 2) + b"".join(entry.pack(tag, mode, nobody) for tag, mode in rules)
    try:
        os.setxattr(path, _ACL, value)
    except OSError as error:
        # Without access lists the group still reads, and writes where the umask lets it.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSYS):
            raise EnvironmentFault(f"{path}: {error.strerror}") from None
