"""Where a program may listen: a Unix socket in a directory of its own, or a loopback port."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from gapless.errors import EnvironmentFault
from gapless.model.process import Address
from gapless.runtimes.machine import files

LOOPBACK = "127.0.0.1"
LONGEST = 107
"""A socket's path has 108 bytes, the last of them NUL."""
LOWEST, HIGHEST = 10_000, 65_500


def ephemeral() -> tuple[int, int]:
    """First and last port that the kernel gives to outgoing connections by itself."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    low, high = text.split()
    return int(low), int(high)


class Addresses:
    """Hands out addresses for one stack; no port twice before it is given back."""

    def __init__(self, run: Path, stack: str, edge_uid: Callable[[], int | None]) -> None:
        self.folder = run / "s"
        self.handed: dict[int, str] = {}
        self._edge_uid = edge_uid
        low, high = ephemeral()
        self._below = range(LOWEST, min(low, HIGHEST))
        self._above = range(max(high + 1, LOWEST), HIGHEST)
        # Stacks that start at the same moment begin their search in different places.
        self._next = int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big")

    def fresh_socket(self, id: str) -> Address:
        """Under ``run/s/``: by the id's own name, or by a digest of it where that is too long."""
        digest = hashlib.sha256(id.encode()).hexdigest()[:12]
        for name in (files.file_name(id), digest):
            path = self.folder / name / "s"
            if len(str(path).encode()) <= LONGEST:
                return Address(socket=str(path))
        raise EnvironmentFault(
            f"{path}: too long for a Unix socket ({len(str(path).encode())} of {LONGEST} bytes)",
            hint="set GAPLESS_STATE or XDG_RUNTIME_DIR to a shorter path",
        )

    def fresh_port(self, id: str) -> Address:
        """A free one outside the ephemeral range. Raises EnvironmentFault when none is left."""
        count = len(self._below) + len(self._above)
        for _ in range(count):
            nth = self._next % count
            above = nth - len(self._below)
            port = self._below[nth] if above < 0 else self._above[above]
            self._next += 1
            if port not in self.handed and _free(port):
                self.handed[port] = id
                return Address(host=LOOPBACK, port=port)
        raise EnvironmentFault(
            f"{id}: no port is free on {LOOPBACK} outside the ephemeral range",
            hint="use ${socket} instead of ${port}, or narrow net.ipv4.ip_local_port_range",
        )

    def keep(self, id: str, address: Address | None) -> None:
        """Remember what an adopted program listens on."""
        if address is not None and address.port is not None:
            self.handed[address.port] = id

    def prepare(self, address: Address | None, uid: int | None) -> None:
        """Make the directory of a socket, for its owner to bind in and for the edge to reach."""
        if address is None or address.socket is None:
            return
        path = Path(address.socket)
        if path.parent.parent != self.folder:
            return
        files.make_folder(self.folder, 0o711)
        if uid is None:
            files.make_folder(path.parent, 0o700)
        else:
            # The socket inherits the directory's group: the edge, and nobody else, may connect.
            files.make_folder(path.parent, 0o2710, uid=uid, gid=self._edge_uid())
        path.unlink(missing_ok=True)

    def open_to_group(self, address: Address | None) -> None:
        """Let the group of its directory connect to a socket, whatever umask it was made with.

        Its maker may put anything there: what is not a socket is left as it is. Not there: nothing.
        """
        if address is None or address.socket is None:
            return
        try:
            handle = os.open(address.socket, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            mode = os.fstat(handle).st_mode
            if stat.S_ISSOCK(mode) and mode & 0o070 != 0o070:
                with contextlib.suppress(OSError):
                    Path(f"/proc/self/fd/{handle}").chmod(0o770)
        finally:
            os.close(handle)

    def give_back(self, id: str, address: Address | None) -> None:
        """The program is gone: its ports are free again, its socket and directory are removed."""
        for port in [port for port, owner in self.handed.items() if owner == id]:
            del self.handed[port]
        if address is not None and address.socket is not None:
            folder = Path(address.socket).parent
            if folder.parent == self.folder:
                shutil.rmtree(folder, ignore_errors=True)


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
