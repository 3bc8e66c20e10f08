"""What images say of themselves, and whether a container has the program that is to run in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from gapless.errors import RuntimeFault
from gapless.model.process import Process
from gapless.runtimes.docker import client, spec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Images:
    """Each is asked once: what an image has been made of never changes."""

    def __init__(self, engine: client.Client) -> None:
        self._client = engine
        self._runnable: set[tuple[str, str, str]] = set()
        self._known: dict[str, Mapping[str, Any]] = {}

    async def check(self, key: str, image: str, process: Process) -> None:
        """Raises RuntimeFault where the program is not there: an init would start without it, and
        tell nobody but the log. ``key``: of a container of that image."""
        about = await self._config(image)
        words = spec.words(process, about)
        if not words:
            raise RuntimeFault(f"image {image} has no command of its own", hint="say run")
        name = words[0]
        path = process.env.get("PATH") or _path(about)
        if (image, name, path) in self._runnable:
            return
        here = process.cwd or (about.get("WorkingDir") if process.image else None) or "/"
        folders = [here] if "/" in name else path.split(":")
        for folder in folders:
            mode = await self._client.file(key, str(PurePosixPath(folder, name)))
            if mode is not None and mode & 0o111 and not mode & client.DIRECTORY:
                self._runnable.add((image, name, path))
                return
        raise RuntimeFault(f"cannot run {name}: there is no such program in image {image}")

    async def _config(self, image: str) -> Mapping[str, Any]:
        if image not in self._known:
            about = await self._client.image(image) or {}
            self._known[image] = about.get("Config") or {}
        return self._known[image]


def _path(image: Mapping[str, Any]) -> str:
    found = [line for line in image.get("Env") or () if line.startswith("PATH=")]
    return str(found[0]).partition("=")[2] if found else DEFAULT_PATH
