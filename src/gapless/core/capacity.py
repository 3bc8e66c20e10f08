"""How many connections at once a machine can hold, and what to change for more.

A connection through the edge costs two descriptors in the edge (client's side and replica's) and
one in the replica. Replicas on Unix sockets cost no port; a port is only used up on the client's
side, so only clients that share one address (a proxy in front, a load test) run out of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.core import sizing

RESERVED = 100
"""Descriptors that the edge keeps for itself: listeners, checks, its runtime API."""
UNLIMITED = 100_000
"""Connections that the edge is set up for where nothing limits its descriptors."""
EACH = 40 * 1024
"""Bytes for each connection, edge and replica together: measured are 15-30 KiB (0014)."""
WISHED = 10_000
"""Connections that a server should be able to hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``descriptors``: the hard limit of one process, None: unlimited. ``ports``: of one client
    address. ``memory``: bytes that are free to use. ``asked``: what the file says, if anything."""

    descriptors: int | None
    ports: int
    memory: int
    asked: int | None = None
    aside: int = 0
    """Descriptors that the edge sets aside for something else."""


def by_descriptors(descriptors: int | None) -> int:
    """Connections at the edge within a limit of descriptors (None: there is none)."""
    if descriptors is None:
        return UNLIMITED
    return max(50, (descriptors - RESERVED) // 2)


def at_edge(limits: Limits) -> int:
    """What the edge is set up for: the file's figure, if that is possible."""
    possible = _possible(limits)
    return min(limits.asked or possible, possible)


def _possible(limits: Limits) -> int:
    known = limits.descriptors
    return by_descriptors(None if known is None else known - limits.aside)


def lines(limits: Limits) -> list[str]:
    """What the machine can hold and how to raise it, for people."""
    possible = _possible(limits)
    holds = at_edge(limits)
    if holds < possible:
        why = f"[edge] max_connections; {possible:,} are possible"
    elif limits.descriptors is None:
        why = "descriptors are not limited"
    else:
        why = f"{limits.descriptors:,} descriptors a process (hard limit), two for each"
    text = [
        f"connections: {holds:,} at once at the edge ({why}); "
        f"memory free for about {limits.memory // EACH:,} ({sizing.size(EACH)} each); "
        f"{limits.ports:,} from one client address"
    ]
    if limits.descriptors is not None and possible < WISHED:
        wanted = 2 * WISHED + RESERVED + limits.aside
        text.append(
            f"for {WISHED:,}: LimitNOFILE={wanted} in the systemd unit, or"
            f' "* hard nofile {wanted}" in /etc/security/limits.conf and a new login'
        )
    if limits.memory // EACH < holds:
        text.append(f"memory ends before {holds:,}: [edge] max_connections lower, or more memory")
    if limits.ports < WISHED:
        text.append(
            "clients behind one address: sysctl -w net.ipv4.ip_local_port_range='15000 60999'"
            " where they are"
        )
    return text
