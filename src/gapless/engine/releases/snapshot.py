"""Copying a folder into a release, and the digest that stands for what was copied."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from gapless.engine.releases.select import Entry
from gapless.errors import EnvironmentFault, Refused

_CHUNK = 1 << 20
_TRIES = 3

Digests = dict[str, str]
"""Path to the digest of one file (contents and whether it can be executed) or link."""


def digest(root: Path, entries: Sequence[Entry]) -> Digests:
    """Of the files as they lie. Raises Refused when one cannot be read."""
    return {entry.path: _leaf(root, entry, None) for entry in entries if entry.kind != "folder"}


def copy(root: Path, entries: Sequence[Entry], tree: Path) -> Digests:
    """Copy into the new folder ``tree``; digests of what was copied, whatever happens meanwhile.

    Never by hard link: the user goes on working on the files. Raises Refused (a file vanished
    or keeps changing) and EnvironmentFault (disk full); the caller removes what is there then.
    """
    try:
        tree.mkdir(parents=True)
        found = {}
        for entry in entries:
            target = tree / entry.path
            if entry.kind == "folder":
                target.mkdir(exist_ok=True)
                continue
            # An included file may lie in folders that are ignored themselves.
            target.parent.mkdir(parents=True, exist_ok=True)
            found[entry.path] = _leaf(root, entry, target)
    except OSError as error:
        raise EnvironmentFault(
            f"{tree}: cannot be written: {error.strerror}", hint=_room(error)
        ) from None
    return found


def _room(error: OSError) -> str | None:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "make room; gapless releases lists what is kept" if full else None


def total(digests: Digests, *more: str) -> str:
    """One digest of all of it."""
    sum = hashlib.sha256()
    for path, leaf in sorted(digests.items()):
        sum.update(f"{len(path)} {path} {leaf}\n".encode("utf-8", "surrogateescape"))
    for text in more:
        sum.update(f"{len(text)} {text}\n".encode())
    return sum.hexdigest()


def _leaf(root: Path, entry: Entry, target: Path | None) -> str:
    if entry.kind == "link":
        if target is not None:
            target.symlink_to(entry.target)
        return f"link {entry.target}"
    for _ in range(_TRIES):
        if (found := _file(root, entry, target)) is not None:
            return found
    raise Refused(
        f"{entry.path}: changes while it is copied",
        hint="name files that running programs write in .gitignore",
    )


def _file(root: Path, entry: Entry, target: Path | None) -> str | None:
    """Digest, and copy if there is a target; None when it changed under our hands."""
    try:
        source = (root / entry.path).open("rb", buffering=0)
    except OSError as error:
        raise Refused(f"{entry.path}: cannot be read: {error.strerror}") from None
    with source:
        before = os.fstat(source.fileno())
        sum = hashlib.sha256()
        if target is None:
            while chunk := source.read(_CHUNK):
                sum.update(chunk)
        else:
            with target.open("wb", buffering=0) as copy:
                while chunk := source.read(_CHUNK):
                    sum.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[copy.write(view) :]
            os.utime(target, ns=(before.st_mtime_ns, before.st_mtime_ns))
            target.chmod(0o755 if entry.executable else 0o644)
        after = os.fstat(source.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return None
    return f"{'x' if entry.executable else '-'} {sum.hexdigest()}"
