"""Pages of other origins that may use what is answered here (CORS)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gapless.model.units import Model, Seconds, UrlPath, show

ANY = "*"
LONGEST = 86_400.0
"""Seconds; browsers remember no answer for longer."""
_HOST = r"([a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:]+\])"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]{{0,31}})://{_HOST}(:[0-9]{{1,5}})?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_USUAL = {"http": ":80", "https": ":443"}
_WRITTEN = "scheme://host or scheme://host:port, in lower case, as browsers write it"


def _origin(value: str) -> str:
    if value == ANY:
        return value
    found = _ORIGIN.fullmatch(value) if len(value) <= 300 else None
    if found is None:
        raise ValueError(f"must be an origin ({_WRITTEN}), got {show(value)}")
    if found[4] and _USUAL.get(found[1]) == found[4]:
        plain = value.removesuffix(found[4])
        raise ValueError(f'browsers leave the usual port out: say "{plain}", got {show(value)}')
    return value


def _header(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"must be the name of a header, got {show(value)}")
    return value


def _origins(value: Any) -> Any:
    """One, or a list of them."""
    return (value,) if isinstance(value, str) else value


def parse(value: Any) -> Any:
    """Origins alone are a table with nothing else. The table is left to the model."""
    if isinstance(value, str | list | tuple):
        return {"origins": value}
    if isinstance(value, dict | Model):
        return value
    raise ValueError(f"must be origins or a table {{ origins, … }}, got {show(value)}")


Origin = Annotated[str, AfterValidator(_origin)]
Header = Annotated[str, AfterValidator(_header)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Origins = Annotated[
    tuple[Origin, ...],
    BeforeValidator(_origins, json_schema_input_type=str | list[str]),
]


class Cors(Model):
    """Browsers are told that pages of other origins may use the answers; the edge says it alone."""

    origins: Origins
    """Origins, such as "https://app.example.com", each of them whole; "*": any, without login."""
    path: UrlPath = "/"
    """Only this path and what is below it."""
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    """Methods that such pages may use."""
    headers: tuple[Header, ...] = ("Authorization", "Content-Type")
    """Headers that they may send."""
    expose: tuple[Header, ...] = ()
    """Headers of answers that they may read, beside the harmless ones."""
    credentials: bool = False
    """true: cookies and logins go along."""
    max_age: Seconds = 600.0
    """How long browsers remember it before they ask again."""

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if not self.origins:
            raise ValueError("origins is empty: nobody would be let in")
        if ANY in self.origins and len(self.origins) > 1:
            raise ValueError('origins has "*" and others: "*" stands alone')
        if self.origins == (ANY,) and self.credentials:
            raise ValueError(
                "credentials for any origin would let every page act as its visitor: name origins"
            )
        if not 0 <= self.max_age <= LONGEST:
            raise ValueError('max_age must be at most "1d"')
        return self


CorsField = Annotated[
    Cors | None,
    BeforeValidator(
        parse,
        json_schema_input_type=Annotated[str, Field(examples=["https://app.example.com"])]
        | list[str]
        | Cors,
    ),
]
