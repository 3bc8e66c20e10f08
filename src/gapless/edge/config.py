"""The edge's configuration as a value, and as HAProxy text. Pure.

Nothing from the stack file can become a directive: each foreign value is one argument in single
quotes (inside them HAProxy expands nothing), behind ``--`` where it could be read as a flag;
values with a quote, a control character or a line break are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gapless.edge import words
from gapless.model.process import Address
from gapless.model.service import Service
from gapless.model.stack import Stack

STATS_SOCKET = "edge.sock"
MASTER_SOCKET = "edge-master.sock"
STATE_FILE = "edge-state"
PUBLIC = "_public"
FLOOR = "_floor-"
"""Begins the name of a backend's floor: see ``render``."""
FORMAT = 2
"""Of the text that ``render`` makes of one value: another one needs a reload too."""
RETIRED_LIST = "edge-retired.acl"
"""Holds ``on`` in workers that a reload has replaced, and in no file."""
MAINTENANCE_LIST = "edge-maintenance.acl"
MAINTENANCE_PAGE = "edge-maintenance.html"
PAGE_LIMIT = 14_000
"""Bytes of a maintenance page: it must fit into one of HAProxy's buffers (16 KiB) with headers."""
ERROR_LIMIT = 5
"""A run of so many bad answers takes a server out."""
PROBATION = 2
"""Requests at a time that a new server gets until its first check passed: so what comes back bad
before it is taken out is the run and one more, however many clients there are."""
RISE = 5
"""Good checks, half a round apart, that bring a server back: it stays out for two rounds at least,
so that the next look sees it."""
FLOOR_ROUNDS = 5
"""A server on the floor is checked once in so many rounds of the others."""
IDLE_SECONDS = 5
"""Idle connections to servers are given up in rounds of this length."""
REUSE_KEEP_ALIVE = 60.0
"""Seconds of keep-alive above which a server surely outlasts the edge's idle connections."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One HTTP service. Times in seconds.

    ``check``: path that must answer 2xx or 3xx; None: the socket accepts. ``reuse``: ``always``
    shares idle server connections between clients, right only where the server keeps them
    longer than the edge does; else ``safe``. ``private_bind``: its stable loopback address.
    """

    name: str
    check: str | None
    check_timeout: float
    check_every: float
    check_fall: int
    sticky: bool
    timeout: float
    private_bind: str | None = None
    reuse: Literal["always", "safe"] = "safe"


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for ``host`` (None: any; ``*.example.com``: all below) below ``path``."""

    path: str
    host: str | None
    backend: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload would be needed for; members are not in it.

    ``maintenance_page`` is the page itself (HTML), not its name: another page is another digest.
    ``allow``: addresses or networks that pass during maintenance. ``uid``: whom (and whose
    group) a worker becomes once a master that is root has opened files and ports for it; None:
    it stays who it is.
    """

    stack: str
    listen: str
    rules: tuple[Rule, ...]
    backends: tuple[Backend, ...]
    run_dir: str
    maxconn: int
    threads: int
    maintenance_page: str | None = None
    allow: tuple[str, ...] = ()
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A member in the text of a reload. ``enabled`` False: known, and out of rotation."""

    name: str
    backend: str
    address: Address
    cookie: str | None = None
    enabled: bool = True


def of_stack(
    stack: Stack,
    private: Mapping[str, str],
    *,
    run_dir: str,
    maxconn: int,
    threads: int,
    maintenance_page: str | None = None,
    uid: int | None = None,
) -> Config:
    """The configuration that a stack asks for.

    ``private``: service name to bind address (``127.0.0.1:9001``) for each HTTP service that
    others refer to. ``maxconn``: what the descriptor limit allows; the file's own figure wins
    when it is lower.
    """
    http = {name: service for name, service in stack.services.items() if service.http}
    asked = stack.edge.max_connections
    return Config(
        stack=stack.id,
        listen=stack.edge.listen,
        rules=tuple(
            Rule(service.route.path, service.route.host, name)
            for name, service in sorted(http.items())
            if service.route is not None
        ),
        backends=tuple(
            _backend(name, service, private.get(name)) for name, service in sorted(http.items())
        ),
        run_dir=run_dir,
        maxconn=maxconn if asked is None else min(asked, maxconn),
        threads=threads,
        maintenance_page=maintenance_page,
        allow=stack.edge.allow,
        uid=uid,
    )


def _backend(name: str, service: Service, private_bind: str | None) -> Backend:
    probe = service.ready
    keep_alive = keep_alive_of(service.run)
    return Backend(
        name=name,
        check=probe.path if probe else None,
        check_timeout=probe.timeout if probe else 2.0,
        check_every=probe.every if probe else 1.0,
        check_fall=probe.after if probe else 3,
        sticky=service.sticky == "cookie",
        timeout=service.timeout,
        private_bind=private_bind,
        reuse="always" if keep_alive is not None and keep_alive >= REUSE_KEEP_ALIVE else "safe",
    )


def keep_alive_of(run: Sequence[str]) -> float | None:
    """Seconds of keep-alive that a command asks of a server we know; None: not said."""
    flags = ("--timeout-keep-alive", "--keep-alive", "--keepalive")
    for at, word in enumerate(run):
        name, equals, value = word.partition("=")
        if name in flags:
            text = value if equals else run[at + 1] if at + 1 < len(run) else ""
            return float(text) if re.fullmatch(r"\d{1,6}(\.\d+)?", text) else None
    return None


def render(config: Config, servers: Sequence[Server] = ()) -> str:
    """HAProxy's configuration text, with ``servers`` as its first members.

    Each backend has a floor: the same servers once more, checked but not judged by their answers.
    It serves only while the backend has no server left, so a broken route that makes every
    server give bad answers costs that route and not the site.

    Raises UsageError for values that HAProxy could misread.
    """
    blocks = [_global(config), _defaults(config), _public(config), _successor(config, PUBLIC)]
    blocks.append(_nowhere())
    for backend in config.backends:
        if backend.private_bind is not None:
            blocks.append(_private(config, backend, backend.private_bind))
            blocks.append(_successor(config, f"_to-{words.identifier(backend.name)}"))
        own = [server for server in servers if server.backend == backend.name]
        blocks.append(_servers(config, backend, own))
        blocks.append(_servers(config, backend, own, floor=True))
    return "\n\n".join("\n    ".join(block) for block in blocks) + "\n"


def digest(config: Config) -> str:
    """Sixteen hexadecimal characters: equal digests mean that no reload is needed."""
    return hashlib.sha256(f"{FORMAT} {to_json(config)}".encode()).hexdigest()[:16]


def to_json(config: Config) -> str:
    """The configuration as one JSON object; ``from_json`` is the inverse."""
    return json.dumps(asdict(config), sort_keys=True)


def from_json(text: str) -> Config:
    """The inverse of ``to_json``. Raises ValueError, KeyError or TypeError on anything else."""
    raw: dict[str, Any] = json.loads(text)
    raw["rules"] = tuple(Rule(**rule) for rule in raw["rules"])
    raw["backends"] = tuple(Backend(**backend) for backend in raw["backends"])
    raw["allow"] = tuple(raw["allow"])
    return Config(**raw)


def floor(backend: str) -> str:
    """The name of a backend's floor."""
    return f"{FLOOR}{backend}"


def server_words(backend: Backend, server: Server, *, floor: bool = False) -> tuple[str, ...]:
    """The keywords of a server. All of them: servers added at run time inherit nothing."""
    number = words.server_id(server.name, server.address, server.cookie)
    every = backend.check_every
    found = [words.address(server.address), "check", "id", str(number)]
    if floor:
        found += ["inter", words.milliseconds(every * FLOOR_ROUNDS)]
        found += ["downinter", words.milliseconds(every), "fall", "1", "rise", "1"]
    else:
        found += ["inter", words.milliseconds(every)]
        # The first check of a new server is one of a server that is down: the sooner, the sooner
        # it is in.
        found += ["downinter", words.milliseconds(max(0.1, every / 4))]
        found += ["fastinter", words.milliseconds(max(0.1, every / 2))]
        found += ["fall", str(int(backend.check_fall)), "rise", str(RISE)]
        found += ["observe", "layer7", "error-limit", str(ERROR_LIMIT), "on-error", "mark-down"]
    found += ["pool-purge-delay", f"{IDLE_SECONDS}s"]
    if backend.sticky and server.cookie is not None:
        found += ["cookie", words.token(server.cookie)]
    return tuple(found)


def _path(config: Config, name: str) -> str:
    return words.quote(f"{config.run_dir}/{name}", what="the run directory")


def _global(config: Config) -> list[str]:
    stack = words.identifier(config.stack, what="stack name")
    worker = [] if config.uid is None else [f"uid {int(config.uid)}", f"gid {int(config.uid)}"]
    return [
        "global",
        f"description 'gapless {stack} {digest(config)}'",
        *worker,
        f"nbthread {int(config.threads)}",
        f"maxconn {int(config.maxconn)}",
        f"stats socket {_path(config, STATS_SOCKET)} mode 600 level admin expose-fd listeners",
        "stats timeout 60s",
        f"server-state-file {_path(config, STATE_FILE)}",
        # Two stacks on one port would share its traffic in silence; a reload passes the sockets on.
        "noreuseport",
        # Sockets on an old worker end with it: this long after a reload at the latest.
        "hard-stop-after 24h",
    ]


def _defaults(config: Config) -> list[str]:
    patience = max([60.0, *(backend.timeout for backend in config.backends)])
    return [
        "defaults",
        "mode http",
        "load-server-state-from-file global",
        "timeout connect 2s",
        f"timeout client {words.milliseconds(patience)}",
        f"timeout server {words.milliseconds(patience)}",
        "timeout http-request 10s",
        "timeout http-keep-alive 60s",
        "timeout queue 5s",
        "timeout tunnel 24h",
        "timeout client-fin 10s",
        "timeout server-fin 10s",
        # Without these a reload cuts keep-alive clients, and small answers wait for company.
        "option idle-close-on-response",
        "option http-no-delay",
        "option redispatch 1",
        "retries 3",
        "retry-on conn-failure empty-response",
        "http-error status 503 content-type 'text/plain' hdr Retry-After '2' "
        "hdr Cache-Control 'no-store' string 'Service unavailable, try again in a moment'",
    ]


def _public(config: Config) -> list[str]:
    lines = [
        f"frontend {PUBLIC}",
        f"bind {words.quote(words.bind(config.listen))}",
        *_inherited(config, PUBLIC),
        f"acl maintenance str(on) -m str -f {_path(config, MAINTENANCE_LIST)}",
    ]
    passes = ""
    if config.allow:
        known = " ".join(words.network(network) for network in config.allow)
        lines.append(f"acl allowed src -m ip -- {known}")
        passes = " !allowed"
    if config.maintenance_page is None:
        body = "content-type 'text/plain' string 'Down for maintenance, back soon'"
    else:
        body = f"content-type 'text/html; charset=utf-8' file {_path(config, MAINTENANCE_PAGE)}"
    lines += [
        f"http-request return status 503 {body} hdr Retry-After '30' hdr Cache-Control 'no-store'"
        f" if maintenance !retired{passes}",
        *(f"http-request del-header {name}" for name in ("Forwarded", "Proxy")),
        "http-request set-header X-Forwarded-For %[src]",
        "http-request set-header X-Real-IP %[src]",
        "http-request set-header X-Forwarded-Proto http",
        "http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        "http-request set-header X-Forwarded-Port %[dst_port]",
        "http-request del-header X-Forwarded-Prefix",
        "http-request set-header X-Request-ID %[uuid()]",
    ]
    lines.append(f"use_backend {_next(PUBLIC)} if retired")
    for rule in sorted(config.rules, key=lambda rule: words.precedence(rule.path, rule.host)):
        name = words.identifier(rule.backend)
        none_left = words.condition(rule.path, rule.host, _none_left(name))
        lines.append(f"use_backend {floor(name)}{none_left}")
        lines.append(f"use_backend {name}{words.condition(rule.path, rule.host)}")
    return [*lines, "default_backend _nowhere"]


def _nowhere() -> list[str]:
    text = "http-request return status 404 content-type 'text/plain' string 'Not found'"
    return ["backend _nowhere", text]


def _inherited(config: Config, frontend: str) -> list[str]:
    """How a worker takes over from the one before: see ``_successor``."""
    owner = "" if config.uid is None else f" uid {int(config.uid)} gid {int(config.uid)}"
    return [
        f"bind {_inner(config, frontend)} accept-proxy mode 600{owner}",
        f"acl retired str(on) -m str -f {_path(config, RETIRED_LIST)}",
    ]


def _successor(config: Config, frontend: str) -> list[str]:
    """Where a retired worker sends what still comes in on connections that it holds.

    A worker that is on its way out can no longer be told which servers left. So it passes each
    further request on to its successor, by a socket that was always the present worker's.
    """
    return [
        f"backend {_next(frontend)}",
        f"server next {_inner(config, frontend)} send-proxy-v2",
    ]


def _next(frontend: str) -> str:
    return f"_next{frontend}"


def _inner(config: Config, frontend: str) -> str:
    return words.quote(f"unix@{config.run_dir}/edge{frontend}.sock", what="the run directory")


def _private(config: Config, backend: Backend, address: str) -> list[str]:
    name = words.identifier(backend.name)
    frontend = f"_to-{name}"
    return [
        f"frontend {frontend}",
        f"bind {words.quote(words.bind(address))}",
        *_inherited(config, frontend),
        "http-request set-header X-Request-ID %[uuid()] unless { req.hdr(X-Request-ID) -m found }",
        f"use_backend {_next(frontend)} if retired",
        f"use_backend {floor(name)} if {_none_left(name)}",
        f"default_backend {name}",
    ]


def _none_left(name: str) -> str:
    return f"{{ nbsrv({name}) eq 0 }}"


def _servers(
    config: Config, backend: Backend, servers: Sequence[Server], *, floor: bool = False
) -> list[str]:
    name = words.identifier(backend.name)
    lines = [
        f"backend {FLOOR if floor else ''}{name}",
        # Where clients stay, only new ones are dealt out, and leastconn deals fast answers to the
        # same server again and again: what counts there is that each gets as many clients.
        f"balance {'roundrobin' if backend.sticky else 'leastconn'}",
        f"http-reuse {'always' if backend.reuse == 'always' else 'safe'}",
        f"timeout server {words.milliseconds(backend.timeout)}",
        f"timeout check {words.milliseconds(backend.check_timeout)}",
        "http-request disable-l7-retry unless METH_GET",
    ]
    if backend.sticky:
        cookie = words.identifier(f"{config.stack}-{backend.name}")
        lines.append(f"cookie {cookie} insert indirect nocache httponly attr 'SameSite=Lax'")
    if backend.check is not None:
        lines += [
            "option httpchk",
            f"http-check send meth GET uri {words.word(backend.check)} hdr Host localhost",
            "http-check expect status 200-399",
        ]
    for server in servers:
        keywords = server_words(backend, server, floor=floor)
        quoted = (words.quote(word, what="a server") for word in keywords)
        state = "" if server.enabled else " disabled"
        lines.append(f"server {words.identifier(server.name)} {' '.join(quoted)}{state}")
    return lines
