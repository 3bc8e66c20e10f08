"""On which line each key of a TOML text stands.

``tomllib`` decides what a text says; this only finds where. It walks text that ``tomllib`` has
accepted already, so it need not know what is invalid, only where keys begin and values end.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib

Path = tuple[str | int, ...]
"""Keys from the root, list positions as numbers: ``("service", "web", "run", 0)``."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _Lost(Exception):
    """The text is not what the scanner expects; what was found so far is kept."""


def find(text: str) -> dict[Path, int]:
    """Key path to line (from 1). A table is where it is first named."""
    scanner = _Scanner(text)
    # Lost: problems then show the line of the nearest enclosing table that was found.
    with contextlib.suppress(_Lost):
        scanner.document()
    return scanner.places


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        line = self._line()
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        keys = self._dotted()
        self._expect("]]" if many else "]")
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            self.places.setdefault(path, line)
            last = position == len(keys) - 1
            if last and many:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
                self.places.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for key in self._dotted():
            path = (*path, key)
            self.places.setdefault(path, line)
        self._expect("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        head = self.text[self.at : self.at + 1]
        if head == "[":
            self._list(path)
        elif head == "{":
            self._inline(path)
        else:
            self._match(_STRING if head in ('"', "'") else _SCALAR)

    def _list(self, path: Path) -> None:
        self.at += 1
        position = 0
        while True:
            self._skip(_BLANK)
            if self._take("]"):
                return
            self.places[(*path, position)] = self._line()
            self._value((*path, position))
            position += 1
            self._skip(_BLANK)
            if not self._take(","):
                self._expect("]")
                return

    def _inline(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self._take("}"):
                return
            self._pair(path)
            self._skip(_BLANK)
            if not self._take(","):
                self._expect("}")
                return

    def _dotted(self) -> list[str]:
        keys = [self._key()]
        while self._take("."):
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip(_SPACE)
        if self.text[self.at : self.at + 1] in ('"', "'"):
            key = self._unquoted(self._match(_STRING))
        else:
            key = self._match(_BARE_KEY)
        self._skip(_SPACE)
        return key

    def _unquoted(self, quoted: str) -> str:
        try:
            return str(tomllib.loads(f"key = {quoted}")["key"])
        except ValueError:
            raise _Lost from None

    def _line(self) -> int:
        return bisect.bisect_right(self._starts, self.at)

    def _skip(self, what: re.Pattern[str]) -> None:
        if found := what.match(self.text, self.at):
            self.at = found.end()

    def _match(self, what: re.Pattern[str]) -> str:
        found = what.match(self.text, self.at)
        if found is None:
            raise _Lost
        self.at = found.end()
        return found[0]

    def _take(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise _Lost
