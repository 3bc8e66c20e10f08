"""The front: one HAProxy in front of several stacks' edges. Its text and its table. Pure.

It tells connections apart by host name and passes each on to the edge of the stack that has the
name, by a Unix socket and with the client's address before it (PROXY protocol). Plain HTTP is
read request by request, since one connection may carry requests for several hosts; of TLS it
reads the name in the first message and opens nothing.

Names stand in a table that is changed while the front runs, and so are the servers: a stack that
comes or goes costs no reload. All servers have weight 0, so none ever gets what was not meant for
it: there is no choice among them, only the one that the table names, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gapless import errors
from gapless.edge import config as conf
from gapless.edge import words
from gapless.model.front import Claim, is_host
from gapless.model.process import Address

STACK = "_front"
"""No stack can be called that: its place beside theirs, and its name in descriptions."""
FORMAT = 3
"""Of the text: a front of an older one is reloaded, one of a newer one is left alone."""
TABLE = "hosts.map"
TEXT = "front.cfg"
LEVELS = 4
"""So many labels may stand before the name of a wildcard (``a.b.c.d.example.com``)."""
PATIENCE = 10
"""Times that it tries to reach an edge, ``_TRY`` apart: one that has died is back by then."""
_TRY = 0.3
SHARE = 0.75
"""Of all connections that one stack may have: what it holds up must not keep out the others."""
WAITING = 100
"""Requests of one stack that may wait for that; more are answered 503 at once."""

Kind = Literal["http", "tls"]
KINDS: tuple[Kind, ...] = ("http", "tls")


@dataclass(frozen=True, slots=True)
class Config:
    """What the text is made of. ``uid``: whom a worker becomes once a master that is root has
    opened the ports; None: it stays who it is. ``ipv6``: whether the machine has it."""

    claims: tuple[Claim, ...]
    run_dir: str
    maxconn: int
    threads: int
    uid: int | None = None
    ipv6: bool = False


def addresses(claims: Iterable[Claim]) -> dict[Kind, tuple[str, ...]]:
    """Where the front listens for these claims, sorted."""
    kept = list(claims)
    return {kind: tuple(sorted({a for c in kept for a in _of(c, kind)})) for kind in KINDS}


def listens(claims: Iterable[Claim]) -> tuple[str, ...]:
    """The same addresses, whatever is spoken there."""
    return tuple(address for each in addresses(claims).values() for address in each)


def digest(claims: Iterable[Claim]) -> str:
    """What the front calls itself: ``FORMAT``, a dot, and a short digest of its addresses."""
    listens = sorted(f"{kind} {a}" for kind, each in addresses(claims).items() for a in each)
    return f"{FORMAT}.{hashlib.sha256(' '.join(listens).encode()).hexdigest()[:12]}"


def current(running: str, wanted: str) -> bool:
    """Whether a front that calls itself ``running`` needs no reload."""
    number, _, listens = running.partition(".")
    newer = number.isdigit() and int(number) >= FORMAT
    return newer and listens == wanted.partition(".")[2]


def conflict(claim: Claim, others: Iterable[Claim]) -> str:
    """Why a stack cannot have what it asks for: ``shop has example.com on *:80``; "": it can."""
    for other in others:
        if other.stack == claim.stack:
            continue
        for kind in KINDS:
            opposite: Kind = "tls" if kind == "http" else "http"
            if both := set(_of(claim, kind)) & set(_of(other, opposite)):
                return f"{other.stack} has {min(both)} for {opposite.upper()}"
            both = set(_of(claim, kind)) & set(_of(other, kind))
            names = set(claim.hosts) & set(other.hosts)
            if both and names:
                return f"{other.stack} has {', '.join(sorted(names))} on {min(both)}"
    return ""


def table(claims: Iterable[Claim]) -> dict[str, str]:
    """Frontend and host name (``http-any:80/example.com``) to server."""
    found = {}
    for claim in claims:
        for kind in KINDS:
            for address in _of(claim, kind):
                for host in claim.hosts:
                    found[f"{name(kind, address)}/{_host(host)}"] = server(claim, kind)
    return found


def lines(entries: Mapping[str, str]) -> str:
    """The table as the file that HAProxy reads."""
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def name(kind: Kind, address: str) -> str:
    """The frontend of an address: ``http-any:80``, ``tls-::1:443``."""
    plain = words.bind(address).replace("*", "any").replace("[", "").replace("]", "")
    return words.identifier(f"{kind}-{plain}")


def server(claim: Claim, kind: Kind) -> str:
    """The server of a stack: its name, and a number that another socket would change."""
    return words.identifier(f"{claim.stack}:{_number(claim, kind):x}", what="stack name")


def owner(server: str) -> str:
    """The stack that a server belongs to."""
    return server.partition(":")[0]


def owners(entries: Mapping[str, str]) -> set[str]:
    """The stacks that a table names."""
    return {owner(server) for server in entries.values()}


def server_words(claim: Claim, kind: Kind, maxconn: int) -> tuple[str, ...]:
    """The keywords of a server, in the text and at run time alike."""
    share = max(1, int(maxconn * SHARE))
    return (
        words.address(Address(socket=_socket(claim, kind))),
        *("id", str(_number(claim, kind))),
        *("weight", "0", "send-proxy-v2"),
        *("maxconn", str(share), "maxqueue", str(WAITING)),
    )


def kinds(claim: Claim) -> tuple[Kind, ...]:
    """What a stack takes: plain HTTP, TLS or both."""
    return tuple(kind for kind in KINDS if _of(claim, kind))


def text(config: Config) -> str:
    """HAProxy's configuration text. Raises UsageError for values that it could misread."""
    blocks = [_global(config), _defaults()]
    listens = addresses(config.claims)
    blocks += [_http(config, address) for address in listens["http"]]
    blocks += [_tls(config, address) for address in listens["tls"]]
    blocks += [_backend(config, kind) for kind in KINDS]
    return "\n\n".join("\n    ".join(block) for block in blocks) + "\n"


def _of(claim: Claim, kind: Kind) -> tuple[str, ...]:
    return claim.http if kind == "http" else claim.tls


def _socket(claim: Claim, kind: Kind) -> str:
    return claim.socket if kind == "http" else claim.tls_socket


def _number(claim: Claim, kind: Kind) -> int:
    return words.server_id(claim.stack, Address(socket=_socket(claim, kind)), None)


def _host(name: str) -> str:
    if not is_host(name):
        raise errors.UsageError(
            f"front: not a host name: {name!r}", hint='say "example.com" or "*.example.com"'
        )
    return name


def _global(config: Config) -> list[str]:
    worker = [] if config.uid is None else [f"uid {int(config.uid)}", f"gid {int(config.uid)}"]
    stats = words.quote(f"{config.run_dir}/{conf.STATS_SOCKET}", what="the run directory")
    return [
        "global",
        f"description 'gapless {STACK} {digest(config.claims)}'",
        *worker,
        f"nbthread {int(config.threads)}",
        f"maxconn {int(config.maxconn)}",
        f"stats socket {stats} mode 600 level admin expose-fd listeners",
        "stats timeout 60s",
        # The table lies beside this text.
        "default-path config",
        "noreuseport",
        "hard-stop-after 24h",
    ]


def _defaults() -> list[str]:
    return [
        "defaults",
        f"timeout connect {words.milliseconds(_TRY)}",
        f"retries {PATIENCE}",
        # How long anything may take is for the edge behind to say.
        "timeout client 24h",
        "timeout server 24h",
        "timeout tunnel 24h",
        "timeout client-fin 10s",
        "timeout server-fin 10s",
        "timeout queue 5s",
        "timeout http-request 10s",
        # Shorter than the edges': who closes first is never surprised by a request.
        "timeout http-keep-alive 45s",
    ]


def _bind(config: Config, address: str) -> list[str]:
    found = [f"bind {words.quote(words.bind(address))}"]
    if config.ipv6 and address.startswith("*:"):
        found.append(f"bind {words.quote(f':::{address[2:]}')} v6only")
    return found


def _http(config: Config, address: str) -> list[str]:
    own = name("http", address)
    rule = "http-request"
    return [
        f"frontend {own}",
        *_bind(config, address),
        "mode http",
        "option idle-close-on-response",
        "option http-no-delay",
        "http-error status 503 content-type 'text/plain' hdr Retry-After '2' "
        "hdr Cache-Control 'no-store' string 'Service unavailable, try again in a moment'",
        f"{rule} set-var(txn.host) req.hdr(host),host_only,lower",
        *_looked_up(rule, own),
        "http-request return status 404 content-type 'text/plain' hdr Cache-Control 'no-store' "
        "string 'Nothing on this machine has that host name' unless { var(txn.to) -m found }",
        "default_backend http",
    ]


def _tls(config: Config, address: str) -> list[str]:
    own = name("tls", address)
    rule = "tcp-request content"
    return [
        f"frontend {own}",
        *_bind(config, address),
        "mode tcp",
        # As long as an edge waits for a request: who has connected may be very busy.
        "tcp-request inspect-delay 10s",
        f"{rule} reject unless {{ req.ssl_hello_type 1 }}",
        f"{rule} set-var(txn.host) req.ssl_sni,lower",
        *_looked_up(rule, own),
        f"{rule} reject unless {{ var(txn.to) -m found }}",
        f"{rule} accept",
        "default_backend tls",
    ]


def _looked_up(rule: str, own: str) -> list[str]:
    """The server of ``txn.host`` to ``txn.to``: by its own name, then by the nearest wildcard."""
    look = f"var(txn.key),map_str({TABLE})"
    rules = [
        f"{rule} set-var-fmt(txn.key) '{own}/%[var(txn.host)]'",
        f"{rule} set-var(txn.to) {look}",
    ]
    # Where the name itself is known, which is nearly always, none of these costs much.
    more = "if !{ var(txn.to) -m found } { var(txn.host) -m found }"
    for level in range(LEVELS):
        wild = (
            "var(txn.wild),'regsub(^[*][.][^.]+,*)'"
            if level
            else "var(txn.host),'regsub(^[^.]+,*)'"
        )
        rules += [
            f"{rule} set-var(txn.wild) {wild} {more}",
            f"{rule} set-var-fmt(txn.key) '{own}/%[var(txn.wild)]' {more}",
            f"{rule} set-var(txn.to) {look} {more}",
        ]
    return rules


def _backend(config: Config, kind: Kind) -> list[str]:
    servers = [
        f"server {server(claim, kind)} "
        + " ".join(words.quote(word) for word in server_words(claim, kind, config.maxconn))
        for claim in config.claims
        if _of(claim, kind)
    ]
    http = ["http-reuse never", "option http-no-delay"] if kind == "http" else []
    return [
        f"backend {kind}",
        f"mode {'http' if kind == 'http' else 'tcp'}",
        "balance roundrobin",
        *http,
        "use-server %[var(txn.to)] if { var(txn.to) -m found }",
        *servers,
    ]


def ours(entries: Mapping[str, str], stack: str) -> dict[str, str]:
    """The part of a table that is one stack's."""
    return {key: value for key, value in entries.items() if owner(value) == stack}


def changes(
    now: Mapping[str, str], wanted: Mapping[str, str]
) -> Sequence[tuple[Literal["add", "set", "del"], str, str]]:
    """What turns one table into the other: the act, the key and its value."""
    acts: list[tuple[Literal["add", "set", "del"], str, str]] = []
    acts += [("add", key, value) for key, value in wanted.items() if key not in now]
    acts += [("set", key, value) for key, value in wanted.items() if now.get(key, value) != value]
    acts += [("del", key, value) for key, value in now.items() if key not in wanted]
    return acts
