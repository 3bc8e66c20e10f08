"""The edge's configuration as a value. Pure. ``render`` writes it as HAProxy reads it."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import TypeAdapter

from gapless.edge import awaiting, queueing
from gapless.edge import cors as sharing
from gapless.edge import limits as limiting
from gapless.edge import private as privacy
from gapless.edge import tls as edge_tls
from gapless.edge.answers import Answers
from gapless.edge.forwarded import Proxies
from gapless.edge.redirects import Redirect
from gapless.edge.shared import Shared
from gapless.edge.static import Static
from gapless.model.private import is_local
from gapless.model.process import Address, Bridge
from gapless.model.stack import Stack

STATS_SOCKET = "edge.sock"
MASTER_SOCKET = "edge-master.sock"
ELDERS = "edge-elder-{}.sock"
"""The master's socket of one that another program has taken over from, by its pid."""
HEIR_SOCKET = "edge-heir.sock"
FOLDER = "e"
"""Of the run directory: the sockets of an edge in a container, and what it reads beside them."""
STATE_FILE = "edge-state"
PUBLIC = "_public"
FLOOR = "_floor:"
"""Begins the name of a backend's floor: see ``render.text``."""
FORMAT = 17
"""Of the text that ``render.text`` makes of one value: another one needs a reload too."""
RETIRED_LIST = "edge-retired.acl"
"""Holds ``on`` in workers that a reload has replaced, and in no file."""
MAINTENANCE_LIST = "edge-maintenance.acl"
HOLD_MAP = "edge-hold.map"
FILES_MAP = "edge-files.map"
"""Holds which files are served now: what is kept in memory is kept under that name."""
HOLD_SCRIPT = "edge-hold.lua"
LINE_SCRIPT = "edge-line.lua"
"""What all scripts have that let requests wait; loaded before them."""
MAINTENANCE_PAGE = "edge-maintenance.html"
PAGE_LIMIT = 14_000
"""Bytes of a maintenance page: it must fit into one of HAProxy's buffers (16 KiB) with headers."""
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
    h2: bool = False
    """Whether its servers are spoken to in HTTP/2, without TLS."""
    queue: queueing.Queue = queueing.NONE
    body: int | None = None
    """Bytes of a request's body at most; None: any number."""
    tunnel: float | None = None
    """Seconds that a WebSocket may be silent; None: a day."""
    wait: awaiting.Await = field(default_factory=awaiting.Await)
    """Requests that wait while all its replicas are gone."""
    guard: privacy.Guard | None = None
    """Who may ask it from outside; None: everybody."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for ``host`` (None: any; ``*.example.com``: all below) below ``path``."""

    path: str
    host: str | None
    backend: str


@dataclass(frozen=True, slots=True)
class Bind:
    """A public listener beside ``Config.listen``."""

    address: str
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload would be needed for; members and certificates are not in it.

    ``maintenance_page`` is the page itself (HTML), not its name: another page is another digest.
    ``allow``: addresses or networks that pass during maintenance. ``uid``: whom (and whose
    group) a worker becomes once a master that is root has opened files and ports for it; None:
    it stays who it is. ``standalone``: nobody steers it; its servers are those of its text, and
    ``maxconn`` may be 0: what its machine allows.
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
    proxies: Proxies = field(default_factory=Proxies)
    answers: Answers = field(default_factory=Answers)
    redirects: tuple[Redirect, ...] = ()
    shared: Shared | None = None
    """Behind the front; ``listen`` is then for this machine alone."""
    limits: limiting.Limits = limiting.NONE
    standalone: bool = False
    bridge: Bridge | None = None
    """A network of this machine's programs, from which it is reached likewise."""
    binds: tuple[Bind, ...] = ()
    tls: edge_tls.Tls | None = None
    static: Static = field(default_factory=Static)
    private: privacy.Private = field(default_factory=privacy.Private)
    cors: sharing.Cors | None = None
    access_log: bool = False
    """Whether each request leaves a line in the edge's log."""
    binary: str | None = None
    """The HAProxy that the file names."""
    epoch: int = 0
    """How often it was restarted by hand."""
    image: str = ""
    """The content of the image that it runs in; "": it is a program of the machine."""
    program: str = ""
    """What that program is (``binary.identity``): another one takes over by a reload, too."""

    @property
    def becomes(self) -> int | None:
        """Whom a worker has to become; None: from an image it is started as ``uid`` right away."""
        return None if self.image else self.uid

    @property
    def reader(self) -> int | None:
        """The group that may read what is written for it; None: its owner alone does."""
        return self.uid if self.image else None

    @property
    def counted(self) -> limiting.Limits:
        """All that is counted of clients: wrong passwords too, where somebody logs in."""
        return replace(self.limits, logins=privacy.needed(self.private, self.guards))

    @property
    def guards(self) -> tuple[privacy.Guard | None, ...]:
        """Of the services."""
        return tuple(backend.guard for backend in self.backends)

    @property
    def public(self) -> tuple[str, ...]:
        """Where it listens for the public."""
        return (self.listen, *(bind.address for bind in self.binds))

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that it listens on."""
        private = [backend.private_bind for backend in self.backends if backend.private_bind]
        all_ = (*self.public, *private)
        return (*all_, *(inner for inner in map(self.inner, all_) if inner))

    def inner(self, address: str) -> str | None:
        """Where the network of programs finds what listens at an address; None: just there."""
        host, _, port = address.rpartition(":")
        everywhere = host in ("*", "0.0.0.0", "[::]")  # noqa: S104  # compared only
        if self.bridge is None or everywhere or host == self.bridge.host:
            return None
        return f"{self.bridge.host}:{port}"


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
    static_socket: str = "",
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
        backends=tuple(_backend(stack, name, private.get(name)) for name in sorted(http)),
        run_dir=run_dir,
        maxconn=maxconn if asked is None else min(asked, maxconn),
        threads=threads,
        maintenance_page=maintenance_page,
        allow=stack.edge.allow,
        uid=uid,
        proxies=Proxies(stack.edge.trusted, stack.edge.proxy_protocol),
        answers=Answers(
            stack.edge.response_headers, stack.edge.removed_headers, stack.edge.compress
        ),
        redirects=tuple(
            Redirect(source, one.to, one.status)
            for source, one in sorted(stack.edge.redirects.items())
        ),
        static=Static(tuple(sorted(stack.edge.static)), static_socket)
        if stack.edge.static
        else Static(),
        access_log=stack.edge.access_log,
        binary=stack.edge.binary,
        limits=limiting.of_table(stack.edge),
        cors=sharing.of_table(stack.edge.cors),
        private=privacy.Private(
            privacy.places_of(stack.edge.private),
            claimed=stack.tls is None and not is_local(stack.edge.listen),
        ),
    )


def knowing(config: Config, passwords: Mapping[str, str]) -> Config:
    """With what tells right passwords from wrong ones; ``passwords``: by name of the secret."""
    if not config.counted.logins:
        return config
    places = tuple(
        replace(one, guard=privacy.knowing(one.guard, passwords, config.stack))
        for one in config.private.places
    )
    backends = tuple(
        replace(one, guard=privacy.knowing(one.guard, passwords, config.stack))
        for one in config.backends
    )
    return replace(config, private=replace(config.private, places=places), backends=backends)


def secured(config: Config, stack: Stack, folder: str, listen: str) -> Config:
    """With TLS, as the stack asks for it. ``folder`` holds its certificates; ``listen``: where the
    edge itself listens for it."""
    hsts = stack.edge.hsts
    tls = edge_tls.Tls(
        folder=folder,
        certificates=tuple(wanted.name for wanted in stack.certificates),
        name=stack.host or "127.0.0.1",
        port=int(stack.edge.tls_listen.rpartition(":")[2]),
        hsts=hsts.header if hsts is not None else "",
        challenge=stack.tls == "auto",
    )
    return replace(config, binds=(Bind(listen, tls=True),), tls=tls)


def promising(config: Config, proven: bool, stapled: Collection[str]) -> Config:
    """With what shows only while it runs: ``proven``, for HSTS binds browsers for long and is sent
    only once the drill ``tls`` has held; and which certificates have an authority to ask."""
    tls = config.tls
    if tls is None:
        return config
    words = tuple(name for name in tls.certificates if name in stapled)
    return replace(config, tls=replace(tls, hsts=tls.hsts if proven else "", stapled=words))


def _backend(stack: Stack, name: str, private_bind: str | None) -> Backend:
    service = stack.services[name]
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
        h2=service.protocol == "h2",
        private_bind=private_bind,
        reuse="always" if keep_alive is not None and keep_alive >= REUSE_KEEP_ALIVE else "safe",
        queue=queueing.of_service(service),
        body=stack.edge.body if service.body is None else service.body,
        tunnel=service.tunnel,
        wait=awaiting.of_service(service),
        guard=privacy.guard_of(service.private),
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


@functools.lru_cache(maxsize=32)
def digest(config: Config) -> str:
    """Sixteen hexadecimal characters: equal digests mean that no reload is needed."""
    return hashlib.sha256(f"{FORMAT} {to_json(config)}".encode()).hexdigest()[:16]


_JSON = TypeAdapter(Config)


def to_json(config: Config) -> str:
    """The configuration as one JSON object; ``from_json`` is the inverse."""
    return json.dumps(_JSON.dump_python(config, mode="json"), sort_keys=True)


def from_json(text: str) -> Config:
    """The inverse of ``to_json``. Raises ValueError on anything else."""
    return _JSON.validate_json(text, extra="forbid")


def floor(backend: str) -> str:
    """The name of a backend's floor."""
    return f"{FLOOR}{backend}"
