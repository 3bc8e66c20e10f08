"""What the tests of releases share: a folder to release, and a package without a build tool."""

from __future__ import annotations

from pathlib import Path

from gapless import stackfile
from gapless.engine import releases
from gapless.engine.paths import Paths
from gapless.runtimes.process import ProcessRuntime

STACK = """
gapless = 1
name = "chat"
{extra}

[service.web]
run = "python app.py"
"""

PROJECT = """
[project]
name = "shop"
version = "1.0"

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = '''
"""The smallest build backend: needs nothing, so that tests need no network."""
import os, zipfile

INFO = "shop-1.0.dist-info"

def _wheel(folder, files):
    name = "shop-1.0-py3-none-any.whl"
    files = files | {
        f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.0\\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, f"{INFO}/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in (files | {f"{INFO}/RECORD": record}).items():
            wheel.writestr(path, text)
    return name

def build_wheel(folder, settings=None, metadata=None):
    with open("shop.py") as source:
        return _wheel(folder, {"shop.py": source.read()})

def build_editable(folder, settings=None, metadata=None):
    return _wheel(folder, {"_shop.pth": os.getcwd() + "\\n"})
'''


class Bench:
    """A working folder and the releases of its stack, under one temporary directory."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "work"
        self.folder.mkdir()
        self.paths = Paths("chat", home / "state" / "chat", home / "run" / "chat")
        self.paths.make()
        self.runtime = ProcessRuntime(self.paths.state, self.paths.run, "chat")
        self.lines: list[str] = []
        self.releases = self.again()

    def again(self) -> releases.Releases:
        """As another controller would see them."""
        runtime = self.runtime
        return releases.Releases(self.paths, runtime.identity_uid, runtime.shared_group)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def package(self, greeting: str) -> None:
        """A package ``shop`` that greets, installable from the folder."""
        self.write({"pyproject.toml": PROJECT, "backend.py": BACKEND})
        self.write({"shop.py": f"print({greeting!r})\n"})

    async def build(self, extra: str = "", **more: str) -> releases.Release:
        text = STACK.format(extra=extra)
        stack = stackfile.parse(text).stack
        return await self.releases.build(
            stack, text, None, self.folder, progress=self.lines.append, **more
        )

    async def plan(self, extra: str = "") -> releases.Preview:
        text = STACK.format(extra=extra)
        return await self.releases.plan(stackfile.parse(text).stack, self.folder)

    def names(self, release: releases.Release) -> set[str]:
        """Files of a tree, byte code left out."""
        return {
            path.relative_to(release.tree).as_posix()
            for path in release.tree.rglob("*")
            if not path.is_dir() and "__pycache__" not in path.parts
        }
