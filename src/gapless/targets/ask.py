"""What the user says of the other balancer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gapless import errors
from gapless.model.process import Address

EDGE = "edge"
"""The name by which ``--upstream`` means this stack's own edge; no service can be called that."""
_FORM = 'say "web=10.0.0.5:8001,10.0.0.6:8001" or "web=unix:/run/web.sock"'


@dataclass(frozen=True, slots=True)
class Ask:
    """``at``: folder in which the files will lie over there.

    ``upstreams``: addresses by service; empty, or of ``edge`` alone: the stack's own edge stands
    behind. ``listen`` and ``tls_listen``: None leaves them to the file. ``certificate`` and
    ``key``: paths over there; without a certificate there is no TLS. ``page``: the maintenance
    page's text.
    """

    at: str
    upstreams: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    listen: str | None = None
    tls_listen: str | None = None
    certificate: str | None = None
    key: str | None = None
    page: str | None = None

    @property
    def front(self) -> bool:
        """Whether it stands before the stack's own edge rather than instead of it."""
        return not set(self.upstreams) - {EDGE}


def upstreams(given: Iterable[str]) -> dict[str, tuple[Address, ...]]:
    """``NAME=ADDRESS[,ADDRESS…]``, each name once. Raises UsageError."""
    found: dict[str, tuple[Address, ...]] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        if not equals or not name or not rest:
            raise errors.UsageError(f'--upstream: cannot be read: "{text}"', hint=_FORM)
        if name in found:
            raise errors.UsageError(
                f"--upstream: {name} is named twice", hint="separate its addresses by commas"
            )
        found[name] = tuple(address(one.strip()) for one in rest.split(","))
        if len(set(found[name])) < len(found[name]):
            raise errors.UsageError(
                f"--upstream: {name}: one address stands there twice",
                hint="it would get twice the work",
            )
    return found


def address(text: str) -> Address:
    """``host:port``, ``[v6]:port`` or ``unix:/path``. Raises UsageError."""
    if text.startswith("unix:/") and re.fullmatch(r"[A-Za-z0-9._/@:+-]{2,107}", text[5:]):
        return Address(socket=text[5:])
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9a-fA-F:]+\]):(\d{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise errors.UsageError(f'--upstream: not an address: "{text}"', hint=_FORM)
    return Address(host=match[1], port=int(match[2]))
