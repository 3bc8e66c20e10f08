"""Files of variables (``.env``, ``env_file``). Lines are kept: what is secret is told by its place.

No library: none of them tells the line and what stood in single quotes, which is not replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gapless.compose import variables
from gapless.compose.tree import fault

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:([=:])[ \t]*|$)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}


@dataclass(frozen=True, slots=True)
class Entry:
    """``value`` None: named without a value, so the environment's own."""

    value: str | None
    file: str
    line: int


def parse(
    text: str, file: str, environ: Mapping[str, str], *, raw: bool = False
) -> dict[str, Entry]:
    """The variables of a file; later lines see earlier ones. Raises InvalidStack with the line.

    ``raw``: values are taken as they stand.
    """
    lines = text.split("\n")
    found: dict[str, Entry] = {}
    number = 0
    while number < len(lines):
        first = number
        line = lines[number].rstrip("\r")
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise fault(file, text, first + 1, "is no variable: NAME=value is expected")
        value: str | None = None
        if match[2] is not None:
            value, quoted = line[match.end() :], ""
            if not raw:
                read = _unquoted(value, lines, number)
                if read is None:
                    raise fault(file, text, first + 1, f"{match[1]}: its quote never ends")
                value, quoted, number = read
                if quoted != "'":
                    value = _replaced(value, environ, found, (file, text, first + 1))
        found[match[1]] = Entry(value, file, first + 1)
    return found


def _unquoted(value: str, lines: list[str], number: int) -> tuple[str, str, int] | None:
    """(value, its quote, the next line): quotes may span lines; comments go. None: one never
    ends."""
    quote = value[:1] if value[:1] in ("'", '"') else ""
    if not quote:
        return re.sub(r"(^|\s)#.*$", "", value).strip(), "", number
    body = value[1:]
    while (end := _end(body, quote)) < 0:
        if number >= len(lines):
            return None
        body += "\n" + lines[number].rstrip("\r")
        number += 1
    inner = body[:end]
    if quote == '"':
        inner = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner, flags=re.DOTALL)
    return inner, quote, number


def _end(body: str, quote: str) -> int:
    at = 0
    while at < len(body):
        if body[at] == "\\" and quote == '"':
            at += 2
            continue
        if body[at] == quote:
            return at
        at += 1
    return -1


def _replaced(
    value: str,
    environ: Mapping[str, str],
    found: Mapping[str, Entry],
    place: tuple[str, str, int],
) -> str:
    if "$" not in value:
        return value
    have = {**{k: e.value for k, e in found.items() if e.value is not None}, **environ}
    try:
        return variables.resolve(variables.split(value), have)
    except variables.Malformed:
        return value  # as Compose's own reader leaves it
    except variables.Missing as missing:
        file, text, line = place
        raise fault(
            file, text, line, f"{missing.name} has no value: {missing.why or 'it must be set'}"
        ) from None
