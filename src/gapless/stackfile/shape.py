"""The model as a tree of tables and keys: what may stand where.

Imports the model, and with it pydantic: only for those who already need them.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from gapless.model.stack import Stack
from gapless.model.units import Model
from gapless.stackfile.places import Path

ANY = "NAME"
"""Stands in a path for a name that the author chooses."""
HIDDEN = frozenset({"overlay"})
"""Fields of the model that are not keys of the file."""


def fields(model: type[Model]) -> dict[str, FieldInfo]:
    """Keys of a table, as they are written in the file."""
    return {
        field.alias or name: field
        for name, field in model.model_fields.items()
        if name not in HIDDEN
    }


def table_of(annotation: Any) -> type[Model] | None:
    """The model that a key's value may be, if one of its forms is a table."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, Model):
            return part
    return None


def named(annotation: Any) -> Any:
    """The type of the values of a table whose keys the author chooses; None when it is none."""
    for part in _parts(annotation):
        if typing.get_origin(part) is dict:
            return typing.get_args(part)[1]
    return None


def model_at(path: Path) -> type[Model] | None:
    """The model of the table at a path; None where the author chooses the keys, or no table is."""
    here: Any = Stack
    for key in path:
        if isinstance(key, int):
            continue  # a table of a list of them
        if isinstance(here, type) and issubclass(here, Model):
            field = fields(here).get(str(key))
            here = None if field is None else field.annotation
        else:
            here = named(here)
        here = table_of(here) or here
    return here if isinstance(here, type) and issubclass(here, Model) else None


def walk(model: type[Model] = Stack, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, FieldInfo]]:
    """Every key of the language with its path, depth first: ``("service", ANY, "run")``."""
    for key, field in fields(model).items():
        here = (*path, key)
        yield here, field
        inner = named(field.annotation)
        if (table := table_of(field.annotation)) is not None:
            yield from walk(table, here)
        elif inner is not None and (table := table_of(inner)) is not None:
            yield from walk(table, (*here, ANY))


def _parts(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _parts(typing.get_args(annotation)[0])
    elif origin is typing.Union or origin is types.UnionType:
        for part in typing.get_args(annotation):
            yield from _parts(part)
    elif origin is tuple:
        yield from _parts(typing.get_args(annotation)[0])
    else:
        yield annotation
