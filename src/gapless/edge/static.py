"""How requests for files reach the server of files, and what is kept of it in memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapless.edge import words

BACKEND = "_static"
HOST = "files"
"""What the server of files is called as: a client's own word for the host stays at the edge."""
CACHE_MEGABYTES = 64
CACHE_OBJECT = 256 * 1024
"""Bytes of the largest file that is kept: larger ones are as fast without."""
CACHE_SECONDS = 60
"""For so long; only names that are immutable are kept at all."""


@dataclass(frozen=True, slots=True)
class Static:
    """``paths``: where folders are published. ``socket``: of the server of files."""

    paths: tuple[str, ...] = ()
    socket: str = ""


def rules(static: Static, services: Sequence[str]) -> list[str]:
    """Before the services' own. ``services``: paths of their routes.

    A folder comes before every service but those published below it.
    """
    lines = []
    for path in sorted(static.paths, key=len, reverse=True):
        if path == "/":
            continue
        inner = sorted({one.rstrip("/") for one in services if one.startswith(f"{path}/")})
        but = [f"!{{ path -m beg -- {words.word(one + '/')} }}" for one in inner]
        but += [f"!{{ path -m str -- {words.word(one)} }}" for one in inner]
        lines.append(f"use_backend {BACKEND}{words.condition(path, None, *but)}")
    return lines


def last_rule(static: Static) -> list[str]:
    """After the services': a folder at ``/`` has what nobody else has."""
    return [f"use_backend {BACKEND}"] if "/" in static.paths else []


def backend(static: Static, compression: Sequence[str]) -> list[list[str]]:
    """Sections: what is kept in memory, and the way to the server of files."""
    if not static.paths:
        return []
    stored = "{ res.hdr(Cache-Control) -m sub immutable }"
    asked = "!{ req.hdr(Range) -m found }"
    cache = [
        "cache static",
        f"total-max-size {CACHE_MEGABYTES}",
        f"max-object-size {CACHE_OBJECT}",
        f"max-age {CACHE_SECONDS}",
        "process-vary on",
    ]
    filters = ["filter compression"] if compression else []
    return [
        cache,
        [
            f"backend {BACKEND}",
            # A reload of nginx ends idle connections, also when a request is under way on one.
            "option http-server-close",
            "filter cache static",
            *filters,
            *compression,
            f"http-request set-header Host {HOST}",
            "http-request disable-l7-retry unless METH_GET",
            f"http-request cache-use static if {asked}",
            f"http-response cache-store static if {stored}",
            f"server files {words.quote(f'unix@{static.socket}', what='a socket')}",
        ],
    ]
