"""Folders whose files are served beside the application, never by it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gapless.model.units import DURATION_FORM, Model, parse_duration, show

_PART = r"(?!\.\.?(?:/|$))[A-Za-z0-9._@+~-]+"
_FOLDER = re.compile(rf"\.|{_PART}(?:/{_PART})*")
_STORED = re.compile(rf"\$\{{([a-z][a-z0-9-]*)\.path\}}((?:/{_PART})*)")
_PLACE = re.compile(rf"/|(?:/{_PART})+")
PLACE_FORM = r"^/([A-Za-z0-9._@+~-]+(/[A-Za-z0-9._@+~-]+)*)?$"


def _cache(value: Any) -> Any:
    return value if value == "immutable" else parse_duration(value)


def _folder(value: str) -> str:
    if not _FOLDER.fullmatch(value) and not _STORED.fullmatch(value):
        raise ValueError(
            'must be a folder within the source folder ("web/dist"), or of a files store'
            f' ("${{uploads.path}}"), got {show(value)}'
        )
    return value


def _inside(value: str) -> str:
    if value == "." or not _FOLDER.fullmatch(value):
        raise ValueError(f"must be a file within the folder, got {show(value)}")
    return value


class Static(Model):
    """A folder, and how its files are served."""

    dir: Annotated[str, AfterValidator(_folder)]
    """The folder: relative to the source folder, or "${uploads.path}" of a files store."""
    cache: (
        Annotated[
            Literal["immutable"] | float,
            BeforeValidator(
                _cache,
                json_schema_input_type=Literal["immutable"]
                | Annotated[str, Field(pattern=DURATION_FORM)],
            ),
            Field(examples=["1h"]),
        ]
        | None
    ) = None
    """For so long a client need not ask whether a file has changed; "immutable": never again.

    Absent: it asks each time. Names that hold a hash (app-5d41402abc4b.js) are immutable anyway.
    """
    index: Annotated[str, AfterValidator(_inside)] = "index.html"
    """What is served for a folder."""
    fallback: Annotated[str, AfterValidator(_inside)] | None = None
    """A file of it that is served for names without a dot that are not there (one-page apps)."""

    @property
    def store(self) -> tuple[str, str] | None:
        """The files store and the rest of the folder; None for one of the release."""
        found = _STORED.fullmatch(self.dir)
        return None if found is None else (found[1], found[2].lstrip("/"))

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if self.cache == "immutable" and self.fallback is not None:
            raise ValueError("fallback is served for many names: it cannot be immutable")
        return self


def parse_static(value: Any) -> Any:
    """A string is the folder. The table is left to the model."""
    return {"dir": value} if isinstance(value, str) else value


def check_places(static: dict[str, Static]) -> dict[str, Static]:
    """Paths that a folder can stand at. Raises ValueError."""
    for path in static:
        if not _PLACE.fullmatch(path):
            raise ValueError(f'"{path}" is not a path for a folder: say "/static"')
    return static


StaticField = Annotated[
    Static,
    BeforeValidator(
        parse_static,
        json_schema_input_type=Annotated[str, Field(examples=["web/dist"])] | Static,
    ),
]
Statics = Annotated[dict[str, StaticField], AfterValidator(check_places)]
