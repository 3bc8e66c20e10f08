"""Balancers of a Compose file that the edge replaces, and what their labels and files say."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterator

from gapless.compose import (
    caddyfile,
    haproxycfg,
    nginxconf,
    ports,
    stores,
    traefikfile,
    virtualhosts,
)
from gapless.compose.draft import Draft
from gapless.compose.forms import rebased, text
from gapless.compose.front import Front, Place, Rule
from gapless.compose.tree import Map, Node, Seq, scalars

KINDS = ("traefik", "nginx", "haproxy", "caddy")
_LABEL = re.compile(r"traefik\.http\.(routers|services)\.([^.]+)\.(.+)", re.IGNORECASE)
_FIRST = {
    "traefik.port": ("services", "", "loadbalancer.server.port"),
    "traefik.frontend.rule": ("routers", "", "rule"),
    "traefik.frontend.entrypoints": ("routers", "", "entrypoints"),
    "traefik.frontend.priority": ("routers", "", "priority"),
    "traefik.backend": ("routers", "", "service"),
}
"""Labels of Traefik 1, as those of later versions."""
_OLD_RULE = re.compile(r"(Host|PathPrefix|Path):([^;]+)", re.IGNORECASE)
_OURS = frozenset(
    {"traefik.enable", "traefik.docker.network", "traefik.docker.lbswarm", "traefik.swarm.network",
     "traefik.swarm.lbswarm", "traefik.tags", "traefik.constraint-label"}
)  # fmt: skip


def find(draft: Draft) -> Front:
    """The balancers of a project; ``draft.roles`` says which services the edge replaces."""
    front = Front()
    for name in draft.project.services:
        kind = _kind(draft, name)
        if kind == "traefik":
            _traefik(draft, name, front)
        elif kind in ("nginx", "caddy", "haproxy"):
            _written(draft, name, kind, front)
        elif virtualhosts.balances(draft, name):
            virtualhosts.replace(draft, name, front)
    labelled = [name for name in draft.project.services if _labels(draft, name)]
    front.closed = {name for name in labelled if _closed(draft, name)}
    if set(labelled) - front.closed and not front.services:
        # The balancer is in a file that was not named; what its labels say is known all the same.
        draft.warned.append("labels for traefik are read, although no traefik is in these files")
    others = list(front.services)
    if virtualhosts.read(draft, front) and not others:
        said = "read what services say of themselves, although no proxy is in these files"
        draft.warned.append(said)
    for name in labelled:
        _read_labels(draft, name, front)
    return front


def _kind(draft: Draft, name: str) -> str | None:
    return None if stores.stays(draft, name) else kind_of(text(draft.items(name).get("image")))


def kind_of(named: str) -> str | None:
    """The kind of balancer that an image is of; None: of none that the edge could replace."""
    root, base, _ = stores.parts(named)
    if base in KINDS and root in ("", "library", "bitnami", "nginxinc", "haproxytech"):
        return base
    return "nginx" if base in ("nginx-unprivileged",) else None


def _traefik(draft: Draft, name: str, front: Front) -> None:
    draft.roles[name] = "edge"
    front.services.append(name)
    items = draft.items(name)
    words = " ".join(_words(items.get("command")))
    front.tls |= ".acme." in words or "--acme" in words
    front.redirected |= "redirections" in words
    _ruled(draft, name, front)
    for key, node in items.items():
        if key not in ("ports", "labels"):
            draft.ledger.rest(node, "emulated", "the edge is there instead of traefik")


_FILE = re.compile(
    r"(?:--(?:providers\.)?file\.|TRAEFIK_PROVIDERS_FILE_)(filename|directory)", re.I
)
"""The flag, or variable, by which Traefik is told of files with rules."""
_ITS_OWN = re.compile(r"(/etc)?/traefik(/[^/]+\.(ya?ml|toml))?|/[^/]+\.(ya?ml|toml)")
"""Where Traefik looks for its own file."""


def _ruled(draft: Draft, name: str, front: Front) -> None:
    """Put the rules of mounted files into the front, or refuse these and what names them."""
    named = list(_named(draft, name))
    involved, places = [node for _, node in named], [place for place, _ in named]
    mounted = list(mounts(draft, name))
    contents: list[str | None] = []
    for item, target, content in mounted:
        found = traefikfile.own(content or "") if _ITS_OWN.fullmatch(target) else None
        if found is not None:
            involved.append(item)
            places += found[0]
            front.tls |= found[1]
    for item, target, content in mounted:
        mine = bool(_ITS_OWN.fullmatch(target)) or any(_within(place, target) for place in places)
        if mine and item not in involved:
            involved.append(item)
            contents.append(content if content is not None else _within_folder(draft, item, places))
    read = [traefikfile.rules(content or "") for content in contents]
    rules = [rule for found in read for rule in found or ()]
    covered = all(any(_within(place, target) for _, target, _ in mounted) for place in places)
    known = set(draft.project.services)
    good = covered and None not in read and (not rules or _settled(front, rules, known))
    for node in involved:
        if good:
            draft.ledger.kept(node, "its rules are routes of the services now")
        else:
            draft.ledger.refused(node, _UNREAD)


def _within_folder(draft: Draft, item: Map, places: list[str]) -> str | None:
    """The rules in a mounted folder: the file that is named, or the only one. None: of several."""
    source = posixpath.normpath(draft.value(item.items.get("source"), "volumes"))
    target = text(item.items.get("target")).rstrip("/")
    if text(item.items.get("type")) != "bind":
        return None
    below = [place[len(target) :] for place in places if place.startswith(f"{target}/")]
    forms = below or ["/*.yml", "/*.yaml", "/*.toml"]
    found = [content for form in forms if (content := draft.look(source + form)) is not None]
    return found[0] if len(found) == 1 else None


def _named(draft: Draft, name: str) -> Iterator[tuple[str, Node | None]]:
    """Places of files with rules, and what names each."""
    command = draft.items(name).get("command")
    for one in scalars(command) if command is not None else ():
        for word, after in itertools.pairwise([*stores.split(one.text), ""]):
            flag, equals, value = word.partition("=")
            if _FILE.fullmatch(flag):
                yield (value if equals else after), one
    for told in draft.told[name].values():
        if _FILE.fullmatch(told.name):
            yield told.text or "", told.node


_UNREAD = "the rules of its file are not understood: say route, or labels, and [edge]"


def _within(one: str, other: str) -> bool:
    """Whether one of two places holds the other."""
    a, b = (posixpath.normpath(place) + "/" for place in (one, other))
    return bool(one and other) and (a.startswith(b) or b.startswith(a))


def _words(node: Node | None) -> list[str]:
    if isinstance(node, Seq):
        return [text(item) for item in node.items]
    return stores.split(text(node))


def _labels(draft: Draft, name: str) -> list[tuple[str, str, str, Node]]:
    """(routers or services, its name, the rest, the node) of each label for traefik."""
    found = []
    for key, node in virtualhosts.pairs(draft, name):
        match = _LABEL.fullmatch(key)
        if match:
            found.append((match[1].lower(), match[2], match[3].lower(), node))
        elif key.lower() in _FIRST:
            found.append((*_FIRST[key.lower()], node))
    return found


def _closed(draft: Draft, name: str) -> bool:
    return any(
        key.lower() == "traefik.enable" and text(node).strip().lower() == "false"
        for key, node in virtualhosts.pairs(draft, name)
    )


def _read_labels(draft: Draft, name: str, front: Front) -> None:
    ledger = draft.ledger
    for kind, _, rest, node in _labels(draft, name):
        value = draft.value(node, "labels")
        if kind == "services" and rest == "loadbalancer.server.port" and value.isdigit():
            if 0 < int(value) < 65536:
                front.ports[name] = int(value)
                ledger.kept(node, f"port = {int(value)}")
        elif name in front.closed:
            ledger.kept(node, "traefik is told to leave it alone")
        elif kind == "routers" and rest == "rule":
            _rule(draft, name, value, node, front)
        elif rest.startswith("tls"):
            front.tls |= rest != "tls" or value.lower() == "true"
            ledger.kept(node, "the edge gets and renews certificates")
        elif rest.startswith("loadbalancer.sticky"):
            front.sticky.add(name)
            ledger.kept(node, 'sticky = "cookie"')
        elif rest == "loadbalancer.healthcheck.path" and value.startswith("/"):
            front.ready[name] = value
            ledger.emulated(node, f"ready = {value}, where no health check says so")
        elif rest.startswith("loadbalancer.healthcheck."):
            ledger.emulated(node, "gapless asks in its own time: say ready")
        elif rest in ("entrypoints", "service", "priority"):
            ledger.emulated(node, "the edge listens at one address, and longer paths come first")
    _others(draft, name)


def unreached(draft: Draft, name: str) -> None:
    """Refuse the rules of a service of which no port is known: Traefik asks the image for it."""
    for kind, _, rest, node in _labels(draft, name):
        if kind == "routers" and rest == "rule":
            draft.ledger.refused(node, "no port is named to pass it on to: say expose")


def _others(draft: Draft, name: str) -> None:
    for key, node in virtualhosts.pairs(draft, name):
        if key.lower() in _OURS:
            draft.ledger.rest(node, "kept", "the edge is there instead of traefik")
        elif key.lower().startswith("traefik."):
            draft.ledger.rest(node, "refused", "the edge has no such rule: see [edge] and route")


def _modern(rule: str) -> str:
    """A rule of Traefik 1 (``Host:a,b;PathPrefix:/x``) as later versions say it."""
    parts = [_OLD_RULE.fullmatch(part.strip()) for part in rule.split(";")]
    if None in parts:
        return rule
    return " && ".join(
        f"{one[1]}({','.join(f'`{word.strip()}`' for word in one[2].split(','))})"
        for one in parts if one is not None
    )  # fmt: skip


def _rule(draft: Draft, name: str, rule: str, node: Node, front: Front) -> None:
    found = traefikfile.matched(_modern(rule))
    if found is None:
        draft.ledger.refused(node, "a route is a host and a path: say route")
    else:
        front.put(draft, name, found[0], found[1], node, exact=found[2])


def _written(draft: Draft, name: str, kind: str, front: Front) -> None:
    """nginx and its like: replaced where each rule of their file is understood."""
    files = list(_files(draft, name, kind))
    if "build" in draft.items(name) or not files or any(content is None for _, content in files):
        if kind != "nginx" or files:
            draft.warned.append(
                f"{name} is {kind}, and stays: its configuration is not here to be read"
            )
        return
    read = [_READERS[kind](content or "") for _, content in files]
    rules = [rule for found in read for rule in found or ()]
    known = set(draft.project.services)
    if None in read or not rules or not _settled(front, rules, known):
        draft.warned.append(f"{name} is {kind}, and stays: it does more than pass requests on")
        return
    draft.roles[name] = "edge"
    front.services.append(name)
    # Caddy gets certificates by itself for every name that it is told.
    front.tls |= kind == "caddy" and any(rule.hosts for rule in rules)
    for key, node in draft.items(name).items():
        if key not in ("ports", "volumes"):
            draft.ledger.rest(node, "emulated", f"the edge is there instead of {kind}")
    for node, _ in files:
        draft.ledger.kept(node, "its rules are routes of the services now")
    if (volumes := draft.items(name).get("volumes")) is not None:
        draft.ledger.rest(volumes, "emulated", f"the edge is there instead of {kind}")


_READERS = {"nginx": nginxconf.read, "caddy": caddyfile.read, "haproxy": haproxycfg.read}


def _settled(front: Front, rules: list[Rule], known: set[str]) -> bool:
    """Put rules into the front; False, and nothing is put, where routes cannot say the same.

    A service has one route: the rule of it that the others lie below. What each rule passes on
    must then reach its service by the longest path, as it does there.
    """
    first: dict[str, Rule] = {}
    for rule in sorted(rules, key=lambda rule: len(rule.path)):
        held = first.setdefault(rule.service, rule)
        if rule.service not in known or (held.hosts, held.port) != (rule.hosts, rule.port):
            return False
    for rule in rules:
        found = [
            one
            for one in first.values()
            if (len(one.hosts) != 1 or one.hosts[0] in rule.hosts)
            and f"{rule.path.rstrip('/')}/".startswith(f"{one.path.rstrip('/')}/")
        ]
        longest = max((len(one.path.rstrip("/")) for one in found), default=0)
        named = [one for one in found if len(one.path.rstrip("/")) == longest]
        named = [one for one in named if len(one.hosts) == 1] or named
        if [one.service for one in named] != [rule.service]:
            return False
    front.sticky |= {rule.service for rule in rules if rule.sticky}
    for service, rule in first.items():
        front.ports.setdefault(service, rule.port)
        host = rule.hosts[0] if len(rule.hosts) == 1 else None
        front.places.setdefault(service, []).append(Place(host, rule.path))
        if host is None:
            front.domains += [one for one in rule.hosts if one not in front.domains]
    return True


_CONFIGS = {
    "nginx": ("/etc/nginx/nginx.conf", "/etc/nginx/conf.d", "/etc/nginx/templates"),
    "caddy": ("/etc/caddy",),
    "haproxy": ("/usr/local/etc/haproxy", "/etc/haproxy"),
}


def _files(draft: Draft, name: str, kind: str) -> Iterator[tuple[Node, str | None]]:
    """The mounted configuration files, with their texts where these can be read."""
    for item, target, content in mounts(draft, name):
        if any(target.startswith(known) for known in _CONFIGS[kind]):
            yield item, content


def mounts(draft: Draft, name: str) -> Iterator[tuple[Map, str, str | None]]:
    """(node, place, text where it can be read) of what a service finds at a place."""
    volumes, configs = (draft.items(name).get(key) for key in ("volumes", "configs"))
    for item in volumes.items if isinstance(volumes, Seq) else []:
        if isinstance(item, Map):
            path = draft.value(item.items.get("source"), "volumes")
            bound = text(item.items.get("type")) == "bind" and path
            target = text(item.items.get("target")).rstrip("/")
            content = draft.look(posixpath.normpath(path)) if bound else None
            if bound and content is None and target in _FOLDERS:
                content = draft.look(f"{posixpath.normpath(path)}/{_FOLDERS[target]}")
            yield item, target, content
    for item in configs.items if isinstance(configs, Seq) else []:
        source = text(item.items.get("source")) if isinstance(item, Map) else ""
        config = draft.project.resources.get("configs", {}).get(source)
        if isinstance(item, Map) and isinstance(config, Map):
            base = draft.project.folders.get(f"configs.{source}", "")
            file = rebased(text(config.items.get("file")), base)
            content = text(config.items.get("content"))
            read = content or (draft.look(posixpath.normpath(file)) if file else None)
            yield item, text(item.items.get("target")), read


_FOLDERS = {
    "/etc/nginx/conf.d": "*.conf", "/etc/caddy": "Caddyfile",
    "/etc/haproxy": "haproxy.cfg", "/usr/local/etc/haproxy": "haproxy.cfg",
}  # fmt: skip
"""Folders that are mounted as a whole, and what is read of them, mostly: nginx reads its files one
after the other."""


def listens(draft: Draft, front: Front) -> tuple[str | None, list[ports.Port]]:
    """(address of the edge, the balancers' published ports) where a balancer published some."""
    found = [port for name in front.services for port in ports.of(draft, name)]
    web = [port for port in found if port.published and port.published not in (443, 8443)]
    if not web:
        return None, found
    first = min(web, key=lambda port: (port.target not in (80, 8080), port.published or 0))
    return address(first), found


def address(port: ports.Port) -> str:
    """Where the edge listens for what a port was published for."""
    host = port.host
    where = "*" if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"{where}:{port.published}"
