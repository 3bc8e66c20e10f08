"""Paths as applications read them, whichever way a client spells them. Pure.

Rules about paths compare this one; the path itself goes on as it came.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.edge import refusals, words

READ = "txn.read"
"""Holds it: decoded, without ``;parameters``, ``//`` and ``/./``."""


def lines() -> list[str]:
    """For the public frontend, before the first rule that asks. What cannot be decoded is refused:
    applications read it each in their own way, so that nobody knows which rules are about it."""
    plain = words.quote("path,url_dec,regsub(;[^/]*,,g),regsub(/[./]*/,/,g)")
    return [
        f"http-request set-var({READ}) {plain}",
        *refusals.refuse(400, "Bad request", f"!{{ var({READ}) -m found }} {{ path -m beg / }}"),
    ]


def below(name: str, path: str, *, flags: Sequence[str] = ()) -> list[str]:
    """Lines of an acl: requests for this path and below it; none for ``/``. Raises UsageError."""
    stem = path.rstrip("/")
    if not stem:
        return []
    test = " ".join(("acl", name, f"var({READ})", *flags))
    return [
        f"{test} -m str -- {words.word(stem)}",
        f"{test} -m beg -- {words.word(stem + '/')}",
    ]
