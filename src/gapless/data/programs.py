"""The programs of a store's server, and how they are run: of this machine, or of an image."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from gapless.data import base, engines, helper, owned
from gapless.errors import DataFault
from gapless.model.data import Data
from gapless.model.packed import Packed
from gapless.model.process import Mount, Process

SERVERS: Mapping[engines.Kind, tuple[str, ...]] = {
    "postgres": ("postgres",),
    "redis": ("valkey-server", "redis-server"),
}
"""What the server program is called, the one that is taken first."""
_LOOK = 'for name; do command -v "$name" && "$name" --version && exit; done; exit 0'
_PEOPLE = "passwd"


class Programs(Protocol):
    """Where the programs of one kind of server come from. Raises DataFault, EnvironmentFault."""

    contained: bool
    """Whether the server has a network of its own, and listens there for who has its name."""

    async def anew(self, major: int | None) -> engines.Engine:
        """For a new store, ready to be used. ``major``: the version that is asked for."""

    def recall(self, noted: Mapping[str, str], major: int | None) -> engines.Engine:
        """What a record names, or, where that is gone, another of version ``major``."""

    async def newest(self, engine: engines.Engine, major: int) -> engines.Engine:
        """What would be used of version ``major``; the same where nothing else is to be had."""

    async def someone(self) -> helper.Who:
        """Whoever may make a store: he has a name, and the files are handed over later."""

    async def run(
        self, engine: engines.Engine, argv: Sequence[str], who: helper.Who, given: bytes = b""
    ) -> tuple[int, str]:
        """A short-lived program, to its end: see ``helper.run``. ``given``: what it reads."""

    def server(self, engine: engines.Engine, process: Process, writable: Sequence[Path]) -> Process:
        """The server, as it is to be started. ``writable``: folders that it writes into."""


class OfMachine:
    """On PATH, or from a wheel. ``path`` replaces PATH ("" for wheels only)."""

    contained = False

    def __init__(self, kind: engines.Kind, place: base.Place, path: str | None = None) -> None:
        self._kind = kind
        self._place = place
        self._path = path

    def _take(self, major: int | None) -> engines.Engine:
        found = engines.find(self._kind, major, path=self._path)
        return engines.take(found, self._place.engines)

    async def anew(self, major: int | None) -> engines.Engine:
        return await asyncio.to_thread(self._take, major)

    def recall(self, noted: Mapping[str, str], major: int | None) -> engines.Engine:
        found = engines.recall(self._kind, dict(noted), self._place.engines)
        return found or self._take(major)

    async def newest(self, engine: engines.Engine, major: int) -> engines.Engine:
        with contextlib.suppress(DataFault):
            return await asyncio.to_thread(self._take, major)
        return engine

    async def someone(self) -> helper.Who:
        return await helper.someone(self._place.uid)

    async def run(
        self, engine: engines.Engine, argv: Sequence[str], who: helper.Who, given: bytes = b""
    ) -> tuple[int, str]:
        return await helper.run(argv, who, stdin=given)

    def server(self, engine: engines.Engine, process: Process, writable: Sequence[Path]) -> Process:
        return process


class OfImage:
    """In containers of an image, whose content is noted with the store: a name that moves on
    changes nothing before the server is started anew."""

    contained = True

    def __init__(self, kind: engines.Kind, place: base.Place, image: str) -> None:
        self._kind = kind
        self._place = place
        self._image = image

    async def anew(self, major: int | None) -> engines.Engine:
        content = await self._packed.content(self._image)
        names = SERVERS[self._kind]
        code, said = await self._packed.once(
            content, ("sh", "-c", _LOOK, "sh", *names), user=self._user, mounts=()
        )
        place, _, about = said.strip().partition("\n")
        version = engines.version_of(about)
        if code != 0 or version is None:
            raise DataFault(f"image {self._image}: has no {' or '.join(names)} on its PATH")
        program = PurePosixPath(place)
        engine = engines.Engine(self._kind, content, version, Path(program.parent), program.name)
        if major is not None and engine.major != major:
            raise DataFault(
                f"image {self._image}: has version {version}, and {major} is asked for",
                hint="say an image and a version that fit each other",
            )
        return engine

    def recall(self, noted: Mapping[str, str], major: int | None) -> engines.Engine:
        if not noted["name"].startswith("sha256:"):
            # Made by programs of the machine; the next start finds those of the image.
            return engines.Engine(self._kind, "", noted["version"], Path(), noted["server"])
        folder = Path(noted["bin"])
        return engines.Engine(self._kind, noted["name"], noted["version"], folder, noted["server"])

    async def newest(self, engine: engines.Engine, major: int) -> engines.Engine:
        if not engine.name:
            return await self.anew(major)
        with contextlib.suppress(DataFault):
            return await self.anew(major)
        return engine

    async def someone(self) -> helper.Who:
        # It is told a name for its number: nobody else has to be found.
        return helper.Who(uid=self._place.uid)

    async def run(
        self, engine: engines.Engine, argv: Sequence[str], who: helper.Who, given: bytes = b""
    ) -> tuple[int, str]:
        home = self._place.home
        mounts = [Mount(str(home), str(home), writable=True), self._people()]
        read = home / ".given"
        if given:
            owned.write(read, given.decode(), 0o600, self._place.uid)
            argv = ("sh", "-c", 'exec 0<"$0" "$@"', str(read), *argv)
        try:
            return await self._packed.once(engine.name, argv, user=self._user, mounts=mounts)
        finally:
            read.unlink(missing_ok=True)

    def server(self, engine: engines.Engine, process: Process, writable: Sequence[Path]) -> Process:
        home = self._place.home
        mounts = [Mount(str(home), str(home)), self._people()]
        mounts += [Mount(str(path), str(path), writable=True) for path in writable]
        return replace(
            process,
            image=engine.name,
            entrypoint=process.argv[:1],
            argv=process.argv[1:],
            user=self._user,
            sealed=True,
            mounts=tuple(mounts),
            nets="stores",
            alias=process.labels["data"],
        )

    @property
    def _packed(self) -> Packed:
        if self._place.packed is None:
            raise DataFault(f"image {self._image}: there are no containers here")
        return self._place.packed

    @property
    def _user(self) -> str:
        uid = self._place.uid
        return f"{os.getuid()}:{os.getgid()}" if uid is None else f"{uid}:{uid}"

    def _people(self) -> Mount:
        """The one account that there is inside: initdb asks what it is called."""
        uid, _, gid = self._user.partition(":")
        file = self._place.home / _PEOPLE
        owned.write(file, f"store:x:{uid}:{gid}::/tmp:/bin/sh\n", 0o644)
        return Mount(str(file), "/etc/passwd")


def of(kind: engines.Kind, data: Data, place: base.Place, path: str | None) -> Programs:
    """Those of a store. That there are no containers for its image is told when one is needed:
    a plan is made also where nothing could run."""
    if data.image is None:
        return OfMachine(kind, place, path)
    return OfImage(kind, place, data.image)
