"""Compose files of other people, where somebody has some: GAPLESS_COMPOSE_FILES=FOLDER."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless import errors
from gapless.compose import incoming, project
from gapless.stackfile import source

from .made import complete

FOLDER = os.environ.get("GAPLESS_COMPOSE_FILES", "")


def _files() -> Iterator[Path]:
    for path in sorted(Path(FOLDER).rglob("*.y*ml")) if FOLDER else ():
        if ".github" not in path.parts:
            yield path


def run(folder: Path, names: list[str]) -> incoming.Imported:
    def read(name: str) -> str | None:
        path = folder / name
        return source.decode(path.read_bytes(), file=name) if path.is_file() else None

    whole = project.load(names, read, {"HOME": "/root", "DOMAIN": "example.com"}, frozenset())
    result = incoming.convert(whole, read, folder.name)
    complete(result, whole)
    return result


@pytest.mark.skipif(not FOLDER, reason="GAPLESS_COMPOSE_FILES names no folder of Compose files")
@pytest.mark.parametrize("path", list(_files()), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_value_is_accounted_for(path: Path) -> None:
    result = run(path.parent, [path.name])
    assert not [
        line for line in result.lines if line.text == "gapless import does not know this key"
    ]
    if not result.text:
        # A file that is laid over others is not complete by itself; with its base it is.
        bases = [one for one in sorted(path.parent.glob("*.y*ml")) if one != path]
        assert any(run(path.parent, [base.name, path.name]).text for base in bases)


@pytest.mark.skipif(not FOLDER, reason="GAPLESS_COMPOSE_FILES names no folder of Compose files")
def test_what_is_no_compose_file_is_told_with_its_line() -> None:
    others = [path for path in Path(FOLDER).rglob("*.y*ml") if ".github" in path.parts]
    for path in others:
        with pytest.raises(errors.InvalidStack, match=rf"{path.name}:\d+: "):
            run(path.parent, [path.name])
