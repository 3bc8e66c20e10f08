"""What kind of store made a folder of data: known for as long as the data lies there.

A store that leaves the stack keeps its data. Should its name come back with another type, that
data must not be taken for the new one's.
"""

from __future__ import annotations

import json
from pathlib import Path

from gapless.engine import durable
from gapless.engine.paths import Paths
from gapless.errors import Refused
from gapless.model.data import Data
from gapless.model.stack import Stack


def mark(paths: Paths, name: str, table: Data) -> None:
    """Before the store is made: who made the folder is told even when making is cut short."""
    if table.url is None:
        paths.data.mkdir(mode=0o711, parents=True, exist_ok=True)
        durable.write(_place(paths, name), json.dumps({"type": table.type}))


def check(paths: Paths, stack: Stack) -> None:
    """Raises Refused where the data under a store's name is of another type."""
    for name, table in stack.data.items():
        made = _type(paths, name)
        if table.url is None and made not in (None, table.type):
            home = paths.data / name
            raise Refused(
                f"{name}: {home} holds the data of a {made} store, not of a {table.type} one",
                hint=f"give the new store another name than {name}, or move that folder away",
            )


def _type(paths: Paths, name: str) -> str | None:
    """The type that made the folder; None where there is none, or nobody has told."""
    if not (paths.data / name).exists():
        return None
    try:
        told = json.loads(_place(paths, name).read_text("utf-8"))["type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(told)


def _place(paths: Paths, name: str) -> Path:
    return paths.data / f".{name}.json"
