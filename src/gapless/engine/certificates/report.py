"""Certificates as people and programs are told of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gapless.core import certificates
from gapless.observed import Certificate


def rows(seen: Iterable[Certificate], wall: float) -> list[dict[str, Any]]:
    """Of ``ps --json``: ``certificates`` of the edge. ``wall``: seconds since 1970."""
    return [
        {
            "name": one.name,
            "names": list(one.names),
            "kind": one.kind or "none",
            "state": _state(one, wall),
            "issuer": one.issuer,
            "ends_at": one.ends_at or None,
            "seconds_left": round(one.ends_at - wall) if one.ends_at else None,
            "in_force": one.served in (None, one.serial) and not one.fresh,
            "reason": one.failures.reason if one.failures else "",
        }
        for one in seen
    ]


def _state(one: Certificate, wall: float) -> str:
    if not one.kind:
        return "missing"
    if wall >= one.ends_at:
        return "ended"
    if one.ordering:
        return "ordering"
    if one.kind == "stand-in":
        return "stand-in"
    return "ends soon" if certificates.ends_soon(one, wall) else "valid"
