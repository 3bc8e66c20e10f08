"""The scalar types of the stack file. Durations are seconds (float), sizes are bytes (int)."""

from __future__ import annotations

import json
import re
import shlex
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|y)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 31_536_000.0}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([KMGT]?)i?B?")
_PERCENT = re.compile(r"([1-9][0-9]{0,2})%")
_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/(s|m|h)")
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

DURATION_FORM = f"^{_DURATION.pattern}$"
SIZE_FORM = f"^{_SIZE.pattern}$"
PATH_FORM = f"^{_URL_PATH.pattern}$"
PERCENT_FORM = f"^{_PERCENT.pattern}$"
RATE_FORM = f"^{_RATE.pattern}$"
"""The written forms, as the JSON Schema of the file has them."""


def show(value: Any) -> str:
    """A value of the file as its author wrote it, shortened to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_duration(value: Any) -> float:
    """``"1.5s"``, ``"250ms"``, ``"5m"``, ``"7d"``, ``"1y"`` to seconds. Raises ValueError."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        return float(found[1]) * _SECONDS[found[2]]
    raise ValueError(f'must be a duration such as "10s", "5m" or "250ms", got {show(value)}')


def parse_size(value: Any) -> int:
    """``"512M"``, ``"2G"``, ``"64K"`` to bytes (powers of 1024). Raises ValueError."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return int(float(found[1]) * _BYTES[found[2]])
    raise ValueError(f'must be a size such as "512M" or "2G", got {show(value)}')


def parse_rate(value: Any) -> float:
    """``"200/s"``, ``"30/m"``, ``"5000/h"`` to so many a second, above 0. Raises ValueError."""
    if isinstance(value, str) and (found := _RATE.fullmatch(value)) and float(found[1]) > 0:
        return float(found[1]) / _SECONDS[found[2]]
    raise ValueError(f'must be a rate such as "200/s" or "30/m", got {show(value)}')


def format_rate(rate: float) -> str:
    """The inverse of ``parse_rate``: 200.0 is ``"200/s"``."""
    return f"{rate:g}/s" if rate >= 1 else f"{rate * 60:g}/m"


def format_duration(seconds: float) -> str:
    """The inverse of ``parse_duration``: ``"60s"`` is ``"1m"``, 0.25 is ``"250ms"``."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def format_size(count: int) -> str:
    """The inverse of ``parse_size``: 1048576 is ``"1M"``, 64 is ``"64B"``."""
    for unit in ("T", "G", "M", "K"):
        if count >= _BYTES[unit] and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


def parse_percent(value: Any) -> int:
    """``"70%"`` to 70; from 1 to 999. Raises ValueError."""
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        return int(found[1])
    raise ValueError(f'must be a percentage such as "70%", got {show(value)}')


def parse_command(value: Any) -> tuple[str, ...]:
    """A list of arguments, or one string split as shell words (never run by a shell)."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from None
    elif isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        words = list(value)
    else:
        raise ValueError(f"must be a string or a list of strings, got {show(value)}")
    if not words or not words[0]:
        raise ValueError("must not be empty")
    if any("\0" in word for word in words):
        raise ValueError("must not contain a NUL character")
    return tuple(words)


def parse_commands(value: Any) -> tuple[tuple[str, ...], ...]:
    """One command, or a list of commands (strings); empty means none."""
    if isinstance(value, str):
        return (parse_command(value),)
    if isinstance(value, list | tuple):
        return tuple(parse_command(item) for item in value)
    raise ValueError(f"must be a command or a list of commands, got {show(value)}")


def parse_path(value: Any) -> str:
    """A URL path: starts with ``/``, no white space, quotes or control characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be a path, got {show(value)}")
    if not value.startswith("/"):
        raise ValueError(f'must start with "/", got {show(value)}')
    if not _URL_PATH.fullmatch(value):
        raise ValueError(f"holds a character that a URL path may not have: {show(value)}")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(
        parse_duration,
        json_schema_input_type=Annotated[str, Field(pattern=DURATION_FORM)],
    ),
    Field(examples=["10s"]),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_size, json_schema_input_type=Annotated[str, Field(pattern=SIZE_FORM)]),
    Field(examples=["512M"]),
]
Percent = Annotated[
    int,
    BeforeValidator(
        parse_percent, json_schema_input_type=Annotated[str, Field(pattern=PERCENT_FORM)]
    ),
    Field(examples=["70%"]),
]
Rate = Annotated[
    float,
    BeforeValidator(parse_rate, json_schema_input_type=Annotated[str, Field(pattern=RATE_FORM)]),
    Field(examples=["100/s"]),
]
_Words = Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]
Command = Annotated[tuple[str, ...], BeforeValidator(parse_command, json_schema_input_type=_Words)]
Commands = Annotated[
    tuple[tuple[str, ...], ...],
    BeforeValidator(
        parse_commands,
        json_schema_input_type=Annotated[str, Field(min_length=1)]
        | list[Annotated[str, Field(min_length=1)]],
    ),
]
UrlPath = Annotated[
    str,
    BeforeValidator(parse_path, json_schema_input_type=Annotated[str, Field(pattern=PATH_FORM)]),
]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=32)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
"""Of one program's environment: some read names with dots."""


class Model(BaseModel):
    """Frozen, strict about unknown keys, built from TOML values."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )
