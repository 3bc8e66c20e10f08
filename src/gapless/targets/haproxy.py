"""A balance as HAProxy's files. Pure.

Instead of the edge: the live edge's own text, with the replicas as fixed servers, so that it is
the same in every respect but those that need gapless beside it. In front of it: a plain proxy
that adds TLS, retries nothing that may not be, and leaves the rest to the edge.
"""

from __future__ import annotations

from dataclasses import replace

from gapless.edge import config, judging, render, words
from gapless.edge import tls as edge_tls
from gapless.targets.balance import Balance, Pool

MAIN = "haproxy.cfg"


def files(balance: Balance) -> dict[str, str]:
    """By file name. Raises UsageError for values that HAProxy could misread."""
    if balance.front:
        return {MAIN: front(balance)}
    found = {MAIN: instead(balance), config.MAINTENANCE_LIST: ""}
    if balance.certificate is not None:
        found[edge_tls.LIST] = f"{_certificate(balance)}\n"
    if balance.page is not None:
        found[config.MAINTENANCE_PAGE] = balance.page
    return found


def instead(balance: Balance) -> str:
    """The edge's own text, with a cookie for each server where clients stay."""
    wanted = replace(balance.edge, listen=balance.listen, standalone=True)
    if balance.tls_listen is not None:
        wanted = _secured(balance, wanted, balance.tls_listen)
    servers = [
        config.Server(
            name=f"{pool.name}.{number}",
            backend=pool.name,
            address=where,
            cookie=f"{pool.name}{number}" if pool.sticky else None,
        )
        for pool in balance.pools
        for number, where in enumerate(pool.servers, 1)
    ]
    served = {pool.name for pool in balance.pools}
    backends = tuple(backend for backend in wanted.backends if backend.name in served)
    text = render.text(replace(wanted, backends=backends), servers)
    switch = f"{balance.at}/{config.MAINTENANCE_LIST}"
    return (
        f"# The stack {balance.stack}, instead of its edge: made by gapless render haproxy.\n"
        f'# Maintenance: "add acl {switch} on", or "del acl", at the stats socket;\n'
        f"# or that line in that file, and a reload.\n"
        f"{text}"
    )


def _secured(balance: Balance, wanted: config.Config, listen: str) -> config.Config:
    """With the edge's own TLS; its list of certificates is a file beside this one."""
    edge_tls.not_possible({"the folder": balance.at})
    port = int(listen.rpartition(":")[2])
    spoken = edge_tls.Tls(balance.at, certificates=(), name=balance.host, port=port)
    return replace(wanted, binds=(config.Bind(listen, tls=True),), tls=spoken)


def _certificate(balance: Balance) -> str:
    path = balance.certificate or ""
    edge_tls.not_possible({"--cert": path})
    return words.word(path).strip("'")


def front(balance: Balance) -> str:
    """A proxy before the stack's own edge."""
    (pool,) = balance.pools
    blocks = [_global(balance), _defaults(pool), _frontend(balance), _backend(balance, pool)]
    head = f"# The stack {balance.stack}, in front of its edge: made by gapless render haproxy.\n"
    return head + "\n\n".join("\n    ".join(block) for block in blocks) + "\n"


def _global(balance: Balance) -> list[str]:
    tls = edge_tls.policy_lines() if balance.certificate is not None else ()
    most = [f"maxconn {int(balance.maxconn)}"] if balance.maxconn else []
    return ["global", *most, "hard-stop-after 24h", *tls]


def _defaults(pool: Pool) -> list[str]:
    return [
        "defaults",
        "mode http",
        *render.manners(pool.timeout),
    ]


def _frontend(balance: Balance) -> list[str]:
    lines = ["frontend public", f"bind {words.quote(words.bind(balance.listen))}"]
    if balance.tls_listen is not None:
        certificate = words.word(balance.certificate or "")
        bind = words.quote(words.bind(balance.tls_listen))
        lines += [f"bind {bind} ssl crt {certificate} alpn h2,http/1.1", *_redirect(balance)]
    return [
        *lines,
        "http-request del-header Forwarded",
        "http-request del-header Proxy",
        "http-request del-header X-Forwarded-Prefix",
        "http-request set-header X-Forwarded-For %[src]",
        "http-request set-header X-Real-IP %[src]",
        "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "http-request set-header X-Forwarded-Proto http if !{ ssl_fc }",
        "http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        "http-request set-header X-Forwarded-Port %[dst_port]",
        "http-request set-header X-Request-ID %[uuid()]",
        "default_backend edge",
    ]


def _redirect(balance: Balance) -> list[str]:
    port = (balance.tls_listen or "").rpartition(":")[2]
    there = "scheme https"
    if port != "443":
        there = f"prefix https://%[req.hdr(host),host_only]:{int(port)}"
    return [
        f"http-request redirect {there} code 301 if METH_GET !{{ ssl_fc }}",
        f"http-request redirect {there} code 308 unless {{ ssl_fc }}",
    ]


def _backend(balance: Balance, pool: Pool) -> list[str]:
    announce = " send-proxy-v2" if balance.announce else ""
    return [
        "backend edge",
        "balance leastconn",
        # The edge keeps unused connections far longer than this proxy does; one that announces
        # its client is that client's alone.
        f"http-reuse {'never' if balance.announce else 'always'}",
        f"http-request disable-l7-retry unless {' or '.join(judging.REPEATABLE)}",
        *(
            f"server edge.{number} {words.quote(words.address(where))} check inter 1s"
            f" pool-purge-delay {judging.IDLE_SECONDS}s{announce}"
            for number, where in enumerate(pool.servers, 1)
        ),
    ]
