"""What others call a service: its name, its container's, those that a network or a link adds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map, Node, Seq
from gapless.model.image import ALIAS_FORM

_FITTING = re.compile(ALIAS_FORM)


def of(draft: Draft, service: str) -> tuple[str, ...]:
    """All of them, its own first."""
    further = (name for name, _ in _further(draft, service))
    return tuple(dict.fromkeys((service, *further)))


def write(draft: Draft, service: str, made: dict[str, Any]) -> None:
    """``aliases``, where they are not the name that the service has here."""
    if draft.roles.get(service) != "service":
        return
    own = draft.names[service]
    others = {name for role, name in _written(draft) if role != "job"} - {own}
    found = [service]
    for name, node in _further(draft, service):
        if not _FITTING.fullmatch(name):
            draft.ledger.refused(node, f'is no name in a network: "{name}"')
        elif name in others:
            draft.ledger.refused(node, f'"{name}" is another one here')
        else:
            found.append(name)
            draft.ledger.kept(node, "" if name == own else f"others find it as {name}")
    fitting = (name for name in found if _FITTING.fullmatch(name) and name not in others)
    if aliases := [name for name in dict.fromkeys(fitting) if name != own]:
        made["aliases"] = aliases


def _written(draft: Draft) -> Iterator[tuple[str, str]]:
    for name, role in draft.roles.items():
        if role in ("service", "job", "data"):
            yield role, draft.names[name]


def _further(draft: Draft, service: str) -> Iterator[tuple[str, Node]]:
    items = draft.items(service)
    if (called := items.get("container_name")) is not None:
        yield text(called), called
    networks = items.get("networks")
    for network in networks.items.values() if isinstance(networks, Map) else ():
        aliases = network.items.get("aliases") if isinstance(network, Map) else None
        for one in aliases.items if isinstance(aliases, Seq) else ():
            yield text(one), one
    for other in draft.project.services:
        links = draft.items(other).get("links")
        for link in links.items if isinstance(links, Seq) else ():
            name, colon, alias = text(link).partition(":")
            if colon and name == service and draft.roles.get(other) != "lost":
                yield alias, link
