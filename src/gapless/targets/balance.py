"""What a balancer is to do, made of a stack and of what is said of the balancer. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Any

from gapless import errors
from gapless.edge import config, words
from gapless.edge import limits as limiting
from gapless.edge.answers import Answers
from gapless.edge.cors import Cors
from gapless.edge.forwarded import Proxies
from gapless.edge.private import Guard, Place
from gapless.edge.redirects import Redirect
from gapless.edge.static import Static
from gapless.model.process import Address
from gapless.model.stack import Stack
from gapless.targets.ask import EDGE, Ask

_UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of one service, or the edges of a stack. Times in seconds.

    ``fall``: failures in a row, ``pause`` apart at most, that take one out. ``idle``: unused
    connections are kept for so long. ``sticky``: clients stay, by the cookie ``cookie``.
    """

    name: str
    servers: tuple[Address, ...]
    timeout: float
    sticky: bool = False
    cookie: str = ""
    fall: int = 3
    pause: float = 3.0
    idle: float = 2.0
    tunnel: float | None = None
    """A WebSocket may be silent for so long; None: a day."""
    body: int | None = None
    """Bytes of a request's body at most; None: any number."""
    guard: Guard | None = None
    """Who may ask it; None: everybody."""


@dataclass(frozen=True, slots=True)
class Balance:
    """``rules`` in the order in which they are tried. ``edge``: what the stack's own edge would be
    told, for its own text; ``front``: that edge stands behind and does the rest itself.
    ``private``: services that only others of the stack may reach, through its edge. ``maxconn``
    0: as many as the machine has descriptors for. ``trusted``: the edge behind believes what it
    says of clients. ``host``: what the public calls it; ``unsecured``: the stack speaks TLS, and it
    was given no certificate; ``announce``: by the PROXY protocol.
    """

    stack: str
    front: bool
    at: str
    listen: str
    tls_listen: str | None
    certificate: str | None
    key: str | None
    rules: tuple[config.Rule, ...]
    pools: tuple[Pool, ...]
    allow: tuple[str, ...]
    page: str | None
    maxconn: int
    edge: config.Config
    private: tuple[str, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    answers: Answers = field(default_factory=Answers)
    redirects: tuple[Redirect, ...] = ()
    limits: limiting.Limits = limiting.NONE
    places: tuple[Place, ...] = ()
    cors: Cors | None = None
    host: str = "127.0.0.1"
    unsecured: bool = False
    trusted: bool = False
    announce: bool = False


def of_stack(stack: Stack, ask: Ask) -> Balance:
    """Raises UsageError for a published service without an address, and for unknown names."""
    wanted = config.of_stack(
        stack,
        {},
        run_dir=ask.at,
        maxconn=_UNBOUNDED,
        threads=2,
        maintenance_page=ask.page,
    )
    # Of the other machine's descriptors nothing is known: the balancer counts them itself.
    # Nor does the server of files stand beside it.
    wanted = replace(wanted, static=Static())
    wanted = replace(wanted, maxconn=0) if wanted.maxconn == _UNBOUNDED else wanted
    _check(stack, ask)
    secure = ask.certificate is not None
    own = not ask.front and stack.tls is not None
    plain = "*:80" if ask.front or (secure and not own) else stack.edge.listen
    by_tls = stack.edge.tls_listen if own else "*:443"
    return Balance(
        stack=stack.id,
        front=ask.front,
        at=ask.at,
        listen=words.bind(ask.listen or plain),
        tls_listen=words.bind(ask.tls_listen or by_tls) if secure else None,
        certificate=ask.certificate,
        key=ask.key,
        rules=(config.Rule("/", None, EDGE),) if ask.front else _ordered(wanted),
        pools=(_edge(stack, ask, wanted),) if ask.front else _pools(stack, ask, wanted),
        allow=() if ask.front else wanted.allow,
        page=ask.page,
        maxconn=wanted.maxconn,
        edge=wanted,
        **(_told_behind(stack, ask) if ask.front else _done_here(wanted)),
        host=stack.host or "127.0.0.1",
        unsecured=stack.tls is not None and not secure,
        private=tuple(n for n, s in stack.services.items() if s.http and s.route is None),
    )


def _told_behind(stack: Stack, ask: Ask) -> dict[str, Any]:
    """Whether the edge behind hears what is said to it of clients.

    From which address it is asked is known where both are on one machine; else it is up to them.
    """
    pool = ask.upstreams.get(EDGE) or (_own(stack.edge.listen),)
    hosts = {(where.host or "127.0.0.1").strip("[]") for where in pool}
    local = hosts <= {"127.0.0.1", "::1", "localhost"}
    networks = [ipaddress.ip_network(network, strict=False) for network in stack.edge.trusted]
    own = [ipaddress.ip_address("::1" if "::1" in hosts else "127.0.0.1")] if local else []
    trusted = any(own[0] in network for network in networks) if own else bool(networks)
    return {"trusted": trusted, "announce": stack.edge.proxy_protocol}


def _done_here(wanted: config.Config) -> dict[str, Any]:
    """What the edge does with requests and answers, and must not be done twice."""
    return {
        "proxies": wanted.proxies,
        "answers": wanted.answers,
        "redirects": wanted.redirects,
        "limits": wanted.limits,
        "places": wanted.private.places,
        "cors": wanted.cors,
    }


def _ordered(wanted: config.Config) -> tuple[config.Rule, ...]:
    return tuple(sorted(wanted.rules, key=lambda rule: words.precedence(rule.path, rule.host)))


def _check(stack: Stack, ask: Ask) -> None:
    if ask.front:
        return
    if EDGE in ask.upstreams:
        raise errors.UsageError(
            "--upstream: edge and services together: which stands behind?",
            hint="edge=…: the balancer is in front of gapless; services: it is there instead",
        )
    published = [n for n, service in stack.services.items() if service.http and service.route]
    strangers = [name for name in ask.upstreams if name not in published]
    if strangers:
        raise errors.UsageError(
            f"--upstream: no published service {', '.join(strangers)} "
            f"(have: {', '.join(published) or 'none'})"
        )
    without = [name for name in published if name not in ask.upstreams]
    if without:
        raise errors.UsageError(
            f"--upstream: no address for {', '.join(without)}",
            hint="name the replicas of each published service, "
            "or none: then the balancer stands in front of this stack's edge",
        )


def _edge(stack: Stack, ask: Ask, wanted: config.Config) -> Pool:
    servers = ask.upstreams.get(EDGE) or (_own(stack.edge.listen),)
    patience = max([60.0, *(backend.timeout for backend in wanted.backends)])
    # Longer than the edge's own: who stands behind knows why it gives up, and says so.
    return Pool(EDGE, servers, timeout=patience + 5, idle=50.0)


def _own(listen: str) -> Address:
    """Where the edge is reached from its own machine."""
    host, _, port = listen.rpartition(":")
    own = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # compared
    return Address(host=own.get(host, host), port=int(port))


def _pools(stack: Stack, ask: Ask, wanted: config.Config) -> tuple[Pool, ...]:
    return tuple(
        Pool(
            name=backend.name,
            servers=ask.upstreams[backend.name],
            timeout=backend.timeout,
            sticky=backend.sticky,
            cookie=f"{stack.id}-{backend.name}",
            fall=backend.check_fall,
            pause=max(1.0, backend.check_every * backend.check_fall),
            tunnel=backend.tunnel,
            body=backend.body,
            guard=backend.guard,
            idle=50.0 if backend.reuse == "always" else 2.0,
        )
        for backend in wanted.backends
        if backend.name in ask.upstreams
    )
