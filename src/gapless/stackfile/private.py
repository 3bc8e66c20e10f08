"""What is wrong with private pages, taken together with how the edge is reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gapless.model import private
from gapless.stackfile import mentions
from gapless.stackfile.places import Path
from gapless.stackfile.report import Report
from gapless.stackfile.source import Tree


def check(report: Report) -> None:
    """Add every fault. The tree may have other faults."""
    tree = report.layered.tree
    edge = tree.get("edge", {})
    if not isinstance(edge, dict):
        return
    places = edge.get("private")
    places = places if isinstance(places, dict) else {}
    tables: dict[Path, Any] = {("edge", "private", path): one for path, one in places.items()}
    tables |= {
        ("service", name, "private"): table["private"]
        for name, table in mentions.tables(tree, "service")
        if "private" in table
    }
    if _overheard(tree, edge):
        for path, one in tables.items():
            if _login(one):
                report.add(
                    path,
                    "a password would go through the network in clear: say domains or tls, listen "
                    "on 127.0.0.1, or name the proxy that speaks TLS in trusted",
                )
    for path, asked in _drilled(tree):
        place = _nearest(asked, places)
        if place is not None and _login(places[place]):
            report.add(path, f"{asked} is behind the login of {place}: drills do not log in")


def _overheard(tree: Tree, edge: dict[str, Any]) -> bool:
    """Whether clients come by a network, and nobody speaks TLS with them."""
    domains = tree.get("domains")
    listen = edge.get("listen", "*:80" if domains else "127.0.0.1:8080")
    by_tls = edge.get("tls", "auto" if domains else None)
    known = isinstance(listen, str) and not private.is_local(listen)
    return known and not by_tls and not edge.get("trusted")


def _login(table: Any) -> bool:
    return isinstance(table, str) or (isinstance(table, dict) and bool(table.get("login")))


def _drilled(tree: Tree) -> Iterator[tuple[Path, str]]:
    """The paths that drills ask for."""
    drill = tree.get("drill")
    for key in ("get", "post", "slow", "socketio", "websocket"):
        found = drill.get(key) if isinstance(drill, dict) else None
        for at, asked in enumerate(mentions.strings(found)):
            yield ("drill", key, *([at] if isinstance(found, list) else [])), asked


def _nearest(asked: str, places: dict[str, Any]) -> str | None:
    path = asked.partition("?")[0].rstrip("/").lower()
    stems = {place: place.rstrip("/").lower() for place in places}
    above = [at for at, stem in stems.items() if f"{path}/".startswith(f"{stem}/")]
    return max(above, key=len, default=None)
