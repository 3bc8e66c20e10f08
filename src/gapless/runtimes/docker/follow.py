"""Output of containers into the log files that every reader knows, each line once.

The engine keeps what a program writes; from there it is copied as it comes. Beside the copy stands
how far it is: a time, how many pieces since that time were copied, and the size of the file then. A
controller that is killed between the two writes leaves a file that is longer than that; so many
bytes are passed over when the copying goes on.

The time is not that of the last piece: the two streams of a program reach the engine's record in
each other's past, by as much as the engine is held up between the two. The record has an order that
stays, so pieces are counted from some moment back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
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
SECOND = 1_000_000_000
PAST = 5 * SECOND
"""Nanoseconds that a piece may be older than one that the engine has told before it."""


@dataclass(slots=True)
class Mark:
    """How far a copy is. ``since``: nanoseconds since 1970; ``told``: pieces of that time or later;
    ``size``: of the file, in bytes. ``times``: of those pieces, as far as they were told to this
    object, in nanoseconds.
    """

    since: int = 0
    told: int = 0
    size: int = 0
    times: array[int] = field(default_factory=lambda: array("q"), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.since} {self.told} {self.size}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """The inverse; of what cannot be read, the beginning."""
        try:
            since, told, size = map(int, text.split())
            return cls(since, told, size)
        except ValueError:
            return cls()

    def saw(self, time: int) -> None:
        """One of those that were told already is told again."""
        self.times.append(time)

    def add(self, time: int, size: int) -> None:
        """One more piece, of ``size`` bytes."""
        self.times.append(time)
        self.told += 1
        self.size += size
        if time - self.since > 2 * PAST:
            self.since = time - PAST
            self.times = array("q", (each for each in self.times if each >= self.since))
            self.told = len(self.times)


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
            again = mark.told
            since = f"{mark.since // SECOND}.{mark.since % SECOND:09}"
            async for piece in self._client.output(self._key, since, follow=follow):
                stamp, _, line = piece.partition(b" ")
                time = _nanoseconds(stamp)
                if again > 0:
                    again -= 1
                    mark.saw(time)
                    continue
                _write(log, line[over:])
                over = max(0, over - len(line))
                mark.add(time, len(line))
                _note(place, mark)

    def forget(self) -> None:
        """The container is gone; its log stays."""
        self._place.unlink(missing_ok=True)


def place(folder: Path, key: str) -> Path:
    """Where the mark of a container is."""
    return folder / files.file_name(key[:32])


def _nanoseconds(stamp: bytes) -> int:
    """Of the engine's time: Docker's has nine digits of a second, Podman's none."""
    return _seconds(stamp[:19]) * SECOND + int(stamp[20:29].rstrip(b"Z").ljust(9, b"0"))


@functools.lru_cache(8)
def _seconds(stamp: bytes) -> int:
    return int(seen.moment(stamp.decode("ascii", "replace")))


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
