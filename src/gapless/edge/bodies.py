"""How large a request's body may be, and how long it may take to come. Pure."""

from __future__ import annotations

from gapless.edge import refusals, words

WHOLE = 14_000
"""Bytes up to which an application gets a body only when all of it is there: it must fit into one
of HAProxy's buffers (16 KiB) beside its headers. A client that sends it byte by byte, or not to
the end, then keeps nobody busy but the edge."""
PATIENCE = 10.0
"""Seconds for that; and for a larger one, or one of unknown length, to begin."""


def for_backend(most: int | None) -> list[str]:
    """Lines of a backend that takes so many bytes at most; None: any number.

    Who is too slow gets 408.
    """
    refused = []
    if most is not None:
        refused = refusals.refuse(413, "Body too large", f"{{ req.body_size gt {int(most)} }}")
    wait = f"http-request wait-for-body time {words.milliseconds(PATIENCE)}"
    return [
        *refused,
        # Of HTTP/2 nothing is waited for that does not say its length: it may be a conversation.
        "acl sized req.hdr(content-length) -m found",
        "acl chunked req.hdr(transfer-encoding) -m found",
        f"acl long req.body_size gt {WHOLE}",
        f"{wait} if sized {{ req.body_size gt 0 }} !long",
        f"{wait} at-least 1 if chunked or sized long",
    ]
