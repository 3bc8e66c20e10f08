"""Hides the values of secrets in text, also in the encoded forms that programs print."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

STARS = "***"
SHORT = 4
"""Shorter values are hidden as whole words only: "ok" must not eat half of every "token"."""
LONG_LINE = 8
"""Lines of a multi-line value are hidden by themselves from this length on."""

Span = tuple[int, int]


class Masker:
    """Replaces every occurrence of the values by ``***``; overlapping ones by one ``***``.

    All forms are sought in the text as it came, so hiding one value never uncovers a part of
    another. Searching for plain strings beats one big regular expression by far.
    """

    def __init__(self, values: Iterable[str]) -> None:
        values = {value for value in values if value}
        found = {form for value in values if len(value) >= SHORT for form in forms(value)}
        self._forms = tuple(sorted(found))
        words = sorted({value for value in values if len(value) < SHORT}, key=len, reverse=True)
        pattern = "|".join(re.escape(word) for word in words)
        self._words = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)") if words else None

    def __call__(self, text: str) -> str:
        """The text without the values."""
        spans = [span for form in self._forms if form in text for span in _places(form, text)]
        if self._words is not None:
            spans += [match.span() for match in self._words.finditer(text)]
        return _cover(text, spans) if spans else text


def mask(text: str, values: Iterable[str]) -> str:
    """Hide values in one text. For many texts keep a ``Masker``."""
    return Masker(values)(text)


def forms(value: str) -> set[str]:
    """The value as it stands in URLs, JSON, shell words, Python literals, HTML, base64, hex."""
    raw = value.encode("utf-8", "surrogatepass")
    found = {value, *_escaped(value), *_base64(raw), raw.hex(), raw.hex().upper()}
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= LONG_LINE:
                found |= {line, *_escaped(line)}
    return {form for form in found if len(form) >= SHORT}


def _escaped(value: str) -> Iterator[str]:
    for percent in (quote, quote_plus):
        for safe in ("", "/"):
            encoded = percent(value, safe=safe, errors="surrogatepass")
            yield encoded
            yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once)[1:-1]
    yield shlex.quote(value)
    yield value.replace("'", "'\\''")
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
    yield repr(value)[1:-1]
    yield repr(value.encode("utf-8", "surrogatepass"))[2:-1]
    yield html.escape(value)
    yield html.escape(value, quote=False)


def _base64(raw: bytes) -> Iterator[str]:
    """Alone, and inside something longer, such as ``user:password``.

    There the surroundings decide the first and last characters: only what depends on the value
    alone is sought.
    """
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for before in range(3):
            encoded = encode(b"\0" * before + raw).decode().rstrip("=")
            whole = (before + len(raw)) // 3 * 4
            inner = encoded[(0, 2, 3)[before] : whole]
            # Six characters at least: anything shorter would hide innocent words.
            if len(inner) >= 6:
                yield inner


def _places(form: str, text: str) -> Iterator[Span]:
    at = text.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = text.find(form, at + 1)


def _cover(text: str, spans: list[Span]) -> str:
    spans.sort()
    parts, end = [], 0
    for first, last in spans:
        if first >= end:
            parts += [text[end:first], STARS]
        end = max(end, last)
    parts.append(text[end:])
    return "".join(parts)
