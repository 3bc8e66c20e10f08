"""Requests that wait for a service that has lost all its replicas at once. Pure.

The last server of the floor is a way back into the edge itself, taken only while no other one is
left: so HAProxy finds out by itself, and what it could give to nobody goes the same way.
``await.lua`` does the waiting (by ``line.lua``), there alone: no other request pays for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gapless.edge import words
from gapless.model.service import Service

MOST = 1_000
"""Requests that wait for all services; a quarter of the edge's connections where it may have fewer:
each has two of them."""
LONGEST_BODY = 1024 * 1024
"""Bytes of a body that one that waits may announce."""
SHARE = 0.9
"""Of the time for an answer: whom the last server left behind would be told 504 after that."""
SECTION = "_alone:"
"""Begins the name of a service's frontend for it."""
AGAIN = "_again:"
"""And of the backend that leads to the same one of the next worker."""
SERVER = "waited"
"""The way back, as a server; in the log it stands for the replica. Theirs have a dot."""
SCRIPT = "edge-await.lua"
MAP = "edge-awaited.map"
"""Holds the services that were ready once and are to have replicas."""
_ENTRY = re.compile(r"^(\S+) 1$", re.MULTILINE)
_SHOWN = re.compile(r"^0x[0-9a-f]+ (\S+) 1$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Await:
    """So long a request waits for a replica, in seconds (0: not at all); so many at a time."""

    seconds: float = 20.0
    length: int = 1_000


def of_service(service: Service) -> Await:
    """What the stack file asks for."""
    return Await(min(service.wait, SHARE * service.timeout), service.queue_length)


def for_global(run_dir: str, maxconn: int) -> list[str]:
    """Lines of the section ``global``."""
    most = max(1, min(MOST, maxconn // 4))
    return [f"lua-load {_path(run_dir, SCRIPT)} {_path(run_dir, MAP)} {LONGEST_BODY} {most}"]


def server(wanted: Await, name: str, run_dir: str, *, h2: bool) -> list[str]:
    """The last line of a backend and of its floor: whom requests go to while it has nobody."""
    if not wanted.seconds:
        return []
    proto = " proto h2" if h2 else ""
    # Without kept connections: those that are open are requests that wait, or have waited.
    way = f"{_socket(run_dir, name)} send-proxy-v2 pool-max-conn 0"
    return [f"server {SERVER} {way} backup{proto}"]


def again(wanted: Await, name: str, run_dir: str, *, h2: bool) -> list[str]:
    """How those who wait get from a worker that is on its way out to the next one."""
    if not wanted.seconds:
        return []
    proto = " proto h2" if h2 else ""
    return [
        f"backend {AGAIN}{words.identifier(name)}",
        f"server next {_socket(run_dir, name)} send-proxy-v2{proto}",
    ]


def frontend(
    wanted: Await,
    name: str,
    run_dir: str,
    *,
    ready: str | None,
    floor: str,
    direct: bool,
    h2: bool,
    owner: str,
) -> list[str]:
    """Where that leads. ``ready``: the path at which replicas are asked whether they are; None:
    none. ``direct``: who asks is a client, and this machine knows when its connection is closed.
    ``owner``: whose the socket is."""
    if not wanted.seconds:
        return []
    proto = " proto h2" if h2 else ""
    asked = "-" if ready is None else words.word(ready)
    bounds = f"{wanted.seconds:.3f} {wanted.length} {asked}"
    return [
        f"frontend {SECTION}{name}",
        f"bind {_socket(run_dir, name)} accept-proxy mode 600{owner}{proto}",
        *(["http-request set-var(txn.gapless_peer) src,hex"] if direct else []),
        f"http-request lua.gapless_await {name} {bounds}",
        "http-request deny deny_status 503 if { var(txn.gapless_alone) -m found }",
        f"use_backend {AGAIN}{name} if {{ var(txn.gapless_moved) -m found }}",
        f"use_backend {name} if {{ var(txn.gapless_judged) -m found }}",
        f"default_backend {floor}",
    ]


def entries(text: str) -> set[str]:
    """The services that a file of the map names."""
    return set(_ENTRY.findall(text))


def told(answer: str) -> frozenset[str]:
    """Parse the answer to ``show map``: likewise of the running edge."""
    return frozenset(_SHOWN.findall(answer))


def text(names: Iterable[str]) -> str:
    """The inverse."""
    return "".join(f"{name} 1\n" for name in sorted(names))


def _socket(run_dir: str, name: str) -> str:
    return _path(run_dir, f"edge.{words.identifier(name)}.sock", "unix@")


def _path(run_dir: str, name: str, kind: str = "") -> str:
    return words.quote(f"{kind}{run_dir}/{name}", what="the run directory")
