"""A balance as nginx's files. Pure.

What nginx cannot say in one word is said in the ways that its own documentation allows: codes
that no client sees (418, 503 without a text) lead to named places. A ``location`` inherits
``error_page`` and ``add_header`` only where it has none of its own, so each has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gapless.edge import tls as edge_tls
from gapless.edge.config import Rule
from gapless.targets import (
    nginx_answers,
    nginx_cors,
    nginx_forwarded,
    nginx_limits,
    nginx_private,
    nginx_redirects,
)
from gapless.targets import nginx_refusals as refusals
from gapless.targets import nginx_words as words
from gapless.targets.balance import Balance, Pool

MAIN = "nginx.conf"
PROTOCOLS = {"TLSv1.2": "TLSv1.2 TLSv1.3", "TLSv1.3": "TLSv1.3"}
"""By the least one that the edge's policy allows."""
TUNNEL = "24h"
CONNECTIONS = 16_384
"""Of each worker, where the file names no number."""


def files(balance: Balance) -> dict[str, str]:
    """By file name: the main file, the site that it includes, the page. Raises UsageError."""
    found = {MAIN: _main(balance), f"{balance.stack}.conf": site(balance)}
    if balance.page is not None and not balance.front:
        found[refusals.PAGE] = balance.page
    return found


def _main(balance: Balance) -> str:
    # Each connection of a client has one to a replica beside it.
    connections = 2 * balance.maxconn + 64 if balance.maxconn else CONNECTIONS
    return _text(
        [
            f"# The stack {balance.stack}: made by gapless render nginx.",
            "worker_processes auto;",
            f"worker_rlimit_nofile {connections};",
            "worker_shutdown_timeout 24h;",
            "",
            "events {",
            f"    worker_connections {connections};",
            "}",
            "",
            "http {",
            f"    include {balance.stack}.conf;",
            "}",
        ]
    )


def site(balance: Balance) -> str:
    """What belongs into ``http { }``: all but the main file, in which it may be included."""
    blocks: list[list[str]] = [_head(balance)]
    blocks += [_upstream(balance, pool) for pool in balance.pools]
    blocks.append(_maps(balance))
    if balance.certificate is not None:
        blocks.append(_redirect(balance))
    moved = nginx_redirects.hosts(balance.redirects)
    blocks += [_moved(balance, host, there) for host, there in sorted(moved.items())]
    blocks += [_server(balance, host) for host in hosts(balance.rules) if host not in moved]
    return _text(line for block in blocks for line in [*block, ""])


def hosts(rules: Sequence[Rule]) -> list[str | None]:
    """Each host with rules of its own, and None: all others."""
    named = sorted({_host(rule) for rule in rules} - {None}, key=str)
    return [*named, None]


def locations(rules: Sequence[Rule], host: str | None) -> list[Rule]:
    """The rules that can come to bear on a host's requests, longest paths first.

    Of rules in the order in which they are tried, a later one never does where its path lies
    below an earlier one's. Without those the longest path wins, which is how nginx chooses.
    """
    found: list[Rule] = []
    for rule in rules:
        if _applies(_host(rule), host) and not any(_below(rule.path, f.path) for f in found):
            found.append(rule)
    return sorted(found, key=lambda rule: (-len(rule.path.rstrip("/")), rule.path))


def _host(rule: Rule) -> str | None:
    return None if rule.host in (None, "*") else rule.host


def _applies(named: str | None, host: str | None) -> bool:
    """Whether rules for ``named`` hold for requests to ``host`` (itself a name or a wildcard)."""
    if named is None or named == host:
        return True
    return host is not None and named.startswith("*") and host.endswith(named[1:])


def _below(path: str, other: str) -> bool:
    stem = other.rstrip("/")
    return path.rstrip("/") == stem or path.startswith(f"{stem}/")


def _text(lines: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(balance: Balance) -> list[str]:
    where = "in front of its edge" if balance.front else "instead of its edge"
    lines = [
        f"# The stack {balance.stack}, {where}: made by gapless render nginx.",
        "# Belongs into http { }.",
    ]
    if not balance.front:
        lines.append(f"# Maintenance is on while {balance.at}/{refusals.SWITCH} exists.")
    return lines


def _upstream(balance: Balance, pool: Pool) -> list[str]:
    choice = "least_conn;"
    if pool.sticky:
        choice = f"hash ${_variable(balance, pool, 'affinity')} consistent;"
    return [
        f"upstream {_pool(balance, pool)} {{",
        # Shared by the workers: else each of them counts connections and failures for itself.
        f"    zone {_pool(balance, pool)} 256k;",
        f"    {choice}",
        *(
            f"    server {words.server(where)} max_fails={int(pool.fall)}"
            f" fail_timeout={words.seconds(pool.pause)};"
            for where in pool.servers
        ),
        "    keepalive 64;",
        f"    keepalive_timeout {words.milliseconds(pool.idle)};",
        "    keepalive_requests 1000000;",
        "}",
    ]


def _pool(balance: Balance, pool: Pool) -> str:
    return words.name(balance.stack, pool.name)


def _variable(balance: Balance, pool: Pool, what: str) -> str:
    return words.name(balance.stack, pool.name, what)


def _own(balance: Balance, what: str) -> str:
    return words.name(balance.stack, what)


def _maps(balance: Balance) -> list[str]:
    lines = [
        f"map $http_upgrade ${_own(balance, 'websocket')} {{",
        '    default "";',
        '    "~*^websocket$" 1;',
        "}",
        "# What no replica was given anything of may be sent again.",
        f"map $upstream_bytes_sent ${_own(balance, 'again')} {{",
        "    default 2;",
        '    "~[1-9]" "";',
        "}",
    ]
    if not balance.front:
        lines += [
            f"geo ${_own(balance, 'closed')} {{",
            "    default 1;",
            *(f"    {words.network(network)} 0;" for network in balance.allow),
            "}",
        ]
    lines += words.dollar(balance.stack) if balance.answers.headers else []
    lines += nginx_forwarded.maps(balance.stack, balance.proxies)
    lines += nginx_answers.maps(balance.stack, balance.answers)
    lines += nginx_limits.maps(balance.stack, balance.limits)
    lines += nginx_redirects.maps(balance.stack, balance.redirects)
    lines += nginx_cors.maps(balance.stack, balance.cors)
    guards = [(pool.name, pool.guard) for pool in balance.pools]
    lines += nginx_private.maps(balance.stack, balance.places, guards)
    for pool in balance.pools:
        if pool.sticky:
            lines += _affinity(balance, pool)
    return lines


def _affinity(balance: Balance, pool: Pool) -> list[str]:
    """A cookie of nginx's own: whoever brings none gets one, and is sent by it from the start."""
    # A variable holds a cookie only where its name is made of letters, digits and underscores.
    cookie = words.name(balance.stack, pool.name)
    attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if balance.certificate else "")
    return [
        f"map $cookie_{cookie} ${_variable(balance, pool, 'affinity')} {{",
        '    "" $request_id;',
        f"    default $cookie_{cookie};",
        "}",
        f"map $cookie_{cookie} ${_variable(balance, pool, 'cookie')} {{",
        f'    "" "{cookie}=$request_id; {attributes}";',
        '    default "";',
        "}",
    ]


def _redirect(balance: Balance) -> list[str]:
    port = (balance.tls_listen or "").rpartition(":")[2]
    there = f"https://$host{'' if port == '443' else f':{port}'}$request_uri"
    return [
        "server {",
        f"    listen {words.listen(balance.listen)} default_server;",
        "    server_name _;",
        "    server_tokens off;",
        f"    if ($request_method !~ ^(GET|HEAD)$) {{ return 308 {there}; }}",
        f"    return 301 {there};",
        "}",
    ]


def _named(balance: Balance, host: str | None) -> list[str]:
    """Where a server listens, and for which name."""
    secure = balance.tls_listen is not None
    bind = words.listen(balance.tls_listen or balance.listen)
    announced = " proxy_protocol" if balance.proxies.announce else ""
    return [
        f"listen {bind}{' ssl' if secure else ''}{announced}{'' if host else ' default_server'};",
        f"server_name {words.host(host) if host else '_'};",
        *(_tls(balance) if secure else ()),
        "server_tokens off;",
    ]


def _moved(balance: Balance, host: str, there: str) -> list[str]:
    """A host that is elsewhere now."""
    lines = [*_named(balance, host), *_headers(balance), "absolute_redirect off;", there]
    return ["server {", *words.inside(lines), "}"]


def _headers(balance: Balance) -> list[str]:
    return [
        *nginx_answers.headers(balance.stack, balance.answers),
        *nginx_cors.headers(balance.stack, balance.cors),
    ]


def _server(balance: Balance, host: str | None) -> list[str]:
    lines = [
        *_named(balance, host),
        "client_header_timeout 10s;",
        "client_body_timeout 60s;",
        "send_timeout 60s;",
        "keepalive_timeout 60s;",
        "keepalive_requests 1000000;",
        "# As it comes, in both directions: streams, and bodies of any size.",
        "client_max_body_size 0;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "proxy_http_version 1.1;",
        "proxy_connect_timeout 2s;",
        "proxy_redirect off;",
        "# To another replica only where nothing was sent, or the method allows to send it twice.",
        "proxy_next_upstream error;",
        "recursive_error_pages on;",
        *nginx_forwarded.server(balance.proxies),
        *_headers(balance),
        *nginx_answers.server(balance.answers),
        *(["proxy_hide_header Cache-Control;"] if refusals.guarded(balance) else ()),
        # What is sent elsewhere is sent there as it is written, not by a name of ours.
        "absolute_redirect off;",
        *nginx_cors.server(balance.stack, balance.cors),
        *nginx_redirects.server(balance.stack, balance.redirects),
        *refusals.closed(balance),
        *nginx_limits.server(balance.stack, balance.limits),
    ]
    found = locations(balance.rules, host)
    pools = {pool.name: pool for pool in balance.pools}
    used = [pool for pool in balance.pools if any(rule.backend == pool.name for rule in found)]
    for rule in found:
        lines += _location(balance, rule, pools[rule.backend])
    if not any(rule.path.rstrip("/") == "" for rule in found):
        shut = nginx_private.location(balance.stack, balance.places)
        body = [*refusals.errors(balance), *refusals.hold(balance), *shut, *refusals.nowhere()]
        lines += ["location / {", *words.inside(body), "}"]
    for pool in used:
        lines += _websocket(balance, pool)
    lines += refusals.places(balance, _headers(balance))
    return ["server {", *words.inside(lines), "}"]


def _tls(balance: Balance) -> list[str]:
    cache = words.name(balance.stack, "tls")
    return [
        "http2 on;",
        f"ssl_certificate {words.quote(balance.certificate or '', what='the certificate')};",
        f"ssl_certificate_key {words.quote(balance.key or '', what='the key')};",
        f"ssl_protocols {PROTOCOLS[edge_tls.POLICY.least]};",
        f"ssl_ciphers {':'.join(edge_tls.POLICY.ciphers)};",
        f"ssl_ecdh_curve {':'.join(edge_tls.POLICY.curves)};",
        "ssl_prefer_server_ciphers off;",
        f"ssl_session_cache shared:{cache}:10m;",
        "ssl_session_tickets off;",
    ]


def _location(balance: Balance, rule: Rule, pool: Pool) -> list[str]:
    stem = rule.path.rstrip("/")
    body = [
        *refusals.errors(balance),
        f"error_page 418 = @{_variable(balance, pool, 'websocket')};",
        *refusals.hold(balance),
        *nginx_private.location(balance.stack, balance.places, pool.name, pool.guard),
        f"if (${_own(balance, 'websocket')}) {{ return 418; }}",
        *_proxy(balance, pool),
    ]
    block = [*words.inside(body), "}"]
    lines = [f"location {words.path(stem + '/')} {{", *block]
    # For a path that ends in a slash nginx answers its stem with a redirect of its own.
    return [f"location = {words.path(stem)} {{", *block, *lines] if stem else lines


def _proxy(balance: Balance, pool: Pool, *, tunnel: bool = False) -> list[str]:
    patience = words.milliseconds(pool.timeout)
    if tunnel:
        patience = TUNNEL if pool.tunnel is None else words.milliseconds(pool.tunnel)
    upgrade = ("Upgrade websocket", "Connection upgrade")
    lines = [
        f"proxy_pass http://{_pool(balance, pool)};",
        *([] if pool.body is None else [f"client_max_body_size {int(pool.body)};"]),
        f"proxy_read_timeout {patience};",
        f"proxy_send_timeout {patience};",
        *(
            f"proxy_set_header {header};"
            for header in nginx_forwarded.told(balance.stack, balance.proxies)
        ),
        *(
            f"proxy_set_header {header};"
            for header in (upgrade if tunnel else ('Upgrade ""', 'Connection ""'))
        ),
    ]
    if pool.sticky or refusals.guarded(balance):
        lines += _headers(balance)
    if refusals.guarded(balance):
        lines.append(nginx_private.kept(balance.stack, pool.guard))
    if pool.sticky:
        lines.append(f"add_header Set-Cookie ${_variable(balance, pool, 'cookie')} always;")
    return lines


def _websocket(balance: Balance, pool: Pool) -> list[str]:
    body = [*refusals.errors(balance), *_proxy(balance, pool, tunnel=True)]
    return [f"location @{_variable(balance, pool, 'websocket')} {{", *words.inside(body), "}"]
