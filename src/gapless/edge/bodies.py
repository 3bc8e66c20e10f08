"""How large a request's body may be, and how long it may take to come. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gapless.edge import hostile, refusals, words

WHOLE = 14_000
"""Bytes up to which an application gets a body only when all of it is there: it must fit into one
of HAProxy's buffers (16 KiB) beside its headers. A client that sends it byte by byte, or not to
the end, then keeps nobody busy but the edge."""
SCRIPT = "edge-body.lua"
TOO_LARGE = "txn.too_large"
"""Set by the script for a body that says no length and does not end in time."""
PATIENCE = 10.0
"""Seconds for that; and for a larger one, or one of unknown length, to begin."""


def for_global(place: str, sizes: Iterable[int | None]) -> list[str]:
    """Lines of the section ``global``; ``place``: where the script lies, quoted."""
    return [f"lua-load-per-thread {place}"] if any(size is not None for size in sizes) else []


def at_most(most: int | None, *, counted: bool = True) -> list[str]:
    """Lines of a backend that takes so many bytes at most; None: any number.

    ``counted``: also bodies that do not say their length, by the script.
    """
    refused = []
    if most is not None:
        refused = refusals.refuse(413, "Body too large", f"{{ req.body_size gt {int(most)} }}")
    if most is not None and counted:
        refused += [
            f"filter lua.gapless_body {int(most)}",
            "http-error status 400 content-type 'text/plain' "
            "hdr Cache-Control 'no-store' string 'Body malformed or too large'",
            f"http-after-response set-status 413 if {{ var({TOO_LARGE}) -m bool }}",
        ]
    return refused


def awaited() -> list[str]:
    """Lines of a backend; who is too slow gets 408."""
    wait = f"http-request wait-for-body time {words.milliseconds(PATIENCE)}"
    return [
        # Of HTTP/2 nothing is waited for that does not say its length: it may be a conversation.
        "acl sized req.fhdr(content-length) -m found",
        "acl chunked req.fhdr(transfer-encoding) -m found",
        f"acl long req.body_size gt {WHOLE}",
        # An ordinary request has no body. Sizes first: they need no look at all headers.
        f"{wait} if {hostile.UNUSUAL} {{ req.body_size gt 0 }} sized !long",
        f"{wait} at-least 1 if {hostile.UNUSUAL} long sized or {hostile.UNUSUAL} chunked",
    ]
