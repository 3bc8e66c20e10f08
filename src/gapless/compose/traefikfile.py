"""What Traefik's own file, and files of rules that it is given, pass on to which service."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gapless.compose import tree
from gapless.compose.forms import text
from gapless.compose.front import Rule
from gapless.compose.tree import Map, Node, Seq
from gapless.errors import GaplessError

_MATCH = re.compile(r"(Host|PathPrefix|Path|HostSNI)\(([^()]*)\)", re.IGNORECASE)
_QUOTED = re.compile(r"[`\"']([^`\"']+)[`\"']")
_URL = re.compile(r"http://([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?/?")
_OWN = frozenset(
    {"accessLog", "api", "certificatesResolvers", "entryPoints", "global", "log", "ping",
     "providers", "metrics"}
)  # fmt: skip
"""Keys of its own file that say what the edge does by itself, or where the rules are."""
_ROUTER = frozenset({"entryPoints", "priority", "rule", "service", "tls"})
_BALANCER = frozenset({"healthCheck", "passHostHeader", "servers", "sticky"})


def matched(rule: str) -> tuple[list[str], list[str], bool] | None:
    """(hosts, paths, whether these are exact) of a rule; None where it is no host and path."""
    kinds: dict[str, list[str]] = {}
    for part in rule.split("&&"):
        found = [(m[1].lower(), _QUOTED.findall(m[2])) for m in _MATCH.finditer(part)]
        kind = found[0][0] if found else ""
        left = re.sub(r"\|\||[()\s]", "", _MATCH.sub("", part))
        if left or kind in kinds or any(other != kind for other, _ in found) or not kind:
            return None
        kinds[kind] = [word for _, words in found for word in words]
    if "hostsni" in kinds or {"path", "pathprefix"} <= set(kinds):
        return None
    paths = kinds.get("path", kinds.get("pathprefix", []))
    return kinds.get("host", []), paths, "path" in kinds


def own(content: str) -> tuple[list[str], bool] | None:
    """(places of rules, whether certificates are got) of its own file; None where it says more."""
    root = _root(content)
    if root is None or set(root.items) - _OWN:
        return None
    places = [text(node) for node in _below(root, "providers", "file").values()]
    return [place for place in places if "/" in place], "certificatesResolvers" in root.items


def rules(content: str) -> list[Rule] | None:
    """The rules of a file; None where it does more, or cannot be read."""
    root = _root(content)
    if root is None or set(root.items) != {"http"}:
        return None
    if set(_below(root, "http")) - {"routers", "services"}:
        return None
    services = {name: _target(node) for name, node in _below(root, "http", "services").items()}
    made: list[Rule] = []
    for router in _below(root, "http", "routers").values():
        found = list(_rules(router, services))
        if None in found or not found:
            return None
        made += [rule for rule in found if rule is not None]
    return made


def _root(content: str) -> Map | None:
    try:
        roots = tree.parse(content, "").roots
    except GaplessError:
        return None
    return roots[0] if len(roots) == 1 and isinstance(roots[0], Map) else None


def _below(node: Node | None, *keys: str) -> dict[str, Node]:
    for key in keys:
        node = node.items.get(key) if isinstance(node, Map) else None
    return dict(node.items) if isinstance(node, Map) else {}


def _rules(
    router: Node, services: dict[str, tuple[str, int, bool] | None]
) -> Iterator[Rule | None]:
    items = _below(router)
    found = matched(text(items.get("rule")))
    target = services.get(text(items.get("service")).removesuffix("@file"))
    if set(items) - _ROUTER or found is None or found[2] or target is None:
        yield None
        return
    hosts = tuple(host.lower() for host in found[0])
    for path in found[1] or ["/"]:
        yield Rule(hosts, path, *target)


def _target(service: Node) -> tuple[str, int, bool] | None:
    """(service, port, whether clients stay where they are); None: of several, or of none here."""
    balancer = _below(service, "loadBalancer")
    servers = balancer.get("servers")
    if set(_below(service)) != {"loadBalancer"} or set(balancer) - _BALANCER:
        return None
    urls = {
        text(one.items.get("url"))
        for one in (servers.items if isinstance(servers, Seq) else ())
        if isinstance(one, Map)
    }
    found = _URL.fullmatch(urls.pop()) if len(urls) == 1 else None
    if found is None or text(balancer.get("passHostHeader")).lower() == "false":
        return None
    return found[1], int(found[2] or 80), "sticky" in balancer
