"""What stood in front of the services of a Compose file, as far as it is understood."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gapless.compose.draft import Draft
from gapless.compose.tree import Node

HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
PATH = re.compile(r"/[A-Za-z0-9._~/-]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for ``path`` at ``hosts`` (none: any) go to a service's port; ``sticky``: those of
    one client to one replica.
    """

    hosts: tuple[str, ...]
    path: str
    service: str
    port: int
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is published: host (None: each) and path."""

    host: str | None
    path: str = "/"

    def __str__(self) -> str:
        return f"{self.host or ''}{self.path}"


@dataclass(slots=True)
class Front:
    """What balancers say. ``places`` and ``ports`` by service; ``tls``: certificates are got."""

    services: list[str] = field(default_factory=list)
    places: dict[str, list[Place]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    sticky: set[str] = field(default_factory=set)
    ready: dict[str, str] = field(default_factory=dict)
    """Service to the path that a balancer asks to see whether a replica is well."""
    domains: list[str] = field(default_factory=list)
    tls: bool = False
    redirected: bool = False
    closed: set[str] = field(default_factory=set)
    """Services that Traefik is told to leave alone; it is only known which port they have."""

    def put(
        self,
        draft: Draft,
        service: str,
        hosts: Iterable[str],
        paths: Iterable[str],
        node: Node | None,
        *,
        exact: bool = False,
    ) -> None:
        """Publish a service at each of these hosts and paths, and say at ``node`` what became of
        that. ``exact``: the paths alone, and nothing below them.
        """
        named = [host.lower() for host in hosts if HOST.fullmatch(host.lower())]
        paths = [path for path in paths if PATH.fullmatch(path)]
        if not (named or paths):
            draft.ledger.refused(node, "a route is a host and a path: say route")
            return
        if len(named) > 1:
            self.domains += [host for host in named if host not in self.domains]
        one = named[0] if len(named) == 1 else None
        made = [Place(one, path) for path in paths or ["/"]]
        places = self.places.setdefault(service, [])
        fresh = [place for place in made if place not in places]
        places += fresh
        if len(places) > 1 and fresh:
            draft.ledger.refused(node, f"a service has one route, {places[0]}")
            del places[1:]
        elif exact:
            draft.ledger.emulated(node, f"route = {made[0]}: paths below it too")
        else:
            draft.ledger.kept(node, f"route = {made[0]}")
