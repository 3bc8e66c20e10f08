"""What an nginx configuration passes on to which service, where that is all that it does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gapless.compose.front import Rule

_TOKEN = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};\"'#]+")
_PASS = re.compile(r"http://([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?/?")
_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_SAME = frozenset(
    {"absolute_redirect", "access_log", "aio", "charset", "chunked_transfer_encoding",
     "default_type", "error_log", "http2", "large_client_header_buffers", "log_format",
     "log_not_found", "map_hash_bucket_size", "multi_accept", "pid", "port_in_redirect",
     "proxy_connect_timeout", "proxy_http_version", "proxy_read_timeout",
     "proxy_request_buffering", "proxy_send_timeout", "proxy_socket_keepalive", "resolver",
     "resolver_timeout", "send_timeout", "sendfile", "server_name", "server_tokens",
     "tcp_nodelay", "tcp_nopush", "types_hash_max_size", "use", "user", "worker_connections",
     "worker_processes", "worker_rlimit_nofile"}
)  # fmt: skip
_BEGIN = ("client_", "gzip", "keepalive", "open_file_cache", "proxy_buffer", "proxy_next_upstream")
"""Directives, and beginnings of them, that are of nginx's inside, or that the edge does as well.
What is not among them is something that would be lost."""
_INSIDE = frozenset({"events", "map", "types"})
_UPSTREAM = frozenset({"server", "keepalive", "least_conn", "zone", "random"})
_HEADERS = frozenset({"host", "x-real-ip", "upgrade", "connection", "x-nginx-proxy"})


@dataclass(slots=True)
class _Block:
    words: list[str]
    body: list[_Block] | None = None


def read(text: str) -> list[Rule] | None:
    """The rules; None where it does more, or where it cannot be read."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith("#")]
    tree = _tree(tokens)
    if tree is None:
        return None
    upstreams: dict[str, list[str]] = {}
    servers: list[list[_Block]] = []
    for block in _flat(tree):
        if block.words == ["server"] and block.body is not None:
            servers.append(block.body)
        elif block.words[:1] == ["upstream"] and len(block.words) == 2:
            body = block.body or []
            if any(not one.words or one.words[0] not in _UPSTREAM for one in body):
                return None
            upstreams[block.words[1]] = [
                one.words[1] for one in body if one.words[0] == "server" and one.words[1:]
            ]
        elif block.words[:1] != ["http"] and not _same(block):
            return None
    rules: list[Rule] = []
    for body in servers:
        found = _server(body, upstreams)
        if found is None:
            return None
        rules += found
    return rules


def _same(block: _Block) -> bool:
    """Whether nothing is lost without it."""
    name, values = "".join(block.words[:1]), block.words[1:]
    first = "".join(values[:1])
    match name:
        case "listen":
            return "ssl" not in values and "quic" not in values
        case "include":
            return first.endswith("mime.types") or first == "/etc/nginx/conf.d/*.conf"
        case "proxy_redirect":
            return values in (["off"], ["default"])
        case "proxy_set_header":
            return first.lower() in _HEADERS or first.lower().startswith("x-forwarded-")
    if block.body is not None:
        return name in _INSIDE
    return name in _SAME or name.startswith(_BEGIN)


def _tree(tokens: list[str]) -> list[_Block] | None:
    stack: list[list[_Block]] = [[]]
    words: list[str] = []
    for piece in tokens:
        if piece == ";":
            if words:
                stack[-1].append(_Block(words))
            words = []
        elif piece == "{":
            inner: list[_Block] = []
            stack[-1].append(_Block(words, inner))
            stack.append(inner)
            words = []
            if len(stack) > 20:
                return None
        elif piece == "}":
            if len(stack) == 1:
                return None
            stack.pop()
            words = []
        else:
            words.append(piece.strip("\"'"))
    return stack[0] if len(stack) == 1 else None


def _flat(blocks: list[_Block]) -> list[_Block]:
    """Blocks of the file and of its http part."""
    found: list[_Block] = []
    for block in blocks:
        found.append(block)
        if block.words == ["http"] and block.body is not None:
            found += block.body
    return found


def _server(body: list[_Block], upstreams: dict[str, list[str]]) -> list[Rule] | None:
    hosts = [
        word.lower()
        for block in body if block.words[:1] == ["server_name"]
        for word in block.words[1:]
        if re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", word.lower()) and word != "localhost"
    ]  # fmt: skip
    rules = []
    for block in body:
        name = block.words[:1]
        if name == ["location"]:
            rule = _location(block, tuple(hosts), upstreams)
            if rule is None:
                return None
            rules.append(rule)
        elif not _same(block):
            return None
    return rules


def _location(
    block: _Block, hosts: tuple[str, ...], upstreams: dict[str, list[str]]
) -> Rule | None:
    words = block.words[1:]
    path = words[-1] if words and words[0] not in ("~", "~*", "=") else ""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path):
        return None
    target = None
    for one in block.body or []:
        if one.words[:1] == ["proxy_pass"] and len(one.words) == 2:
            target = one.words[1]
        elif not _same(one):
            return None
    found = _PASS.fullmatch(target or "")
    # With a path behind the address nginx rewrites what it passes on; the edge does not.
    rewrites = (target or "").endswith("/") and path != "/"
    if found is None or rewrites:
        return None
    servers = upstreams.get(found[1])
    if servers is None:
        return Rule(hosts, path, found[1], int(found[2] or 80))
    first = _ADDRESS.fullmatch(servers[0]) if servers else None
    same = {server.partition(":")[0] for server in servers}
    if first is None or len(same) != 1:
        return None
    return Rule(hosts, path, first[1], int(first[2] or 80))
