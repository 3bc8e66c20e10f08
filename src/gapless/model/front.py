"""What a stack has of the front: the addresses and host names that stacks of one machine share."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Claim:
    """The host names of one stack, on these addresses, and where its own edge takes them.

    ``hosts``: sorted names; ``*.example.com`` is all below. ``http``, ``tls``: addresses of the
    front (``*:80``) with plain HTTP, and with TLS that it passes on unopened. ``socket``,
    ``tls_socket``: paths of the edge's Unix sockets for either. ``state``: the stack's own
    directory; a claim without one is nobody's any more.
    """

    stack: str
    hosts: tuple[str, ...]
    state: str
    http: tuple[str, ...] = ()
    socket: str = ""
    tls: tuple[str, ...] = ()
    tls_socket: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the front listens for it; none: it has withdrawn, and is still to leave."""
        return (*self.http, *self.tls)


def is_host(name: str) -> bool:
    """Whether it is a host name that can be told apart: ``example.com`` or ``*.example.com``."""
    return len(name) <= 253 and _HOST.fullmatch(name) is not None


def urls(claim: Claim) -> tuple[str, ...]:
    """Where the world finds the stack: by TLS, where it speaks that."""
    scheme, usual = ("https", "443") if claim.tls else ("http", "80")
    found = []
    for address in claim.tls or claim.http:
        port = address.rpartition(":")[2]
        tail = "" if port == usual else f":{port}"
        found += [f"{scheme}://{host}{tail}" for host in claim.hosts]
    return tuple(found)
