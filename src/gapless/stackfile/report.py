"""Faults with their place: file, line, the line itself, and the table they are in."""

from __future__ import annotations

from gapless.errors import Problem
from gapless.stackfile import source
from gapless.stackfile.overlays import BASE, Layered
from gapless.stackfile.places import Path

NAMED = ("service", "job", "data")
"""Tables that hold tables by name."""


class Report:
    """Collects problems of one layered tree; each is kept once."""

    def __init__(self, layered: Layered, text: str, file: str) -> None:
        self.layered = layered
        self._text = text
        self._file = file
        self._problems: dict[Problem, None] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All so far, by line; those without a line last."""
        return tuple(
            sorted(self._problems, key=lambda problem: (problem.line is None, problem.line or 0))
        )

    def add(self, path: Path, message: str, *, key: bool = True) -> None:
        """A fault at a path of the merged tree.

        ``key``: the message speaks of the value there (``[service.web] drain: must …``); False:
        it speaks of the table itself (``[service.web] needs …``).
        """
        table, rest = split(path)
        if not key and rest:
            table, rest = path[: len(table)], rest[:-1]
        line, layer = self.layered.origin(path) or (None, BASE)
        self.put(line, head(layer, table) + (f"{dotted(rest)}: " if rest else "") + message)

    def put(self, line: int | None, message: str) -> None:
        """A fault on a line of the file."""
        text = None if line is None else source.line_text(self._text, line)
        self._problems.setdefault(Problem(message, self._file, line, text))


def split(path: Path) -> tuple[Path, Path]:
    """(table, key in it): ``("service", "web"), ("ready", "path")``."""
    if path and path[0] in NAMED:
        size = 2
    else:
        size = 1 if len(path) > 1 and isinstance(path[1], str) else 0
    return path[:size], path[size:]


def head(layer: str, table: Path) -> str:
    """``[service.web] ``, ``[for.staging.service.web] ``, or nothing for the base's root."""
    parts = ([] if layer == BASE else [layer]) + ([dotted(table)] if table else [])
    return f"[{'.'.join(parts)}] " if parts else ""


def dotted(path: Path) -> str:
    """``ready.path``, ``drill.get[0]``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
