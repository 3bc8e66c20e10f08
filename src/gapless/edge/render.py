"""The edge's configuration as HAProxy text. Pure.

Nothing from the stack file can become a directive: each foreign value is one argument in single
quotes (inside them HAProxy expands nothing), behind ``--`` where it could be read as a flag;
values with a quote, a control character or a line break are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.edge import (
    accesslog,
    answers,
    awaiting,
    bodies,
    cors,
    forwarded,
    hold,
    hostile,
    judging,
    limits,
    private,
    queueing,
    redirects,
    shared,
    spelling,
    static,
    tls,
    words,
)
from gapless.edge import config as conf
from gapless.edge.config import Backend, Config, Server
from gapless.edge.forwarded import Proxies


def text(config: Config, servers: Sequence[Server] = ()) -> str:
    """HAProxy's configuration text, with ``servers`` as its first members.

    Each backend has a floor: the same servers once more, checked but not judged by their answers.
    It serves only while the backend has no server left, so a broken route that makes every
    server give bad answers costs that route and not the site.

    ``config.standalone`` leaves out what only gapless beside it gives a meaning to.

    Raises UsageError for values that HAProxy could misread.
    """
    blocks = [_global(config), _defaults(config), _public(config), _successor(config, conf.PUBLIC)]
    if config.tls is not None:
        blocks.append(_successor(config, _OVER_TLS))
    blocks += [_nowhere(), hostile.backend()]
    socket = words.quote(f"unix@{config.run_dir}/{limits.SOCKET}", what="the run directory")
    blocks += limits.sections(config.counted, None if config.standalone else socket)
    known = words.argument(f"{config.run_dir}/{conf.FILES_MAP}")
    blocks += static.backend(config.static, answers.compression(config.answers), known)
    for backend in config.backends:
        if backend.private_bind is not None:
            blocks.append(_private(config, backend, backend.private_bind))
            blocks.append(_successor(config, f"_to-{words.identifier(backend.name)}"))
        blocks.append(_steered(config, *_alone(config, backend)))
        again = awaiting.again(backend.wait, backend.name, config.run_dir, h2=backend.h2)
        blocks.append(_steered(config, *again))
        own = [server for server in servers if server.backend == backend.name]
        blocks.append(_servers(config, backend, own))
        blocks.append(_servers(config, backend, own, floor=True))
    return "\n\n".join("\n    ".join(block) for block in blocks if block) + "\n"


def _steered(config: Config, *lines: str) -> list[str]:
    """Lines for an edge that gapless steers, reloads and takes over."""
    return [] if config.standalone else [*lines]


def _path(config: Config, name: str) -> str:
    return words.quote(f"{config.run_dir}/{name}", what="the run directory")


def _global(config: Config) -> list[str]:
    stack = words.identifier(config.stack, what="stack name")
    whom = config.becomes
    worker = [] if whom is None else [f"uid {int(whom)}", f"gid {int(whom)}"]
    return [
        "global",
        f"description 'gapless {stack} {conf.digest(config)}'",
        *worker,
        *_steered(config, f"nbthread {int(config.threads)}"),
        *([f"maxconn {int(config.maxconn)}"] if config.maxconn else ()),
        *_steered(config, *hold.script(config)),
        *_steered(config, *awaiting.for_global(config.run_dir, config.maxconn)),
        f"stats socket {_path(config, conf.STATS_SOCKET)} mode 600 level admin expose-fd listeners",
        "stats timeout 60s",
        *_steered(
            config,
            f"server-state-file {_path(config, conf.STATE_FILE)}",
            # Two stacks on one port would share it in silence; a reload passes the sockets on.
            "noreuseport",
        ),
        *_steered(
            config,
            *bodies.for_global(_path(config, bodies.SCRIPT), [one.body for one in config.backends]),
        ),
        *limits.for_global(config.counted, _owner(config), alone=config.standalone),
        *static.for_global(config.static),
        # Sockets on an old worker end with it: this long after a reload at the latest.
        "hard-stop-after 24h",
        *([] if config.tls is None else tls.global_lines(config.tls)),
    ]


def _defaults(config: Config) -> list[str]:
    patience = max([hold.LONGEST + hold.SPARE, *(backend.timeout for backend in config.backends)])
    return [
        "defaults",
        "mode http",
        *_steered(config, "load-server-state-from-file global"),
        *manners(patience),
    ]


def manners(patience: float) -> list[str]:
    """Lines of ``defaults`` on time and trouble. ``patience``: seconds for an answer at most."""
    return [
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
        f"retries {judging.RETRIES}",
        f"retry-on {' '.join(judging.RETRY_ON)}",
        "http-error status 503 content-type 'text/plain' hdr Retry-After '2' "
        "hdr Cache-Control 'no-store' string 'Service unavailable, try again in a moment'",
    ]


def _public(config: Config) -> list[str]:
    lines = [
        f"frontend {conf.PUBLIC}",
        # Backends say it where it is right: files are to go in as few pieces as possible.
        "no option http-no-delay",
        *(_bind(bind.address, _secured(config, bind)) for bind in _public_binds(config)),
        *_bridged(config, *_public_binds(config)),
        *shared.binds(config.shared, config.run_dir, tls=config.tls is not None),
        *_inherited(config, conf.PUBLIC),
        *_inherited_tls(config),
        *forwarded.expected(config.proxies),
        *forwarded.spelled(config.proxies),
        *forwarded.identified(config.proxies),
        *accesslog.always(config),
        *accesslog.asked(config),
        *_usual(config),
        # Whoever is retired decides nothing: its successor does, who knows the client as well.
        *_steered(config, f"http-request allow if {hostile.UNUSUAL} retired"),
    ]
    own = _concerning_all(config)
    counted = bool(config.counted.tables or config.private.places)
    told = forwarded.told(config.proxies, tls=config.tls is not None)
    if not own and not counted:
        # What the others are told by it goes with their own claims, and is said once more.
        lines += [hostile.UNCONNECTED, *told, hostile.LEAVE]
    lines += [
        *accesslog.closely(config),
        *hostile.for_frontend(forwarded.claims(config.proxies)),
        *own,
    ]
    if own and not counted:
        lines += [*told, *accesslog.known(config), hostile.LEAVE]
    lines += _limited(config)
    if counted or not own:
        lines += [*told, *accesslog.known(config)]
    return [
        *lines,
        *answers.headers(config.answers),
        *cors.for_answers(config.cors),
        *_routes(config),
    ]


def _concerning_all(config: Config) -> list[str]:
    """Rules that ordinary requests have to pass as well, and that come before all limits."""
    return [
        *shared.strangers(config.shared),
        *forwarded.client(config.proxies),
        *accesslog.named(config),
        *_secure(config),
        *(spelling.lines() if _by_path(config) else ()),
        *cors.for_frontend(config.cors),
        *redirects.lines(config.redirects),
    ]


def _limited(config: Config) -> list[str]:
    """Rules for times at which no request is an ordinary one; and behind them, since in maintenance
    nothing counts, limits and logins, which are for all."""
    lines: list[str] = []
    passes = ""
    if config.allow:
        lines += words.networks("allowed", config.allow)
        passes = " !allowed"
    if config.maintenance_page is None:
        body = "content-type 'text/plain' string 'Down for maintenance, back soon'"
    else:
        body = (
            f"content-type 'text/html; charset=utf-8' file {_path(config, conf.MAINTENANCE_PAGE)}"
        )
    return [
        *lines,
        f"http-request return status 503 {body} hdr Retry-After '30' hdr Cache-Control 'no-store'"
        f" if {hostile.UNUSUAL} maintenance{passes}",
        *_steered(config, *hold.rules(config, passes)),
        *limits.for_frontend(config.counted, config.maxconn, config.proxies.trusted),
        *private.for_frontend(config.private, config.guards, config.counted, config.stack),
    ]


def _routes(config: Config) -> list[str]:
    """Where requests go."""
    lines = [*_shortcut(config), hostile.rule()]
    # Who has waited through a hold was none of the ordinary ones either.
    passed_on = f"{hostile.UNUSUAL} retired"
    if config.tls is not None:
        lines += tls.response_lines(config.tls)
        lines += _steered(config, f"use_backend {_next(_OVER_TLS)} if {passed_on} over-tls")
    lines += _steered(config, f"use_backend {_next(conf.PUBLIC)} if {passed_on}")
    lines += static.rules(config.static, [rule.path for rule in config.rules])
    for rule in sorted(config.rules, key=lambda rule: words.precedence(rule.path, rule.host)):
        name = words.identifier(rule.backend)
        none_left = words.condition(rule.path, rule.host, _none_left(name))
        lines.append(f"use_backend {conf.floor(name)}{none_left}")
        lines.append(f"use_backend {name}{words.condition(rule.path, rule.host)}")
    return [*lines, *static.last_rule(config.static), "default_backend _nowhere"]


def _shortcut(config: Config) -> list[str]:
    """Where there is one way only, ordinary requests take it before all else is asked."""
    if len(config.rules) != 1 or config.static.paths:
        return []
    (rule,) = config.rules
    if words.condition(rule.path, rule.host):
        return []
    name = words.identifier(rule.backend)
    return [f"use_backend {name} if {hostile.USUAL} {_some_left(name)}"]


def _usual(config: Config) -> list[str]:
    """What tells ordinary requests at ordinary times from others."""
    steered = [] if config.standalone else ["retired", "held"]
    full = limits.full(config.maxconn)
    return [
        f"acl maintenance str(on) -m str -f {_path(config, conf.MAINTENANCE_LIST)}",
        *_steered(config, *hold.acl(config)),
        *full,
        *hostile.usual(
            forwarded.claims(config.proxies),
            [*steered, "maintenance", *(["full"] if full else [])],
        ),
    ]


_OVER_TLS = f"{conf.PUBLIC}-{tls.LISTENER}"
"""What a worker that has been replaced passes on of TLS goes by a way of its own."""


def _by_path(config: Config) -> bool:
    """Whether some rule is about paths as applications read them."""
    return bool(config.limits.by_path or config.private.places or cors.by_path(config.cors))


def _public_binds(config: Config) -> tuple[conf.Bind, ...]:
    return (conf.Bind(config.listen), *config.binds)


def _bind(address: str, secure: str = "") -> str:
    return f"bind {words.quote(words.bind(address))}{secure}"


def _secured(config: Config, bind: conf.Bind) -> str:
    return f" {tls.bind_words(config.run_dir)}" if bind.tls else ""


def _bridged(config: Config, *binds: conf.Bind) -> list[str]:
    """The same for programs with a network of their own, and for nobody who comes by another."""
    inner = {config.inner(bind.address): _secured(config, bind) for bind in binds}
    lines = [_bind(address, secure) for address, secure in inner.items() if address is not None]
    if config.bridge is None or not lines:
        return []
    return [
        *lines,
        *words.acl("bridged", "dst -m ip", [words.network(config.bridge.host)]),
        *words.networks("of-bridge", [config.bridge.network]),
        "tcp-request connection reject if bridged !of-bridge",
    ]


def _inherited_tls(config: Config) -> list[str]:
    if config.tls is None:
        return []
    inner = f"{_inner(config, _OVER_TLS)} accept-proxy name {tls.LISTENER} mode 600"
    return [f"bind {inner}{_owner(config)}", tls.acl()]


def _secure(config: Config) -> list[str]:
    """Answers for an authority, and for who does not speak TLS."""
    if config.tls is None:
        return []
    return [
        *tls.challenge_lines(config.tls, config.run_dir),
        *tls.redirect_lines(config.tls, proxied=bool(config.proxies.trusted)),
    ]


def _nowhere() -> list[str]:
    text = "http-request return status 404 content-type 'text/plain' string 'Not found'"
    return ["backend _nowhere", text]


def _inherited(config: Config, frontend: str) -> list[str]:
    """How a worker takes over from the one before: see ``_successor``."""
    if config.standalone:
        return []
    return [
        f"bind {_inner(config, frontend)} accept-proxy mode 600{_owner(config)}",
        f"acl retired str(on) -m str -f {_path(config, conf.RETIRED_LIST)}",
    ]


def _owner(config: Config) -> str:
    """Whose a socket is: the worker's that is to connect to it."""
    whom = config.becomes
    return "" if whom is None else f" uid {int(whom)} gid {int(whom)}"


def _successor(config: Config, frontend: str) -> list[str]:
    """Where a retired worker sends what still comes in on connections that it holds.

    A worker that is on its way out can no longer be told which servers left. So it passes each
    further request on to its successor, by a socket that was always the present worker's.
    """
    return _steered(
        config,
        f"backend {_next(frontend)}",
        # The successor logs it.
        *(["http-request set-log-level silent"] if config.access_log else []),
        f"server next {_inner(config, frontend)} send-proxy-v2",
    )


def _next(frontend: str) -> str:
    return f"_next{frontend}"


def _inner(config: Config, frontend: str) -> str:
    return words.quote(f"unix@{config.run_dir}/edge{frontend}.sock", what="the run directory")


def _private(config: Config, backend: Backend, address: str) -> list[str]:
    name = words.identifier(backend.name)
    frontend = f"_to-{name}"
    return [
        f"frontend {frontend}",
        _bind(address),
        *_bridged(config, conf.Bind(address)),
        *_inherited(config, frontend),
        "http-request set-header X-Request-ID %[uuid()] unless { req.hdr(X-Request-ID) -m found }",
        *_steered(config, f"use_backend {_next(frontend)} if retired"),
        f"use_backend {conf.floor(name)} if {_none_left(name)}",
        f"default_backend {name}",
    ]


def _none_left(name: str) -> str:
    return f"!{_some_left(name)}"


def _some_left(name: str) -> str:
    # Not a comparison: a number as it is takes no lock.
    return f"{{ nbsrv({name}) -m bool }}"


def _servers(
    config: Config, backend: Backend, servers: Sequence[Server], *, floor: bool = False
) -> list[str]:
    name = words.identifier(backend.name)
    waits = 0.0 if config.standalone else backend.wait.seconds
    lines = [
        f"backend {conf.FLOOR if floor else ''}{name}",
        # Where clients stay, only new ones are dealt out, and leastconn deals fast answers to the
        # same server again and again: what counts there is that each gets as many clients.
        f"balance {'roundrobin' if backend.sticky else 'leastconn'}",
        f"http-reuse {'always' if backend.reuse == 'always' else 'safe'}",
        f"timeout server {words.milliseconds(backend.timeout + (waits if floor else 0.0))}",
        f"timeout check {words.milliseconds(backend.check_timeout)}",
        *private.for_backend(
            backend.guard, config.private, config.guards, config.stack, conf.PUBLIC
        ),
        *bodies.at_most(backend.body, counted=not config.standalone),
        # Where there is a queue it comes last, and is for all: also for who was waited for.
        *([hostile.LEAVE] if backend.queue.concurrency is None else ()),
        f"http-request disable-l7-retry unless {' or '.join(judging.REPEATABLE)}",
        *bodies.awaited(),
        *queueing.for_backend(backend.queue, f"{conf.FLOOR if floor else ''}{name}"),
    ]
    lines += answers.compression(config.answers)
    if backend.tunnel is not None:
        lines.append(f"timeout tunnel {words.milliseconds(backend.tunnel)}")
    if backend.sticky:
        cookie = words.identifier(f"{config.stack}-{backend.name}")
        secure = "" if config.tls is None else " secure"
        lines.append(
            f"cookie {cookie} insert indirect nocache httponly{secure} attr 'SameSite=Lax'"
        )
    if backend.check is not None:
        lines += [
            "option httpchk",
            f"http-check send meth GET uri {words.word(backend.check)} hdr Host localhost",
            "http-check expect status 200-399",
        ]
    for server in servers:
        keywords = judging.server_words(backend, server, floor=floor)
        quoted = (words.quote(word, what="a server") for word in keywords)
        state = "" if server.enabled else " disabled"
        lines.append(f"server {words.identifier(server.name)} {' '.join(quoted)}{state}")
    way = awaiting.server(backend.wait, backend.name, config.run_dir, h2=backend.h2)
    return [*lines, *_steered(config, *way)]


def _alone(config: Config, backend: Backend) -> list[str]:
    """Where requests wait while it has no server left, on the floor neither."""
    return awaiting.frontend(
        backend.wait,
        words.identifier(backend.name),
        config.run_dir,
        ready=backend.check,
        floor=conf.floor(backend.name),
        direct=config.proxies == Proxies() and config.shared is None,
        h2=backend.h2,
        owner=_owner(config),
    )
