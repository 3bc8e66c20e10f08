"""Who the client is for nginx, and what services are told. Pure."""

from __future__ import annotations

from gapless.edge.forwarded import Proxies
from gapless.targets import nginx_words as words

_CLAIMS = (
    ("proto", "X-Forwarded-Proto", "https?", "$scheme"),
    ("host", "X-Forwarded-Host", ".+", "$http_host"),
    ("port", "X-Forwarded-Port", "[0-9]{1,5}", "$server_port"),
    ("id", "X-Request-ID", "[A-Za-z0-9._:-]{1,128}", "$request_id"),
)
"""Short name, header, what a trusted proxy may say, and what is said else."""


def server(proxies: Proxies) -> list[str]:
    """Makes ``$remote_addr`` the client's address."""
    if not proxies.trusted:
        return []
    source = "proxy_protocol" if proxies.announce else "X-Forwarded-For"
    return [
        *(f"set_real_ip_from {words.network(network)};" for network in proxies.trusted),
        f"real_ip_header {source};",
        "real_ip_recursive on;",
    ]


def maps(stack: str, proxies: Proxies) -> list[str]:
    """For ``http``: what stands of a trusted proxy's claims."""
    if not _believed(proxies):
        return []
    proxied = f"${words.name(stack, 'proxied')}"
    lines = [
        f"geo $realip_remote_addr {proxied} {{",
        "    default 0;",
        *(f"    {words.network(network)} 1;" for network in proxies.trusted),
        "}",
    ]
    for short, header, form, own in _CLAIMS:
        claim = f"$http_{header.lower().replace('-', '_')}"
        lines += [
            f'map "{proxied}:{claim}" ${words.name(stack, "told", short)} {{',
            f"    '~^1:(?<{words.name(stack, 'claimed', short)}>{form})$'"
            f" ${words.name(stack, 'claimed', short)};",
            f"    default {own};",
            "}",
        ]
    return lines


def told(stack: str, proxies: Proxies) -> list[str]:
    """Header and value, for ``proxy_set_header``; of a client's own claims nothing is left."""
    believed = _believed(proxies)
    return [
        "Host $http_host",
        "X-Forwarded-For $remote_addr",
        "X-Real-IP $remote_addr",
        *(
            f"{header} ${words.name(stack, 'told', short)}" if believed else f"{header} {own}"
            for short, header, _, own in _CLAIMS
        ),
        'X-Forwarded-Prefix ""',
        'Forwarded ""',
        'Proxy ""',
    ]


def _believed(proxies: Proxies) -> bool:
    """Who announces clients by the PROXY protocol knows nothing of HTTP, and says nothing in it."""
    return bool(proxies.trusted) and not proxies.announce
