"""Output of containers into the log files that every reader knows, each line once.

The engine keeps what a program writes; from there it is copied as it comes. Beside the copy stands
how far it is: the time of the last piece, how many of that time, and the size of the file then. A
controller that is killed between the two writes leaves a file that is longer than that; so many
bytes are passed over when the copying goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gapless.errors import GaplessError
from gapless.runtimes.docker import seen
from gapless.runtimes.docker.client import Client
from gapless.runtimes.machine import files

AGAIN_AFTER = 0.1
"""Seconds before an engine that went away is asked again."""
LAST = 2.0
"""Seconds that an output may go on after its program's end, before what is left is asked for."""
WIDTH = 96
"""Bytes of a mark in its file."""


@dataclass(slots=True)
class Mark:
    """How far a copy is. ``same``: pieces of that very time; ``size``: of the file, in bytes."""

    stamp: str = ""
    same: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.stamp or '-'} {self.same} {self.size}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """The inverse; of what cannot be read, the beginning."""
        try:
            stamp, same, size = text.split()
            return cls("" if stamp == "-" else stamp, int(same), int(size))
        except ValueError:
            return cls()

    def add(self, stamp: str, size: int) -> None:
        """One more piece. The two streams of a program may be told in each other's past."""
        self.size += size
        if stamp == self.stamp:
            self.same += 1
        elif stamp > self.stamp:
            self.stamp, self.same = stamp, 1

    def since(self) -> str:
        """For the engine: seconds since 1970 with nine digits."""
        if not self.stamp:
            return "0"
        return f"{int(seen.moment(self.stamp[:19]))}.{self.stamp[20:29]:0<9}"


class Copy:
    """The copying of one container's output to ``log``; ``mark`` is where it says how far."""

    def __init__(self, client: Client, key: str, log: Path, mark: Path) -> None:
        self._client = client
        self._key = key
        self._log = log
        self._place = mark
        self._following: asyncio.Timeout | None = None

    async def run(self, alive: Callable[[], bool]) -> None:
        """Until the end of the output, and while ``alive``.

        An engine that went away is awaited. The end of what was followed is not taken for the end
        of the output: Podman may cut it off before its last lines, and may miss the death and
        leave it open. So in the end what there is is asked for, from the mark on.
        """
        while alive():
            with contextlib.suppress(GaplessError, TimeoutError):
                async with asyncio.timeout(None) as self._following:
                    await self._copy(follow=True)
            self._following = None
            if alive():
                await asyncio.sleep(AGAIN_AFTER)
        while True:
            with contextlib.suppress(GaplessError):
                await self._copy(follow=False)
                return
            await asyncio.sleep(AGAIN_AFTER)

    def ended(self) -> None:
        """Its program is dead."""
        if self._following is not None and self._following.when() is None:
            self._following.reschedule(asyncio.get_running_loop().time() + LAST)

    async def _copy(self, *, follow: bool) -> None:
        with contextlib.ExitStack() as held:
            log = _open(held, self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            place = _open(held, self._place, os.O_RDWR | os.O_CREAT)
            size = os.fstat(log).st_size
            text = os.pread(place, WIDTH, 0).decode("ascii", "replace")
            mark = Mark.parse(text) if text else Mark(size=size)
            over = max(0, size - mark.size)
            mark.size = size - over
            _note(place, mark)
            passed, skip = mark.stamp, mark.same
            async for piece in self._client.output(self._key, mark.since(), follow=follow):
                # Docker's has nine digits of a second, Podman's none.
                told, _, line = piece.partition(b" ")
                stamp = told.decode("ascii", "replace")
                if stamp == passed and skip > 0:
                    skip -= 1
                    continue
                _write(log, line[over:])
                over = max(0, over - len(line))
                mark.add(stamp, len(line))
                _note(place, mark)

    def forget(self) -> None:
        """The container is gone; its log stays."""
        self._place.unlink(missing_ok=True)


def place(folder: Path, key: str) -> Path:
    """Where the mark of a container is."""
    return folder / files.file_name(key[:32])


def _open(held: contextlib.ExitStack, path: Path, flags: int) -> int:
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    held.callback(os.close, handle)
    return handle


def _note(place: int, mark: Mark) -> None:
    # One write of always the same length: whoever is killed leaves the old mark or the new one.
    os.pwrite(place, f"{mark}".ljust(WIDTH - 1).encode() + b"\n", 0)


def _write(handle: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(handle, view) :]
