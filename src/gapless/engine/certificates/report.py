"""Certificates as people and programs are told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gapless.core import certificates
from gapless.model.stack import Stack
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


def notes(stack: Stack, seen: Mapping[str, Certificate], *, proven: bool) -> list[str]:
    """What a plan says of TLS beside its steps."""
    said = []
    waited = [one.name for one in stack.certificates if one.kind == "issued"]
    waited = [name for name in waited if name not in seen or seen[name].kind != "issued"]
    if waited:
        said.append(
            f"a self-signed stand-in is shown for {', '.join(waited)} until the authority has "
            f"answered, and it must reach {'them' if len(waited) > 1 else 'it'} at port 80"
        )
    if stack.edge.hsts is not None and not proven:
        said.append("hsts is not sent before gapless drill tls has held")
    return said


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
