"""What becomes of each key of the file at another balancer: kept, emulated, refused. Pure.

The table has a line for each key that says something about requests. What it does not know is
refused: a key is never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gapless.targets.balance import Balance

Kind = Literal["kept", "emulated", "refused"]
Target = Literal["nginx", "haproxy"]


@dataclass(frozen=True, slots=True)
class Fate:
    """``kind`` of guarantee, and in ``text`` how, or why not."""

    kind: Kind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. ``key``: as the file says it, or what is always done."""

    key: str
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """The fate of one key where the balancer is there instead of the edge, by target; ``front``:
    where it stands in front of it (``front_nginx``: where that differs). None: the key says
    nothing about requests there.
    """

    haproxy: Fate | None
    nginx: Fate | None
    front: Fate | None
    front_nginx: Fate | None = None


def _kept(text: str = "") -> Fate:
    return Fate("kept", text)


def _emulated(text: str) -> Fate:
    return Fate("emulated", text)


def _refused(text: str) -> Fate:
    return Fate("refused", text)


BEHIND = _kept("by the edge behind it")
OTHERS = Row(None, None, None)
"""Says what runs, and nothing about requests."""
FIXED = _refused("the file names the replicas that there are: nobody adds or removes any")
ITS_OWN = _emulated("with the certificate that --cert names; nobody renews it")
NO_HSTS = _refused("say it in that balancer: what proves that it may be sent is not behind it")
FILES = _refused("the folders are those of releases, which gapless keeps: requests go to services")
SIZED = _emulated("of bodies that say their length; others are not counted")
NO_NGINX = _refused("written for HAProxy alone: nginx counts and waits otherwise")
NOBODY = _emulated("503 at once: the replicas are fixed, and nobody starts others")
ADDRESSES = _kept("addresses; passwords are told below, where there are any")
CLIENTS = _kept("by the edge behind it; clients are what trusted balancers say they are")
UNKNOWN = _refused("gapless render does not know this key yet")

KEYS: dict[str, Row] = {
    "edge.listen": Row(_kept(), _kept(), _kept("it stands behind; --listen says where this does")),
    "domains": Row(_kept(), _kept(), BEHIND),
    "edge.tls_listen": Row(ITS_OWN, ITS_OWN, ITS_OWN),
    "edge.tls": Row(ITS_OWN, ITS_OWN, ITS_OWN),
    "edge.acme": Row(ITS_OWN, ITS_OWN, ITS_OWN),
    "edge.hsts": Row(NO_HSTS, NO_HSTS, NO_HSTS),
    "edge.maintenance_page": Row(
        _kept('on: the line "on" in edge-maintenance.acl, and a reload'),
        _emulated("on: touch maintenance.on in its folder; off: remove it; no reload"),
        BEHIND,
    ),
    "edge.allow": Row(_kept(), _kept(), _emulated("the edge behind sees this balancer's address")),
    "edge.max_connections": Row(
        _kept(),
        _emulated("worker_connections, of each worker: twice as many, and both sides"),
        _kept(),
    ),
    "edge.trusted": Row(_kept(), _kept(), BEHIND),
    "edge.proxy_protocol": Row(
        _kept(),
        _emulated("everybody who connects must speak it, trusted or not"),
        _emulated("spoken to the edge; services are told http, whatever the client speaks"),
        _refused("nginx cannot speak it to an HTTP server: let it say X-Forwarded-For"),
    ),
    "edge.redirects": Row(_kept(), _kept(), BEHIND),
    "edge.headers": Row(_kept(), _kept('but for "Server: nginx", which stays'), BEHIND),
    "edge.compress": Row(_kept(), _kept("answers marked no-transform too"), BEHIND),
    "edge.static": Row(FILES, FILES, BEHIND),
    "edge.shared": Row(
        _emulated("this balancer listens there alone"),
        _kept("sites of several stacks lie side by side in conf.d"),
        BEHIND,
    ),
    "edge.cors": Row(
        _kept(), _kept("but for hosts that are elsewhere: they answer no questions"), BEHIND
    ),
    "edge.private": Row(ADDRESSES, ADDRESSES, CLIENTS),
    "service.NAME.private": Row(ADDRESSES, ADDRESSES, CLIENTS),
    "edge.access_log": Row(
        _kept("to its standard output"), _emulated("nginx's own, in its own format"), BEHIND
    ),
    "edge.rate_limit": Row(
        _kept(),
        _emulated("a leaking bucket; IPv6 by whole addresses, no RateLimit headers on answers"),
        CLIENTS,
    ),
    "edge.connections": Row(
        _kept(),
        _emulated("of those alone that have a request in hand"),
        _refused("of connections the edge behind sees this balancer's alone"),
    ),
    "edge.body": Row(SIZED, _kept(), BEHIND),
    "edge.binary": OTHERS,
    "edge.image": OTHERS,
    "service.NAME.route": Row(_kept(), _kept("paths are compared decoded"), BEHIND),
    "service.NAME.sticky": Row(
        _kept(),
        _emulated(
            "a cookie of nginx's own, hashed: not by load, and some clients move when replicas "
            "come or go. Not ip_hash: of an IPv4 address it takes three octets, so that an "
            "office or a mobile network would be one client"
        ),
        BEHIND,
    ),
    "service.NAME.ready": Row(
        _kept("asked by HTTP; a command is not: there the address must accept"),
        _emulated("not asked: nginx learns from requests that fail (max_fails)"),
        BEHIND,
    ),
    "service.NAME.timeout": Row(_kept(), _kept(), BEHIND),
    "service.NAME.protocol": Row(_kept(), _refused("nginx speaks HTTP/1.1 to services"), BEHIND),
    "service.NAME.tunnel": Row(_kept(), _kept(), BEHIND),
    "service.NAME.body": Row(SIZED, _kept(), BEHIND),
    "service.NAME.concurrency": Row(_kept(), NO_NGINX, BEHIND),
    "service.NAME.queue": Row(_kept(), NO_NGINX, BEHIND),
    "service.NAME.queue_length": Row(_kept(), NO_NGINX, BEHIND),
    "service.NAME.wait": Row(NOBODY, NOBODY, BEHIND),
    "service.NAME.scale": Row(FIXED, FIXED, BEHIND),
}
"""A key stands for all below it."""

ELSEWHERE = (
    "gapless", "name", "overlay", "secrets", "env", "source", "include", "setup", "keep",
    "registries", "job", "data", "drill", "for", "service", "service.NAME",
    *(
        f"service.NAME.{key}"
        for key in (
            "run", "image", "build", "entrypoint", "user", "aliases", "volumes", "hosts",
            "replicas", "singleton", "cwd", "env", "secrets", "port", "live", "start",
            "drain", "goodbye", "grace", "signal", "watch", "surge", "switch", "reserve", "limits",
            "recycle",
        )
    ),
    "edge",
)  # fmt: skip
"""Keys that say nothing about requests, or only hold others; what they hold is looked up first."""
EXACT = frozenset({"service", "service.NAME", "edge"})
"""Of those, the ones that do not stand for what is below them."""


def row(key: str) -> Row | None:
    """The line of the longest known key that ``key`` is or lies below; None: nobody knows it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        known = ".".join(parts[:length])
        if known in KEYS:
            return KEYS[known]
        if known in ELSEWHERE and (known not in EXACT or known == key):
            return OTHERS
    return None


def said(tree: Mapping[str, Any], http: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each key of a file as (the name in the table, as the file has it), tables before their keys.

    ``http``: services of which requests are asked at all.
    """
    published = set(http)
    for key, value in tree.items():
        if key == "service" and isinstance(value, Mapping):
            for name, table in value.items():
                if name in published and isinstance(table, Mapping):
                    yield from (
                        (f"service.NAME.{inner}", f"service.{name}.{inner}") for inner in table
                    )
        elif key == "edge" and isinstance(value, Mapping):
            yield from ((f"edge.{inner}", f"edge.{inner}") for inner in value)
        elif not key.startswith("x-"):
            yield key, key


_NO_WAY = _refused("private: others reach it through the stack's own edge alone")
PRIVATE = Row(_NO_WAY, _NO_WAY, BEHIND)
"""A service without a route."""
ALWAYS: dict[str, Row] = {
    "deploys": Row(
        _emulated("take a replica out before you stop it (set server web/web.1 state maint)"),
        _emulated("mark a replica down and reload before you stop it"),
        BEHIND,
    ),
    "bad answers": Row(
        _kept("a run of them takes a replica out"),
        _emulated(
            "5xx takes no replica out: nginx would also repeat the request, and one broken "
            "route would take every replica out"
        ),
        BEHIND,
    ),
    "second tries": Row(
        _kept(),
        _emulated("nginx also repeats PUT and DELETE where a replica gave no answer"),
        _kept("only where nothing was sent, or the method is safe"),
    ),
    "hostile requests": Row(_kept(), _emulated("what nginx itself refuses, and no more"), BEHIND),
    "websockets": Row(_kept(), _kept(), _kept()),
    "careful headers, compression": Row(
        _kept(), _emulated('"Server: nginx" stays; no-transform is not heeded'), BEHIND
    ),
}
"""What nobody writes into the file because it is so by itself."""
LOCKED: tuple[Kind, str] = (
    "refused",
    "passwords are no part of such files: pages that ask for one let nobody in",
)
CLIENT = Row(*[_kept("X-Forwarded-For and X-Real-IP, never what the client says")] * 3)
STRANGER = _refused(
    "the edge behind believes nothing that this balancer says of clients: say "
    '[edge] trusted = ["127.0.0.1"], or where else it comes from'
)


def report(target: Target, balance: Balance, keys: Iterable[tuple[str, str]]) -> list[Line]:
    """What is kept, emulated and refused of ``keys`` (see ``said``) and of what is always done."""
    found = []
    for name, written in keys:
        known = row(name)
        fate = UNKNOWN if known is None else _fate(known, target, front=balance.front)
        if fate is not None:
            found.append(Line(written, fate.kind, fate.text))
    private = _fate(PRIVATE, target, front=balance.front)
    if private is not None:
        found += [Line(f"service.{name}", private.kind, private.text) for name in balance.private]
    for name, known in ALWAYS.items():
        if (fate := _fate(known, target, front=balance.front)) is not None:
            found.append(Line(name, fate.kind, fate.text))
    if not balance.front and balance.edge.counted.logins:
        found.append(Line("logins", *LOCKED))
    if balance.unsecured:
        found.append(
            Line("TLS", "refused", "the stack speaks it: say --cert (and --key for nginx)")
        )
    client = _fate(CLIENT, target, front=balance.front)
    if balance.front and not balance.trusted:
        client = STRANGER
    if client is not None:
        found.append(Line("client address", client.kind, client.text))
    return found


def _fate(row: Row, target: Target, *, front: bool) -> Fate | None:
    if front:
        return (target == "nginx" and row.front_nginx) or row.front
    return row.nginx if target == "nginx" else row.haproxy
