"""The shapes of WSGI, and the two things that every part of this package does with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]


def paths(environ: Environ) -> tuple[str, str]:
    """(whole path, path below the mount point)."""
    below = environ.get("PATH_INFO", "")
    return environ.get("SCRIPT_NAME", "") + below, below


def respond(
    environ: Environ, start: Start, status: int, body: bytes, headers: Iterable[tuple[str, str]]
) -> list[bytes]:
    """A whole answer; the body is left out for HEAD."""
    fields = [*headers, ("Content-Length", str(len(body)))]
    start(f"{status} {HTTPStatus(status).phrase}", fields)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def missing(environ: Environ, start: Start) -> Iterable[bytes]:
    """The application behind a middleware that was given none."""
    return respond(environ, start, 404, b"Not Found\n", [("Content-Type", "text/plain")])
