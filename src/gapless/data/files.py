"""A folder that services share.

Not as root, all services are one user, and the folder is that user's alone.

As root they run under different uids. Where they share a group, the folder belongs to it and hands
it on to new files (setgid). Where they do not, the folder is open, but only to those who know its
name: it is 128 random bits, in a directory that nobody may list. So it is as
well where containers run: an image that begins as root and becomes somebody is in no group of ours
then. In each case the default access list lets the others write what one of them made, whatever
that one's umask is.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path

from gapless.data import base, owned
from gapless.errors import DataFault, EnvironmentFault
from gapless.model.process import Bridge

_ACL = "system.posix_acl_default"
_OWNER, _GROUP, _OTHERS = 0x01, 0x04, 0x20
_ANY = 0xFFFFFFFF


class Files:
    """One folder. See ``data.base.Store`` for the methods."""

    def __init__(self, name: str, place: base.Place) -> None:
        self.name = name
        self._place = place
        self._token = secrets.token_hex(16)
        group = place.group is not None
        alone = place.uid is None and not group
        shared = 0o2777 if place.packed is not None else 0o2770
        self._mode = 0o700 if alone else shared if group else 0o777

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        return {"path": str(self._path)}

    def created(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        # An image that made the folder its own (PostgreSQL's does) is not to lose it again.
        ours = (self._place.uid, os.geteuid())
        taken = self._place.packed is not None and found.st_uid not in ours
        return taken or (found.st_mode & 0o7777) == self._mode

    async def create(self) -> None:
        place, path = self._place, self._path
        owned.folder(place.home, 0o711)
        owned.check_reachable(place.home, place.uid)
        if self._mode != 0o700:
            owned.folder(path, 0o700, place.uid, place.group)
            _open_new_files(path, self._mode & 0o7)
        # The mode comes last: it is what says that the folder is made.
        owned.folder(path, self._mode, place.uid, place.group)

    def process(self, bridge: Bridge | None = None) -> None:
        return None

    async def probe(self) -> str:
        """ "" when it is there, its owner may write, and the disk has room."""
        try:
            found = self._path.stat()
            room = os.statvfs(self._path)
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        if (found.st_mode & 0o300) != 0o300:
            return f"{self._path}: mode {found.st_mode & 0o7777:04o} lets nobody write"
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
    def _path(self) -> Path:
        """The one that is there, else the one that will be made. Only we write to ``home``."""
        if self._place.uid is None and self._place.group is None:
            return self._place.home / "files"
        there = sorted(self._place.home.glob("files-*"))
        return there[0] if there else self._place.home / f"files-{self._token}"


def _open_new_files(path: Path, others: int) -> None:
    """Default access list: what one makes, the group may write, and others as ``others`` says."""
    entry = struct.Struct("<HHI")
    rules = ((_OWNER, 7), (_GROUP, 7), (_OTHERS, others))
    value = struct.pack("<I", 2) + b"".join(entry.pack(tag, mode, _ANY) for tag, mode in rules)
    try:
        os.setxattr(path, _ACL, value)
    except OSError as error:
        # Without access lists the rest reads, and writes where the writer's umask lets it.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSYS):
            raise EnvironmentFault(f"{path}: {error.strerror}") from None
