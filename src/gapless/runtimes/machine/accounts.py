"""Unprivileged uids for the services of a stack that root runs. No account is created.

The range and the reasons: docs/decisions/0003-unprivileged-uids.md.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import threading
from pathlib import Path

from gapless.errors import EnvironmentFault
from gapless.runtimes.machine import files

WIDE = range(70_000, 100_000)
"""Between what distributions and systemd hand out (below 65,536) and subordinate ids (100,000)."""
NARROW = range(61_184, 65_520)
"""Inside a user namespace of 65,536 ids, where the wide range does not exist."""

SHARED = ""
"""The identity of nobody, whose gid all programs of a stack have in common."""


def mapped(uid: int, table: str) -> bool:
    """Whether a uid exists in this user namespace (text of ``/proc/self/uid_map``)."""
    for line in table.splitlines():
        inside, _, count = (int(field) for field in line.split())
        if inside <= uid < inside + count:
            return True
    return False


class Accounts:
    """uid by identity, stable over restarts, and different for each (stack, identity).

    Claims lie beside the stacks' state directories, so stacks under one roof never share a uid.
    """

    def __init__(self, state: Path, stack: str) -> None:
        self.state = state
        self.stack = stack
        self.claims = state.parent / ".uids"
        self._known: dict[str, int] = {}
        # Programs start in threads, several at once.
        self._lock = threading.Lock()

    def uid(self, identity: str) -> int | None:
        """None unless we are root. Raises EnvironmentFault when no uid is free."""
        if os.geteuid() != 0:
            return None
        with self._lock:
            if identity not in self._known:
                self._known[identity] = self._claim(f"{self.stack}/{identity}")
            return self._known[identity]

    def owned(self) -> set[int]:
        """All uids that programs of this stack can have, ours among them."""
        found = {os.geteuid()}
        for claim in self.claims.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if claim.read_text().startswith(f"{self.stack}/"):
                    found.add(int(claim.name))
        return found

    def home(self, identity: str, uid: int) -> tuple[Path, Path]:
        """Its home and temporary directory, made and owned. Raises EnvironmentFault."""
        found = []
        for kind in ("home", "tmp"):
            folder = self.state / kind / files.file_name(identity)
            files.make_folder(folder.parent, 0o711)
            files.make_folder(folder, 0o700, uid=uid)
            found.append(folder)
        return found[0], found[1]

    def _claim(self, owner: str) -> int:
        table = Path("/proc/self/uid_map").read_text()
        span = WIDE if mapped(WIDE[-1], table) else NARROW
        files.make_folder(self.claims, 0o700)
        first = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8], "big")
        for step in range(len(span)):
            uid = span[(first + step) % len(span)]
            if self._mine(uid, owner):
                return uid
        raise EnvironmentFault(
            f"no unprivileged uid is free between {span[0]} and {span[-1]}",
            hint=f"remove the claims of stacks that are gone from {self.claims}",
        )

    def _mine(self, uid: int, owner: str) -> bool:
        claim = self.claims / str(uid)
        with contextlib.suppress(FileNotFoundError):
            return claim.read_text() == owner
        if _taken(uid):
            return False
        # A link is made whole or not at all; a file opened for writing can be seen empty.
        # One process may look for several: a stack's own, and those of the front.
        draft = self.claims / f".{os.getpid()}.{threading.get_ident()}"
        draft.write_text(owner)
        try:
            claim.hardlink_to(draft)
        except FileExistsError:
            return claim.read_text() == owner
        finally:
            draft.unlink()
        return True


def _taken(uid: int) -> bool:
    for ask in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            ask(uid)
            return True
    return False
