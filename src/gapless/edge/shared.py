"""A stack's edge behind the front: where it takes what the front passes on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.edge import tls as edge_tls
from gapless.edge import words
from gapless.model.front import Claim

SOCKET = "front.sock"
TLS_SOCKET = "front-tls.sock"
DOORS = (SOCKET, TLS_SOCKET)
_NAME = "front"
"""Begins the name of a listener that only the front can reach."""


@dataclass(frozen=True, slots=True)
class Shared:
    """``hosts``: what the stack has of the front. ``uid``: the front's worker, who alone may
    connect; None: it is who we are. ``parting``: who still comes through it is asked to come again
    by another connection."""

    hosts: tuple[str, ...]
    uid: int | None = None
    parting: bool = False


def binds(shared: Shared | None, run_dir: str, *, tls: bool = False) -> list[str]:
    """The listeners for plain HTTP and for TLS. The client's address is what the front says."""
    if shared is None:
        return []
    owner = "" if shared.uid is None else f" uid {int(shared.uid)} gid {int(shared.uid)}"
    path = words.quote(f"unix@{run_dir}/{SOCKET}", what="the run directory")
    lines = [f"bind {path} accept-proxy mode 600 name {_NAME}{owner}"]
    if tls:
        path = words.quote(f"unix@{run_dir}/{TLS_SOCKET}", what="the run directory")
        name = f"{_NAME}-{edge_tls.LISTENER}"
        lines.append(
            f"bind {path} accept-proxy mode 600 {edge_tls.bind_words(run_dir, name)}{owner}"
        )
    return lines


def strangers(shared: Shared | None) -> list[str]:
    """Requests for hosts of other stacks are sent back to where they belong (421).

    The front tells plain requests apart, and of TLS only connections: a browser that holds one
    to this stack may use it for another's name, where a certificate covers both.
    """
    if shared is None:
        return []
    host = "req.hdr(host),host_only,lower"
    exact = [words.word(name) for name in shared.hosts if not name.startswith("*.")]
    wild = [words.word(name[1:]) for name in shared.hosts if name.startswith("*.")]
    # A connection that the front passed on unopened ends only when its client or the edge ends it.
    parting = ["http-after-response set-header Connection close if from_front"]
    return [
        f"acl from_front so_name -m beg {_NAME}",
        *(parting if shared.parting else ()),
        *words.acl("ours", f"{host} -m str", exact),
        *words.acl("ours", f"{host} -m end", wild),
        "http-request return status 421 content-type 'text/plain' hdr Cache-Control 'no-store' "
        "string 'This connection is not for that host name' if from_front !ours",
    ]


def of_claim(claim: Claim, uid: int | None, *, parting: bool = False) -> Shared:
    """What an edge needs to know of its stack's claim."""
    return Shared(claim.hosts, uid, parting)
