"""Compose files as texts, imported."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gapless import stackfile
from gapless.compose import incoming, project
from gapless.compose.ledger import UNKNOWN, Line
from gapless.model.stack import Stack

MAIN = "compose.yaml"


@dataclass(frozen=True)
class Made:
    """What an import came to."""

    result: incoming.Imported
    project: project.Project

    @property
    def tree(self) -> dict[str, Any]:
        return tomllib.loads(self.result.text)

    @property
    def stack(self) -> Stack:
        return stackfile.parse(self.result.text).stack

    def line(self, key: str, file: str = MAIN) -> Line:
        found = [line for line in self.result.lines if (line.key, line.file) == (key, file)]
        assert len(found) == 1, (key, [line.key for line in self.result.lines])
        return found[0]

    def kind(self, key: str) -> str:
        return self.line(key).kind


def imported(
    text: str,
    more: Mapping[str, str] | None = None,
    *,
    names: Iterable[str] = (MAIN,),
    environ: Mapping[str, str] | None = None,
    profiles: Iterable[str] = (),
) -> Made:
    """The import of a file, with others beside it. What must always hold is looked at."""
    files = {MAIN: text, **(more or {})}

    def read(name: str) -> str | None:
        if name.endswith("/"):
            return "" if any(one.startswith(name) for one in files) else None
        found = [files[one] for one in sorted(fnmatch.filter(files, name))]
        return "\n".join(found) if found else None

    whole = project.load(list(names), read, dict(environ or {}), frozenset(profiles))
    result = incoming.convert(whole, read, "shop")
    complete(result, whole)
    return Made(result, whole)


def complete(result: incoming.Imported, whole: project.Project) -> None:
    """Each value is in the report once, with a line of its own; the file is a stack file."""
    leaves = [
        (leaf.file, leaf.line, leaf.path)
        for document in whole.documents.values()
        for leaf in document.leaves
    ]
    told = [(line.file, line.line, line.key) for line in result.lines]
    assert told == leaves
    assert len(set(told)) == len(told)
    for line in result.lines:
        assert line.kind in ("kept", "emulated", "refused")
        assert line.text or line.kind == "kept", line
        if line.text == UNKNOWN:
            assert line.kind == "refused"
    if result.text:
        stackfile.parse(result.text)
