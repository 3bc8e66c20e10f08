"""A Compose project as a stack file, and a report of what became of each of its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gapless.compose import (
    booting,
    fates,
    hidden,
    ports,
    proxies,
    services,
    shapes,
    stores,
    volumes,
)
from gapless.compose import draft as drafts
from gapless.compose.draft import Draft, Secret
from gapless.compose.forms import rebased, text
from gapless.compose.front import Front, Place
from gapless.compose.ledger import Ledger, Line
from gapless.compose.project import Project, Reader
from gapless.compose.tree import Map, Node, Scalar, Seq, scalars
from gapless.stackfile import init, write


@dataclass(frozen=True, slots=True)
class Imported:
    """``text``: the stack file; "" where no service is left to write. ``secrets``: those that it
    asks for, with the place of each value. ``warned``: what is worth a look. ``files``: what has to
    lie beside it, by its path in the source folder.
    """

    text: str
    lines: tuple[Line, ...]
    secrets: tuple[Secret, ...]
    warned: tuple[str, ...]
    files: Mapping[str, str]


def convert(project: Project, read: Reader, folder: str) -> Imported:
    """The stack file of a project. ``folder``: the name of its folder.

    Raises InvalidStack with the place of a value that cannot be read.
    """
    draft = Draft(project, Ledger(), read)
    drafts.naming(draft)
    _mounted(draft)
    drafts.tell(draft)
    front = proxies.find(draft)
    _roles(draft)
    known = stores.recognise(draft)
    for name in project.services:
        if draft.roles[name] == "service":
            port = ports.http(draft, name, front.ports.get(name))
            if port is not None:
                draft.ports[name] = port
    draft.tree = _tree(draft, front, known, folder)
    _rest(draft)
    lines = draft.ledger.lines(project)
    asked = draft.tree.get("secrets", [])
    secrets = tuple(draft.secrets[name] for name in asked)
    notes = ["Made by gapless import of " + ", ".join(sorted(project.documents)) + "."]
    made = write.document(draft.tree, notes) if draft.tree.get("service") else ""
    return Imported(made, tuple(lines), secrets, tuple(draft.warned), draft.written)


def _mounted(draft: Draft) -> None:
    """Secrets of the Compose file, by the names that they have here."""
    for name, node in draft.project.resources.get("secrets", {}).items():
        table = node.items if isinstance(node, Map) else {}
        wanted = re.sub(r"[^A-Za-z0-9]+", "_", name).upper().strip("_") or "SECRET"
        wanted = wanted if wanted[0].isalpha() else f"S_{wanted}"
        file = rebased(text(table.get("file")), draft.project.folders.get(f"secrets.{name}", ""))
        variable = text(table.get("environment"))
        place = file or draft.project.known.get(variable, variable)
        held = draft.secret(wanted, f"compose:{name}", place)
        draft.mounted[name] = held
        draft.ledger.rest(node, "kept", f"the secret {held}: gapless secret set {held}")


def _roles(draft: Draft) -> None:
    for name in draft.project.services:
        if name in draft.roles:
            continue
        if not services.startable(draft, name):
            draft.roles[name] = "lost"
        else:
            draft.roles[name] = "job" if _ends(draft, name) else "service"


def _ends(draft: Draft, name: str) -> bool:
    """Whether it runs to an end: somebody waits for that, nothing starts it again, or it does no
    more than hold volumes for others (``true``)."""
    command = draft.items(name).get("command")
    if command is not None and [one.text for one in scalars(command)] in (["true"], ["/bin/true"]):
        return True
    for other in draft.project.services:
        after = draft.items(other).get("depends_on")
        mine = after.items.get(name) if isinstance(after, Map) else None
        condition = text(mine.items.get("condition")) if isinstance(mine, Map) else ""
        if condition == "service_completed_successfully":
            return True
    if ports.of(draft, name):
        return False
    deploy = draft.items(name).get("deploy")
    policy = deploy.items.get("restart_policy") if isinstance(deploy, Map) else None
    once = text(policy.items.get("condition")) == "none" if isinstance(policy, Map) else False
    mode = text(deploy.items.get("mode")) if isinstance(deploy, Map) else ""
    restart = draft.items(name).get("restart")
    return (
        once or mode.endswith("-job") or (restart is not None and text(restart) in ("no", "false"))
    )


def _tree(
    draft: Draft, front: Front, known: Mapping[str, stores.Store], folder: str
) -> dict[str, Any]:
    made = _tables(draft, known)
    edge, domains = _published(draft, front, made["service"])
    tree: dict[str, Any] = {"gapless": 1, "name": _name(draft, folder)}
    if domains:
        tree["domains"] = domains
    if secrets := _shared_secrets(made):
        tree["secrets"] = secrets
    written = (draft.names[name] for name in booting.order(draft))
    made["service"] = {
        name: {key: table[key] for key in _SERVICE if key in table}
        for name in written
        if (table := made["service"].get(name)) is not None
    }
    tree |= {kind: tables for kind, tables in made.items() if tables}
    if edge:
        tree["edge"] = edge
    return tree


def _tables(draft: Draft, known: Mapping[str, stores.Store]) -> dict[str, dict[str, Any]]:
    """Services, jobs and stores, by kind and name."""
    made: dict[str, dict[str, Any]] = {"service": {}, "job": {}, "data": {}}
    for name, role in draft.roles.items():
        written = draft.names[name]
        if role in ("service", "job"):
            made[role][written] = services.table(draft, name, known)
        elif role == "data":
            made["data"][written] = stores.table(draft, known[name])
        elif role == "lost":
            services.lost(draft, name)
        elif role == "edge" and (labels := draft.items(name).get("labels")) is not None:
            draft.ledger.rest(labels, "emulated", fates.OWN)
    values = hidden.values(draft, known)
    for name, role in draft.roles.items():
        if role in ("service", "job"):
            hidden.clear(draft, name, made[role][draft.names[name]], values)
    for name, role in draft.roles.items():
        if role == "job":
            made["job"][draft.names[name]] = _job(draft, name, made["job"][draft.names[name]])
    for store in draft.files.values():
        made["data"][store] = {"type": "files"}
    return made


def _name(draft: Draft, folder: str) -> str:
    node = draft.project.rest.get("name")
    said = draft.value(node, "name") if node is not None else ""
    name = init.stack_name(said or folder)
    if node is not None:
        draft.ledger.say(node, "kept" if name == said else "emulated", f"name = {name}")
    return name


_SECRET = re.compile(r"\$\{secret\.(\w+)\}")


def _shared_secrets(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The secrets of all; who is told each of them need not say so. A file is not told of."""
    tables = [table for kind in ("service", "job") for table in made[kind].values()]
    seen = {name for table in tables for name in table["secrets"]}
    sources = (source for table in tables for source in table.get("volumes", {}).values())
    files = {match[1] for source in sources if (match := _SECRET.fullmatch(str(source)))}
    found = sorted(seen | files)
    for table in tables:
        if sorted(table["secrets"]) == found:
            del table["secrets"]
        else:
            table["secrets"] = sorted(table["secrets"])
    return found


_SERVICE = (
    "image", "build", "entrypoint", "run", "port", "route", "private", "sticky", "replicas",
    "singleton", "ready", "start", "drain", "grace", "signal", "watch", "surge", "reserve",
    "limits", "user", "cwd", "aliases", "hosts", "volumes", "env", "secrets",
)  # fmt: skip
_JOB = (
    "image", "build", "run", "entrypoint", "when", "user", "cwd", "hosts", "volumes", "env",
    "secrets",
)  # fmt: skip


def _job(draft: Draft, name: str, table: dict[str, Any]) -> dict[str, Any]:
    table["when"] = "after-release" if services.late(draft, name) else "release"
    for port in ports.of(draft, name):
        draft.ledger.refused(port.node, "a job has no address")
    return {key: table[key] for key in _JOB if key in table}


def _published(
    draft: Draft, front: Front, tables: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """(the edge's table, domains); routes and ports go into the services' tables."""
    http = [name for name in draft.project.services if name in draft.ports]
    listen, public = proxies.listens(draft, front)
    main = None if front.services else _main(draft, http)
    edge: dict[str, Any] = {}
    domains = _domains(front)
    if main is not None:
        first = _first(draft, main)
        listen = proxies.address(first) if first is not None and first.published else None
    if listen is not None and not (domains and listen == "*:80"):
        edge["listen"] = listen
    taken: set[tuple[str | None, str]] = set()
    where = listen or "127.0.0.1:8080"
    for name in http:
        table = tables[draft.names[name]]
        place = _place(draft, front, name, main, taken)
        _route(table, draft.ports[name], place, alone=len(http) == 1)
        if name in front.sticky:
            table["sticky"] = "cookie"
        if name in front.ready:
            table.setdefault("ready", front.ready[name])
        at = where if place is None or place.host is None else f"{where}, host {place.host}"
        if place is not None and name not in front.places and _near(draft, name, where):
            table["private"] = {"allow": list(ports.MACHINE)}
            at += ", for this machine alone"
        ports.tell(draft, name, draft.ports[name], at if place else "")
    for name, role in draft.roles.items():
        if role == "service" and name not in draft.ports:
            ports.tell(draft, name, None, "")
    for name in front.places:
        if name not in draft.ports:
            proxies.unreached(draft, name)
    for port in public:
        _edge_port(draft, port, listen, secure=bool(domains))
    return edge, domains


def _domains(front: Front) -> list[str]:
    """The names that certificates are got for; where there is one, routes need not repeat it."""
    if not front.tls:
        return []
    hosts = [p.host for places in front.places.values() for p in places[:1] if p.host]
    found = list(dict.fromkeys(h for h in (*front.domains, *hosts) if _domain(h)))
    if len(found) == 1:
        for name, places in front.places.items():
            front.places[name] = [
                Place(None, place.path) if place.host == found[0] else place for place in places
            ]
    return found


def _main(draft: Draft, http: list[str]) -> str | None:
    """The service that people find at the edge's own address: port 80, or the first one, and not
    what only looks into others.
    """
    published = [name for name in http if _first(draft, name) is not None]
    order = {80: 0, 443: 1, 8080: 2}

    def rank(name: str) -> tuple[bool, bool, int]:
        first = _first(draft, name)
        return stores.aside(draft, name), ports.local(first), order.get(_number(first), 3)

    return min(published, key=rank, default=None)


def _near(draft: Draft, name: str, listen: str) -> bool:
    """Whether it was published to this machine alone, and the edge listens to others too."""
    host = listen.rpartition(":")[0].strip("[]")
    return ports.local(_first(draft, name)) and host not in ports.LOOPBACK


def _number(port: ports.Port | None) -> int:
    return port.published or 0 if port is not None else 0


def _first(draft: Draft, name: str) -> ports.Port | None:
    """The published port behind which a service speaks HTTP."""
    found = ports.of(draft, name)
    return next(
        (p for p in found if p.published is not None and p.target == draft.ports[name]), None
    )


def _place(
    draft: Draft,
    front: Front,
    name: str,
    main: str | None,
    taken: set[tuple[str | None, str]],
) -> Place | None:
    """Where a service is published; None: it is private."""
    said = front.places.get(name)
    place: Place | None = None
    if said:
        place = said[0]
    elif name == main:
        place = Place(None)
    elif _first(draft, name) is not None or (
        name in front.ports and name not in front.closed and front.places == {}
    ):
        place = Place(f"{draft.names[name]}.localhost")
    if place is not None and (place.host, place.path.rstrip("/") or "/") in taken:
        place = Place(f"{draft.names[name]}.localhost")
    if place is not None:
        taken.add((place.host, place.path.rstrip("/") or "/"))
    return place


def _route(table: dict[str, Any], port: int, place: Place | None, *, alone: bool) -> None:
    table["port"] = port
    if place is None:
        table["route"] = False
    elif place.host is not None:
        table["route"] = {"host": place.host, "path": place.path}
    elif place.path != "/" or not alone:
        table["route"] = place.path


def _domain(host: str) -> bool:
    """Whether an authority would certify it."""
    return "." in host and not host.endswith(".localhost") and not re.fullmatch(r"[0-9.]+", host)


def _edge_port(draft: Draft, port: ports.Port, listen: str | None, *, secure: bool) -> None:
    if port.protocol == "udp":
        draft.ledger.emulated(port.node, "the edge speaks no HTTP/3: clients come by HTTP/2")
    elif listen is not None and listen == proxies.address(port):
        draft.ledger.kept(port.node, f"[edge] listen = {listen}")
    elif port.published in (443, 8443):
        said = "tls_listen" if secure else "the edge speaks TLS once domains or [edge] tls say so"
        draft.ledger.say(port.node, "kept" if secure else "refused", said)
    else:
        draft.ledger.emulated(port.node, "no page of its own there: gapless ps, top, logs edge")


def _rest(draft: Draft) -> None:
    """What becomes of the other keys of the root."""
    ledger = draft.ledger
    volumes.resources(draft)
    for key, node in draft.project.rest.items():
        if key == "version":
            ledger.rest(node, "kept", "says nothing any more")
        elif key.startswith("x-"):
            ledger.rest(node, "emulated", "what refers to it is written out")
        elif key == "include":
            ledger.rest(node, "kept", "what is included is written out")
        elif _nothing(node):
            ledger.rest(node, "kept", "says nothing")
    for name, node in draft.project.services.items():
        for key, inner in node.items.items():
            if key in shapes.SERVICE and _nothing(inner):
                ledger.rest(inner, "kept", "says nothing")
        for leaf in node.leaves:
            ledger.rest(Scalar("", "null", (leaf,)), "kept", f"[service.{draft.names[name]}]")


def _nothing(node: Node) -> bool:
    if isinstance(node, Map | Seq):
        return not node.items
    return isinstance(node, Scalar) and node.kind == "null"
