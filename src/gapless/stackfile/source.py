"""Bytes to text to a TOML tree, and what can be wrong with the text itself."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from gapless.errors import InvalidStack, Problem

LIMIT = 1_000_000
"""Largest file, in bytes. A stack file is a page or two; more is a mistake in the path."""
DEPTH = 16
"""Deepest nesting of tables and lists; the language itself needs 6."""

Tree = dict[str, Any]
_PLACE = re.compile(r"\s*\((?:at line (\d+), column (\d+)|at end of document)\)$")


def read(path: Path) -> str:
    """The text of the file. Raises InvalidStack, naming the file and what is wrong with it."""
    file = str(path)
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise _fault(file, "is a directory, not a file")
        # Devices and pipes may never end, or never begin.
        if not stat.S_ISREG(kind):
            raise _fault(file, "is not a regular file")
        with path.open("rb") as handle:
            data = handle.read(LIMIT + 1)
    except FileNotFoundError:
        raise _fault(file, "does not exist") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _fault(file, f"cannot be read: {reason}") from None
    return decode(data, file=path.name)


def decode(data: bytes, *, file: str) -> str:
    """UTF-8 text without NUL. Raises InvalidStack with the line of the first bad byte."""
    if len(data) > LIMIT:
        raise _fault(file, f"is larger than {LIMIT // 1000} kB: this is no stack file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "replace")
        bad = data[error.start]
        raise InvalidStack(
            (
                Problem(
                    f"is not UTF-8 text: byte 0x{bad:02x} at position {error.start}",
                    file,
                    good.count("\n") + 1,
                ),
            )
        ) from None


def tree(text: str, *, file: str) -> Tree:
    """What the TOML says. Raises InvalidStack with line and text of a syntax error."""
    if not text.strip():
        raise _fault(
            file, 'is empty: a stack needs "gapless = 1", a name and one [service.NAME] with run'
        )
    if "\0" in text:
        raise _at(file, text, text.count("\n", 0, text.index("\0")) + 1, "holds a NUL character")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise _fault(file, "is nested too deeply") from None
    except ValueError as error:
        raise _syntax(file, text, str(error)) from None
    if _depth(found) > DEPTH:
        raise _fault(file, f"is nested too deeply (more than {DEPTH} levels)")
    return found


def line_text(text: str, line: int) -> str:
    """Line number ``line`` (from 1), without control characters, at most 120 characters."""
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        return ""
    shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in lines[line - 1])
    shown = shown.rstrip("\r\ufffd").rstrip()
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


def _syntax(file: str, text: str, message: str) -> InvalidStack:
    found = _PLACE.search(message)
    fault = message[: found.start()] if found else message
    if found and found[1]:
        line = int(found[1])
    elif found:
        line = text.rstrip().count("\n") + 1
    else:
        # A number of thousands of digits is the one fault that comes without a place.
        return _fault(file, f"is not valid TOML: {fault}")
    return _at(file, text, line, f"is not valid TOML: {fault[:1].lower()}{fault[1:]}")


def _depth(value: object) -> int:
    # Iterative: the depth that is to be refused must not exhaust the stack.
    level: list[object] = [value]
    depth = 0
    while level and depth <= DEPTH:
        depth += 1
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _fault(file: str, message: str) -> InvalidStack:
    return InvalidStack((Problem(message, file),))


def _at(file: str, text: str, line: int, message: str) -> InvalidStack:
    return InvalidStack((Problem(message, file, line, line_text(text, line)),))
