"""Keys and values that the model does not have: misspelt, misplaced, or not of this version."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gapless.model.units import show
from gapless.stackfile import report, shape
from gapless.stackfile.places import Path

_ANY = shape.ANY
LATER_KEYS: dict[tuple[str, ...], frozenset[str]] = {
    (): frozenset({"backup", "alerts", "notify", "console"}),
    ("service", _ANY): frozenset(
        {
            "rate_limit", "static", "gpu", "cors",
        }
    ),
    ("service", _ANY, "route"): frozenset({"timeout", "rate_limit", "allow", "login", "cors"}),
    ("job", _ANY): frozenset({"limits", "reserve"}),
    ("data", _ANY): frozenset({"standbys", "pool", "backup", "limits", "memory", "image", "to"}),
    ("edge",): frozenset({"cors"}),
}  # fmt: skip
"""Keys of the language that this version does not have, by table."""
LATER_VALUES: dict[tuple[str, ...], frozenset[str]] = {
    ("data", _ANY, "type"): frozenset({"rabbitmq", "kafka"}),
}
LATER = "is not implemented in this version"


def general(path: Path) -> tuple[str, ...]:
    """The path with the names that the author chose replaced by ``shape.ANY``."""
    return tuple(
        _ANY if position == 1 and path[0] in (*report.NAMED, "registries") else str(key)
        for position, key in enumerate(path)
    )


def key(path: Path) -> tuple[str, str | None]:
    """(message, the key that was meant or None) for a key that the model does not have."""
    table, name = general(path)[:-1], str(path[-1])
    if name in LATER_KEYS.get(table, ()):
        return f'"{name}" {LATER}', None
    model = shape.model_at(path[:-1])
    allowed = [] if model is None else list(shape.fields(model))
    if meant := closest(name, allowed):
        return f'unknown key "{name}"; did you mean "{meant}"?', meant
    homes = [place for place, _ in shape.walk() if place[-1] == name and len(place) > 1]
    if homes:
        return f'unknown key "{name}"; it belongs in {_table(homes[0][:-1])}', None
    later = [place for place, names in LATER_KEYS.items() if name in names]
    if later:
        return f'unknown key "{name}"; in {_table(later[0])} it {LATER}', None
    return f'unknown key "{name}" (have: {", ".join(sorted(allowed))})', None


def value(path: Path, found: object) -> str | None:
    """The message for a value of the language that this version does not have; else None."""
    place = general(path)
    if not isinstance(found, str):
        return None
    if found in LATER_VALUES.get(place, ()):
        return f"{show(found)} {LATER}"
    return None


def closest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that was probably meant; None when none is near."""
    names = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.65)
    return names[near[0]] if near else None


def _table(path: tuple[str, ...]) -> str:
    size = 2 if path[0:1] and path[0] in report.NAMED else 1
    inner = ".".join(path[size:])
    return f"[{'.'.join(path[:size])}]" + (f" {inner}" if inner else "")
