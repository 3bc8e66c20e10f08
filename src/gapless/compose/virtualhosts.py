"""Balancers that ask containers who they are: nginx-proxy by variables, Caddy by labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gapless.compose import caddyfile, ports, stores
from gapless.compose.draft import Draft, Told
from gapless.compose.forms import text
from gapless.compose.front import Front
from gapless.compose.tree import Map, Node, Seq

IMAGES = frozenset(
    {"nginx-proxy", "acme-companion", "letsencrypt-nginx-proxy-companion", "caddy-docker-proxy"}
)  # fmt: skip
_OF_CERTIFICATES = frozenset({"LETSENCRYPT_EMAIL", "LETSENCRYPT_TEST", "ACME_CA_URI"})
_LABEL = re.compile(r"caddy(?:_([0-9]+))?(?:\.(.+))?")
_UPSTREAMS = re.compile(r"(?:(\S+)\s+)?\{\{\s*upstreams(?:\s+http)?(?:\s+([0-9]{1,5}))?\s*\}\}")
_NUMBERED = re.compile(r"_?[0-9]+_?")


def balances(draft: Draft, name: str) -> bool:
    """Whether a service is such a balancer, or gets certificates for one."""
    return stores.image(draft, name)[1] in IMAGES and "build" not in draft.items(name)


def replace(draft: Draft, name: str, front: Front) -> None:
    """Such a balancer goes: the edge does what it did. Files of its own are not read."""
    draft.roles[name] = "edge"
    front.services.append(name)
    items = draft.items(name)
    volumes = items.get("volumes")
    for item in volumes.items if isinstance(volumes, Seq) else ():
        kind = text(item.items.get("type")) if isinstance(item, Map) else ""
        place = text(item.items.get("target")) if isinstance(item, Map) else ""
        if kind == "bind" and place.startswith(("/etc/nginx/conf.d/", "/etc/nginx/vhost.d")):
            draft.ledger.refused(item, "the rules of its file are not read: say [edge] and route")
    for key, node in items.items():
        if key not in ("ports", "labels"):
            draft.ledger.rest(node, "emulated", "the edge is there instead")


def read(draft: Draft, front: Front) -> list[str]:
    """Put what services say of themselves into the front; which ones said something."""
    found = []
    for name in draft.project.services:
        told = draft.told[name]
        if "VIRTUAL_HOST" in told and told["VIRTUAL_HOST"].text:
            _variables(draft, name, front, told)
            found.append(name)
        sites = _sites(draft, name)
        for labels in sites.values():
            _labels(draft, name, front, labels)
        if sites:
            found.append(name)
    return found


def _variables(draft: Draft, name: str, front: Front, told: dict[str, Told]) -> None:
    """``VIRTUAL_HOST`` and what belongs to it."""
    ledger = draft.ledger

    def word(variable: str) -> str:
        return (told[variable].text or "").strip() if variable in told else ""

    if word("VIRTUAL_PROTO") not in ("", "http") or word("VIRTUAL_DEST"):
        for variable in ("VIRTUAL_PROTO", "VIRTUAL_DEST"):
            if word(variable) not in ("", "http"):
                ledger.refused(told[variable].node, "requests are passed on as they are, by HTTP")
    port = word("VIRTUAL_PORT")
    if port.isdigit() and 0 < int(port) < 65536:
        front.ports[name] = int(port)
        ledger.kept(told["VIRTUAL_PORT"].node, f"port = {int(port)}")
    elif ports.http(draft, name) is None:
        front.ports[name] = 80
        said = "port 80, since none is named: say VIRTUAL_PORT"
        ledger.emulated(told["VIRTUAL_HOST"].node, said)
    hosts = [host.strip() for host in word("VIRTUAL_HOST").split(",") if host.strip()]
    front.put(draft, name, hosts, [word("VIRTUAL_PATH") or "/"], told["VIRTUAL_HOST"].node)
    if word("LETSENCRYPT_HOST"):
        front.tls = True
        ledger.kept(told["LETSENCRYPT_HOST"].node, "the edge gets and renews certificates")
    for variable in _OF_CERTIFICATES & set(told):
        ledger.emulated(told[variable].node, "the account is gapless's own: [edge] acme")


def _sites(draft: Draft, name: str) -> dict[str, dict[str, Node]]:
    """Labels for Caddy by the number of their site: what is behind ``caddy.`` to its value."""
    found: dict[str, dict[str, Node]] = {}
    for key, node in pairs(draft, name):
        if match := _LABEL.fullmatch(key):
            found.setdefault(match[1] or "", {})[match[2] or ""] = node
    return found


def pairs(draft: Draft, name: str) -> Iterator[tuple[str, Node]]:
    """Labels of its containers, and of the service itself, where a swarm looks."""
    items = draft.items(name)
    deploy = items.get("deploy")
    of_service = deploy.items.get("labels") if isinstance(deploy, Map) else None
    for table in (items.get("labels"), of_service):
        yield from table.items.items() if isinstance(table, Map) else ()


def _labels(draft: Draft, name: str, front: Front, labels: dict[str, Node]) -> None:
    """One site: ``caddy: HOST`` and ``caddy.reverse_proxy: {{upstreams PORT}}``."""
    ledger = draft.ledger
    words = draft.value(labels[""], "labels").replace(",", " ").split() if "" in labels else []
    hosts = caddyfile.named([word.removeprefix("http://") for word in words])
    paths: list[str] = []
    passed = False
    for key, node in labels.items():
        value = draft.value(node, "labels").strip()
        plain = _NUMBERED.sub("", key)
        found = _UPSTREAMS.fullmatch(value)
        if plain in ("reverse_proxy", "handle.reverse_proxy") and found is not None:
            path = caddyfile.below([found[1]] if found[1] else [])
            if path is None:
                ledger.refused(node, 'a route is a path and all below it: say "/api/*"')
                continue
            passed = True
            paths += [path] if path != "/" else []
            if found[2]:
                front.ports[name] = int(found[2])
            ledger.kept(node, f"port = {found[2]}" if found[2] else "")
        elif plain == "handle" and (path := caddyfile.below(value.split())) is not None:
            paths += [path] if path != "/" else []
            ledger.kept(node)
        elif plain and caddyfile.same([plain, *value.split()]):
            ledger.kept(node, "the edge does so by itself")
        elif plain:
            ledger.refused(node, "the edge has no such rule: see [edge] and route")
    site = labels.get("")
    if site is None or hosts is None or not passed:
        ledger.refused(site, "a site is a name and what it is passed on to: say route")
        return
    front.tls |= any(not word.startswith("http://") for word in words if hosts)
    front.put(draft, name, hosts, paths or ["/"], site)
