"""Output files: written by the programs themselves, cut from the front while they write.

A live file is never renamed or truncated. Its oldest part is copied to ``ID.log.1`` and then
punched out of it (the file begins with a hole that takes no room), so no line is lost but those
that are older than all that is kept, however fast the program writes. Why, and what bounds the logs
meanwhile: docs/decisions/0004-logs.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Set
from pathlib import Path
from typing import BinaryIO

from gapless.errors import EnvironmentFault
from gapless.runtimes.machine import files

FORGOTTEN = 50
"""So many logs of programs that are gone are kept, the newest."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_CHUNK = 1 << 20
_HEAD = 1 << 16


class Logs:
    """The log files of one stack, in one owner-only directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Raises EnvironmentFault."""
        files.make_folder(self.folder, 0o700)

    def path(self, id: str) -> Path:
        return self.folder / f"{files.file_name(id)}.log"

    def parts(self, id: str) -> list[Path]:
        """Everything that is kept of one program's output, oldest first, the live file last."""
        live = self.path(id)
        old = [path for path in self.folder.glob(f"{live.name}.*") if path.suffix[1:].isdigit()]
        old.sort(key=lambda path: -int(path.suffix[1:]))
        return [*old, live] if live.exists() else old

    def flooded(self, limit: int) -> bool:
        """Whether any live file takes more room than ``limit`` bytes; costs one look at each."""
        with os.scandir(self.folder) if self.folder.exists() else contextlib.nullcontext(()) as all:
            return any(
                entry.stat().st_blocks * 512 > limit for entry in all if entry.name.endswith(".log")
            )

    def rotate(self, limit: int, keep: int, *, known: Set[str]) -> list[str]:
        """Cut every live file that holds more than ``limit`` bytes; keep ``keep`` old parts of so
        many bytes at most.

        Returns the ids that were cut. Raises EnvironmentFault (disk full); nothing is lost then.
        """
        cut = []
        for path in sorted(self.folder.glob("*.log")):
            try:
                if _rotate(path, limit, keep):
                    cut.append(path.name.removesuffix(".log"))
            except OSError as error:
                raise EnvironmentFault(
                    f"{path}: cannot be rotated: {error.strerror}",
                    hint="is the disk full? no line was lost",
                ) from None
        self._prune({f"{files.file_name(id)}.log" for id in known})
        return cut

    def _prune(self, known: Set[str]) -> None:
        gone = [path for path in self.folder.glob("*.log") if path.name not in known]
        gone.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in gone[FORGOTTEN:]:
            for part in (path, *self.folder.glob(f"{path.name}.*")):
                part.unlink(missing_ok=True)


def start(file: BinaryIO) -> int:
    """Offset of the first byte that has not been cut; the file's size when all of it has been."""
    size = os.fstat(file.fileno()).st_size
    try:
        offset = os.lseek(file.fileno(), 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
    # A hole has whole blocks; the rest of the last cut block was zeroed.
    while offset < size:
        chunk = os.pread(file.fileno(), _HEAD, offset)
        rest = chunk.lstrip(b"\0")
        if rest or not chunk:
            return offset + len(chunk) - len(rest)
        offset += len(chunk)
    return size


def open_at_start(path: Path) -> BinaryIO:
    """Open a log for reading at its first line, after what was cut. Raises OSError."""
    file = path.open("rb")
    file.seek(start(file))
    return file


def _rotate(path: Path, limit: int, keep: int) -> bool:
    plan = path.with_name(f"{path.name}.cut")
    newest = path.with_name(f"{path.name}.1")
    with path.open("r+b", buffering=0) as live:
        _finish(live, plan, newest)
        first = start(live)
        size = os.fstat(live.fileno()).st_size
        if size - first <= limit:
            return False
        end = _last_line(live, first, size)
        holes = True
        if end - first > keep * limit:
            # Older than all that will be kept: it would be copied only to be dropped.
            first = _next_line(live, end - keep * limit, end)
            holes = _punch(live, first)
        while first < end:
            stop = end if end - first <= limit else _last_line(live, first, first + limit)
            _keep_part(path, live, (first, stop), keep)
            holes = _punch(live, stop)
            plan.unlink(missing_ok=True)
            first = stop
        if not holes:
            # The few lines written since the copy are the price.
            os.ftruncate(live.fileno(), 0)
        return True


def _keep_part(path: Path, live: BinaryIO, span: tuple[int, int], keep: int) -> None:
    """Copy a span of the live file to its newest part; the plan says what is to be cut then."""
    newest = path.with_name(f"{path.name}.1")
    draft = path.with_name(f"{path.name}.draft")
    try:
        inode = _copy(live, *span, draft)
        files.write_durably(path.with_name(f"{path.name}.cut"), f"{span[1]} {inode}")
        _shift(path, keep)
        draft.replace(newest)
    finally:
        draft.unlink(missing_ok=True)


def _finish(live: BinaryIO, plan: Path, newest: Path) -> None:
    """A rotation killed between copy and cut left its plan: cut, or the lines would be twice."""
    try:
        end, inode = (int(field) for field in plan.read_text().split())
    except (FileNotFoundError, ValueError):
        return
    if newest.exists() and newest.stat().st_ino == inode and not _punch(live, end):
        os.ftruncate(live.fileno(), 0)
    plan.unlink()


def _last_line(live: BinaryIO, first: int, size: int) -> int:
    """The end of the last whole line; of everything, when there is no line in the last chunk."""
    begin = max(first, size - _CHUNK)
    tail = os.pread(live.fileno(), size - begin, begin)
    newline = tail.rfind(b"\n")
    return size if newline < 0 else begin + newline + 1


def _next_line(live: BinaryIO, begin: int, end: int) -> int:
    """Where the next line begins; ``begin`` itself, when none does within a chunk."""
    newline = os.pread(live.fileno(), min(_CHUNK, end - begin), begin).find(b"\n")
    return begin if newline < 0 else begin + newline + 1


def _copy(live: BinaryIO, first: int, end: int, draft: Path) -> int:
    """Durable on return; the copy's inode, by which it is known under any name."""
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        offset = first
        while offset < end:
            chunk = os.pread(live.fileno(), min(_CHUNK, end - offset), offset)
            view = memoryview(chunk)
            while view:
                view = view[os.write(handle, view) :]
            offset += len(chunk)
        os.fsync(handle)
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


def _shift(path: Path, keep: int) -> None:
    for number in sorted(_numbers(path), reverse=True):
        part = path.with_name(f"{path.name}.{number}")
        if number >= keep:
            part.unlink()
        else:
            part.replace(path.with_name(f"{path.name}.{number + 1}"))


def _numbers(path: Path) -> list[int]:
    parts = path.parent.glob(f"{path.name}.*")
    return [int(part.suffix[1:]) for part in parts if part.suffix[1:].isdigit()]


def _punch(live: BinaryIO, end: int) -> bool:
    """Give back the room up to ``end``; False where the file system has no holes."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(live.fileno(), _PUNCH_HOLE | _KEEP_SIZE, 0, end) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    return False
