"""Who listens on a port of this machine, as far as the kernel tells us."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from gapless.runtimes import base
from gapless.runtimes.process import records

_LISTENS = "0A"
_OF = " of the stack "
_MARKS = "|".join((records.MARK, base.CONTAINED))
_MARK = re.compile(rb"(?:^|\0)(?:" + _MARKS.encode() + rb")=([^/\0]+)/[^/\0]+/")
"""Of a program of a stack; a controller's has two parts."""


def holder(port: int) -> str:
    """``haproxy (pid 7) of the stack shop``; "" when nobody does or it may not be seen.

    A stack's program before anybody else: its controller may hold the same socket.
    """
    inodes = _inodes(port)
    if not inodes:
        return ""
    links = {f"socket:[{inode}]" for inode in inodes}
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            if any(_link(entry) in links for entry in (process / "fd").iterdir()):
                found.append(_name(process))
    return next((name for name in found if _OF in name), found[0] if found else "")


def taken(port: int) -> bool:
    """Whether anybody listens on it, at whatever address. What a closed connection still holds
    is free: servers may listen there."""
    return bool(_inodes(port))


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                here = int(fields[1].rpartition(":")[2], 16)
                if here == port and fields[3] == _LISTENS:
                    found.add(fields[9])
    return found


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def _name(process: Path) -> str:
    text = f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    with contextlib.suppress(OSError):
        if mark := _MARK.search((process / "environ").read_bytes()):
            text += f"{_OF}{mark[1].decode()}"
    return text
