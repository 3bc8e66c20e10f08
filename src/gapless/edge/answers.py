"""What the edge adds to answers: headers that make browsers careful, and compression. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gapless import errors
from gapless.edge import words

COMPRESSED = (
    "text/html",
    "text/plain",
    "text/css",
    "text/csv",
    "text/xml",
    "text/markdown",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/xml",
    "application/atom+xml",
    "application/rss+xml",
    "image/svg+xml",
)
"""Types that are worth it. A stream of events is none: its events must not wait for each other."""


@dataclass(frozen=True, slots=True)
class Answers:
    """``headers``: name and value, where the application does not set that one itself.

    ``removed``: names that no answer has. ``compress``: text is sent compressed to who takes it.
    """

    headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    compress: bool = False


def headers(answers: Answers) -> list[str]:
    """For a frontend; on the edge's own answers too."""
    lines = [f"http-after-response del-header {_name(name)}" for name in answers.removed]
    if answers.headers:
        # Few answers have any of them, and one look at the list of names tells.
        names = "|".join(_name(name) for name, _ in answers.headers)
        said = f"{{ res.hdr_names -m reg -i -- {words.quote(f'(^|,)({names})(,|$)')} }}"
        lines.append(f"http-after-response set-var(txn.said) bool(true) if {said}")
    for name, value in answers.headers:
        found = f"{{ var(txn.said) -m bool }} {{ res.fhdr({_name(name)}) -m found }}"
        lines.append(
            f"http-after-response add-header {_name(name)} {words.literal(value)} unless {found}"
        )
    return lines


def compression(answers: Answers) -> list[str]:
    """For a backend. Encoded answers, and those marked no-transform, pass as they are."""
    if not answers.compress:
        return []
    return ["compression algo gzip", f"compression type {' '.join(COMPRESSED)}"]


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", name):
        raise errors.UsageError(f"edge: not a possible name of a header: {name!r}")
    return name
