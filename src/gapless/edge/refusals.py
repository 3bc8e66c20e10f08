"""What the edge itself says when it refuses a request: short, in the words of the client. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gapless.edge import words

JSON = "{ req.fhdr(accept) -m sub application/json }"
SOON = 2
"""Seconds after which a client may well try again what was refused for want of room."""


def refuse(
    status: int, text: str, condition: str, headers: Mapping[str, str] | None = None
) -> list[str]:
    """Rules that answer in JSON whoever asks for it, and everybody else in plain text.

    ``condition`` is tests of which all must hold, without ``if``: the cheapest one first, since it
    is tested twice of whoever is not refused. ``headers`` are of our own making, in HAProxy's log
    format. Raises UsageError.
    """
    more = "".join(
        f" hdr {name} {words.quote(value)}"
        for name, value in {"Cache-Control": "no-store", **(headers or {})}.items()
    )
    body = json.dumps({"status": status, "error": text})
    start = f"http-request return status {status}"
    return [
        f"{start} content-type 'application/json' string {words.quote(body)}{more}"
        f" if {condition} {JSON}",
        f"{start} content-type 'text/plain' string {words.quote(text)}{more} if {condition}",
    ]
