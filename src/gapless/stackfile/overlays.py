"""``[for.NAME]`` over the base: tables merge, scalars and lists replace, ``unset`` deletes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gapless.stackfile.places import Path
from gapless.stackfile.source import Tree

BASE = "base"


class Origin(NamedTuple):
    """Where a value comes from: a line (None: not known) and ``"base"`` or ``"for.NAME"``."""

    line: int | None
    layer: str


@dataclass(slots=True)
class Layered:
    """A tree and the origin of every table, key and list item in it."""

    tree: Tree
    origins: dict[Path, Origin]

    def origin(self, path: Path) -> Origin | None:
        """Origin of the path, or of the nearest table around it."""
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path[:-1]
        return None

    def rename(self, path: Path, key: str) -> bool:
        """Call the last key of a path by another name; the origins come along. False: taken."""
        holder = _table(self.tree, path[:-1])
        if path[-1] not in holder or key in holder:
            return False
        holder[key] = holder.pop(path[-1])
        new = (*path[:-1], key)
        for known, origin in list(self.origins.items()):
            if known[: len(path)] == path:
                self.origins[(*new, *known[len(path) :])] = origin
        return True


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with an overlay itself. ``path`` is a place of the *file*."""

    path: Path
    message: str


def names(document: Tree) -> tuple[str, ...]:
    """The overlays of a document, in order."""
    table = document.get("for")
    return tuple(table) if isinstance(table, dict) else ()


def base(document: Tree, places: Mapping[Path, int]) -> Layered:
    """The document without its overlays."""
    tree = {key: copy(value) for key, value in document.items() if key != "for"}
    layered = Layered(tree, {})
    for key, value in tree.items():
        _mark(layered, (key,), value, places, ())
    return layered


def merge(document: Tree, places: Mapping[Path, int], name: str) -> tuple[Layered, list[Fault]]:
    """The base with overlay ``name`` over it, which must exist; and the overlay's own faults."""
    layered = base(document, places)
    overlay = document["for"][name]
    prefix: Path = ("for", name)
    if not isinstance(overlay, dict):
        return layered, [Fault(prefix, "must be a table")]
    faults = _unset(layered, overlay, prefix)
    for key, value in overlay.items():
        if key in ("gapless", "name"):
            faults.append(Fault((*prefix, key), f'"{key}" is the same in every environment'))
        elif key == "for":
            faults.append(Fault((*prefix, key), "an overlay has no overlays"))
        elif key.startswith("x-"):
            faults.append(Fault((*prefix, key), f'"{key}": x- keys belong at the root'))
        elif key == "unset":
            continue
        else:
            _lay(layered, (key,), value, places, prefix)
    return layered, faults


def _lay(
    layered: Layered, path: Path, value: Any, places: Mapping[Path, int], prefix: Path
) -> None:
    holder = _table(layered.tree, path[:-1])
    present = holder.get(path[-1])
    if isinstance(present, dict) and isinstance(value, dict):
        for key, below in value.items():
            _lay(layered, (*path, key), below, places, prefix)
        return
    for known in [known for known in layered.origins if known[: len(path)] == path]:
        del layered.origins[known]
    holder[path[-1]] = copy(value)
    _mark(layered, path, value, places, prefix)


def _unset(layered: Layered, overlay: Tree, prefix: Path) -> list[Fault]:
    wanted = overlay.get("unset", [])
    where = (*prefix, "unset")
    if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
        return [Fault(where, 'unset: must be a list of keys such as "service.web.sticky"')]
    faults = []
    for position, item in enumerate(wanted):
        path = _parsed(item)
        holder = _table(layered.tree, path[:-1]) if path else {}
        if not path or path[-1] not in holder:
            faults.append(Fault((*where, position), f'unset: the base has no "{item}"'))
        elif path[0] in ("gapless", "name"):
            faults.append(Fault((*where, position), f'unset: "{item}" cannot be left out'))
        else:
            del holder[path[-1]]
            for known in [known for known in layered.origins if known[: len(path)] == path]:
                del layered.origins[known]
    return faults


def _parsed(dotted: str) -> Path:
    """The keys of ``a.b."c.d"``; () when it is no dotted key."""
    if "\n" in dotted or "=" in dotted:
        return ()
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except ValueError:
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path) if value == 0 else ()


def _table(tree: Tree, path: Path) -> dict[Any, Any]:
    """The table at a path; an empty, loose one when there is none."""
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _mark(
    layered: Layered, path: Path, value: Any, places: Mapping[Path, int], prefix: Path
) -> None:
    layer = ".".join(str(key) for key in prefix) or BASE
    layered.origins[path] = Origin(places.get((*prefix, *path)), layer)
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, below in children:
        _mark(layered, (*path, key), below, places, prefix)


def copy(value: Any) -> Any:
    """A tree of one's own."""
    if isinstance(value, dict):
        return {key: copy(below) for key, below in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value
