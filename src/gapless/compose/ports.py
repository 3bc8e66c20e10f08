"""Ports of a Compose file: which one speaks HTTP, and what becomes of the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gapless.compose import stores
from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map, Node, Scalar, Seq, scalars

OTHER = frozenset(
    {21, 22, 23, 25, 53, 67, 110, 123, 143, 389, 465, 514, 587, 636, 993, 995, 1025, 1433, 1521,
     1883, 2181, 2379, 2380, 3306, 33060, 4222, 4317, 5044, 5054, 5432, 5433, 5672, 6379, 6380,
     7687, 8883, 9042, 9092, 9093, 9300, 11211, 25565, 26257, 27017, 29092, 50051, 51820, 61616}
)  # fmt: skip
"""Ports of protocols that are not HTTP."""
SILENT = frozenset(
    {"mysql", "mariadb", "percona", "mongo", "mongodb", "postgres", "postgresql", "postgis",
     "redis", "valkey", "redismod", "redis-stack", "keydb", "memcached", "zookeeper", "kafka",
     "cp-kafka", "cp-zookeeper", "etcd", "cassandra", "scylla", "eclipse-mosquitto", "mosquitto",
     "azure-sql-edge", "mssql-server-linux", "minecraft-server", "timescaledb",
     "dragonfly", "pgbouncer", "pgvector", "wireguard"}
)  # fmt: skip
"""Images that speak no HTTP at any port."""
SECURE = frozenset({443, 8443, 9443})
"""Ports where programs speak TLS themselves: the edge speaks HTTP to them."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
MACHINE = ("127.0.0.0/8", "::1/128")
"""Whom a port is for that is published at one of those."""
RANGE = 100
NONE = 'is no port: say "8080:80", each from 1 to 65535'
_ASKED = re.compile(
    r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s\"'`|;&)>]*)?"
)


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a container. ``published``: at the machine; None: within the stack alone."""

    target: int
    published: int | None
    host: str
    protocol: str
    node: Node


def local(port: Port | None) -> bool:
    """Whether only programs of this machine reach it."""
    return port is not None and port.host in LOOPBACK


def of(draft: Draft, service: str) -> list[Port]:
    """Published ports, then exposed ones."""
    items = draft.items(service)
    found: list[Port] = []
    published, exposed = items.get("ports"), items.get("expose")
    for node in published.items if isinstance(published, Seq) else []:
        found += _published(draft, node)
    for node in exposed.items if isinstance(exposed, Seq) else []:
        number, _, protocol = text(node).partition("/")
        if not _numbers(number):
            draft.ledger.refused(node, NONE)
        found += [Port(one, None, "", protocol or "tcp", node) for one in _numbers(number)]
    return found


def _published(draft: Draft, node: Node) -> Iterator[Port]:
    if not isinstance(node, Map):
        draft.value(node, "ports")
        draft.ledger.refused(node, NONE)
        return
    targets = _numbers(draft.value(node.items.get("target"), "ports"))
    here = _numbers(draft.value(node.items.get("published"), "ports"))
    if _wide(text(node.items.get("target"))):
        draft.ledger.refused(node, "the edge publishes HTTP alone, at one port")
        return
    if not targets or (not here and text(node.items.get("published"))):
        draft.ledger.refused(node, NONE)
        return
    many = len(here) == len(targets)
    if len(here) > 1 and len(targets) > 1 and not many:
        draft.ledger.refused(node, f"{len(here)} ports of the machine for {len(targets)} of it")
        return
    for index, target in enumerate(targets):
        place = here[index] if many else here[0] if here else 0
        yield Port(
            target,
            place,
            text(node.items.get("host_ip")).strip("[]"),
            text(node.items.get("protocol")) or "tcp",
            node,
        )


def _numbers(plain: str) -> list[int]:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", plain.strip())
    if found is None:
        return []
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 < first <= last < 65536 or last - first > RANGE:
        return []
    return list(range(first, last + 1))


def _wide(plain: str) -> bool:
    """Whether it is a range of so many ports that none of them is one of HTTP."""
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", plain.strip())
    return found is not None and RANGE < int(found[2]) - int(found[1]) < 65536


def asked(node: Node | None) -> re.Match[str] | None:
    """The address that a health check asks, where it asks one by HTTP."""
    if node is None:
        return None
    whole = " ".join(scalar.text for scalar in scalars(node))
    return _ASKED.search(whole)


def silent(draft: Draft, service: str) -> bool:
    """Whether its image speaks no HTTP. (Many call theirs "server"; one is Microsoft's SQL.)"""
    root, base, _ = stores.image(draft, service)
    return base in SILENT or (base == "server" and root.endswith("mssql"))


def http(draft: Draft, service: str, said: int | None = None) -> int | None:
    """The port where a service speaks HTTP; None: at none. ``said``: by what stands before it."""
    if said is not None:
        return said
    if silent(draft, service):
        return None
    found = of(draft, service)
    fitting = [one for one in found if one.protocol == "tcp" and one.target not in OTHER]
    check = draft.items(service).get("healthcheck")
    probe = asked(check.items.get("test") if isinstance(check, Map) else None)
    if probe is not None:
        number = int(probe["port"] or 80)
        known = {one.target for one in fitting}
        if number in known or not known:
            return number
    # What is published is asked from outside: browsers, then.
    order = sorted(fitting, key=lambda one: (one.target in SECURE, one.published is None))
    return order[0].target if order else None


def tell(draft: Draft, service: str, chosen: int | None, edge: str) -> None:
    """What becomes of each port. ``edge``: where the chosen one is found now."""
    ledger = draft.ledger
    for one in of(draft, service):
        if one.published is None:
            ledger.kept(one.node, "reached within the stack")
        elif chosen is not None and one.target == chosen:
            if one.published == 0 or f":{one.published}" in edge:
                ledger.kept(one.node, f"at the edge: {edge}")
            else:
                ledger.emulated(one.node, f"at the edge instead: {edge}")
        elif one.target in SECURE and one.protocol == "tcp" and chosen is not None:
            ledger.refused(one.node, "the edge speaks TLS itself: say domains, or [edge] tls")
        elif one.protocol != "tcp" or one.target in OTHER or chosen is None:
            ledger.refused(
                one.node,
                f"the edge publishes HTTP alone: {one.target}/{one.protocol} is not public",
            )
        else:
            ledger.refused(
                one.node, f"a service has one port of HTTP, {chosen}: {one.target} is not public"
            )
    published = draft.items(service).get("ports")
    if isinstance(published, Scalar):
        ledger.refused(published, "must be a list of ports")
