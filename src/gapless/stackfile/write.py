"""TOML values and whole stack files as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 96
NAMED = ("service", "job", "data")


def key(name: str) -> str:
    """A key, in quotes where it must be."""
    return name if _BARE.fullmatch(name) else value(name)


def value(found: Any) -> str:
    """A value on one line; what TOML has no word for (dates it has) as its own text."""
    if isinstance(found, list | tuple):
        return f"[{', '.join(value(item) for item in found)}]"
    if isinstance(found, Mapping):
        inner = ", ".join(f"{key(name)} = {value(below)}" for name, below in found.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(found, bool | int | float | str):
        # TOML's strings are JSON's, but for one control character.
        return json.dumps(found, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(found)


def document(tree: Mapping[str, Any], notes: Iterable[str] = ()) -> str:
    """A stack file: single values first, then a table for each service, job and store."""
    lines = [f"# {_comment(note)}" for note in notes]
    if lines:
        lines.append("")
    for name, found in tree.items():
        if not isinstance(found, Mapping):
            lines.append(f"{key(name)} = {value(found)}")
    for name, found in tree.items():
        if not isinstance(found, Mapping):
            continue
        if name in NAMED:
            for inner, table in found.items():
                lines += _table(f"{name}.{key(inner)}", table)
        else:
            lines += _table(key(name), found)
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(head: str, table: Mapping[str, Any]) -> list[str]:
    """A table; what would be too long in a line is a table below it."""
    lines, below = ["", f"[{head}]"], []
    for name, found in table.items():
        line = f"{key(name)} = {value(found)}"
        if isinstance(found, Mapping) and found and len(line) > _WIDTH:
            below += _table(f"{head}.{key(name)}", found)
        else:
            lines.append(line)
    return lines + below


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
