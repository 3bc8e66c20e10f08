"""What ``docker ps`` says of a program's health: what the controller found, asked by nobody again.

An engine knows health only by a program that it runs in the container. That is a link here, which
is there while the program is ready, to the one program that each container has: its init, told to
say its version. So images need no shell and no client for it, and no second prober asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from gapless.runtimes.machine import files

INIT = "/proc/1/exe"
"""The init of a container, wherever its engine has put it: Docker and Podman differ in that."""


class Mirror:
    """``folder``: where the links are, on the machine and in each container that has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shown: dict[str, bool] = {}

    def make(self) -> None:
        """Raises EnvironmentFault."""
        files.make_folder(self.folder, 0o755)

    def place(self, id: str) -> Path:
        """What is there while it is ready."""
        return self.folder / files.file_name(id)

    def show(self, ready: Mapping[str, bool]) -> None:
        """Of those that live; others are forgotten. A full disk keeps the old news."""
        for id in self._shown.keys() - ready.keys():
            self._put(id, ready=False)
            del self._shown[id]
        for id, well in ready.items():
            if self._shown.get(id) is not well:
                self._put(id, ready=well)
                self._shown[id] = well

    def _put(self, id: str, *, ready: bool) -> None:
        link = self.place(id)
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
            if ready:
                link.symlink_to(INIT)
