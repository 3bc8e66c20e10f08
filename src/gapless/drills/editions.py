"""Two editions of a load balancer that differ in nothing that it does, for a scratch stack."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from gapless.drills.scratch import Scratch
from gapless.edge import binary
from gapless.engine.releases import marked
from gapless.runtimes.machine import proc

PROGRAM = "haproxy"
MARK = "GAPLESS_EDITION"


class Editions(Protocol):
    """The first one is in force when the stack comes up."""

    lines: str
    """Of the table ``[edge]``."""
    stays: bool
    """Whether its first process outlasts the change."""

    def change(self, probes: Scratch, service: str) -> None:
        """Have the second one take over; it may do so later, and ``service`` may be replaced."""

    def is_second(self, master: int) -> bool:
        """Whether the edge with that first process is the second one. Raises OSError."""


class Binaries:
    """Two copies of the machine's HAProxy, whose bytes differ behind their end. The stack file
    knows a name that leads to one of them."""

    stays = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = f'binary = "{folder / PROGRAM}"\n'

    def make(self) -> None:
        """Both. Raises EnvironmentFault where there is no HAProxy."""
        found = binary.find()
        for number in (1, 2):
            made = self.folder / str(number)
            made.mkdir(parents=True)
            if (libraries := found.parent / "lib").is_dir():
                shutil.copytree(libraries, made / "lib")
            shutil.copy(found, made / PROGRAM)
            with (made / PROGRAM).open("ab") as program:
                program.write(b"\0" * number)
        self._point(1)

    def _point(self, number: int) -> None:
        draft = self.folder / f".{PROGRAM}"
        draft.symlink_to(self.folder / str(number) / PROGRAM)
        draft.replace(self.folder / PROGRAM)

    def change(self, probes: Scratch, service: str) -> None:
        """See ``Editions``: the controller sees it by itself."""
        self._point(2)

    def is_second(self, master: int) -> bool:
        """See ``Editions``."""
        return Path(f"/proc/{master}/exe").readlink() == self.folder / "2" / PROGRAM


class Images:
    """Two images of one, by their names; a mark in its environment tells them apart."""

    stays = False

    def __init__(self, image: str, name: str) -> None:
        self.image = image
        self.names = [f"gapless/{name}-editions:{number}" for number in (1, 2)]
        self.lines = f'image = "{self.names[0]}"\n'

    def make(self) -> None:
        """Both. Raises RuntimeFault."""
        for number, name in enumerate(self.names, 1):
            asyncio.run(marked.make(self.image, name, MARK, str(number)))

    def remove(self) -> None:
        """Their names; of what a release still has, the images stay."""
        asyncio.run(marked.remove(*self.names))

    def change(self, probes: Scratch, service: str) -> None:
        """See ``Editions``: with a release."""
        file = probes.target.file
        first, second = (f'"{name}"' for name in self.names)
        text = file.read_text("utf-8").replace(first, second)
        file.write_text(text, encoding="utf-8")
        # Not to its end: the first one goes on for as long as it has connections.
        probes.must("/v1/deploy", services=[service])

    def is_second(self, master: int) -> bool:
        """See ``Editions``."""
        return proc.variable(master, MARK) == "2"


@contextlib.contextmanager
def two(image: str, name: str, folder: Path) -> Iterator[Editions]:
    """Of an image, else of the machine's program; gone in the end. ``name``: the stack's."""
    if image:
        images = Images(image, name)
        images.make()
        try:
            yield images
        finally:
            images.remove()
        return
    shutil.rmtree(folder, ignore_errors=True)
    binaries = Binaries(folder)
    try:
        binaries.make()
        yield binaries
    finally:
        shutil.rmtree(folder, ignore_errors=True)
