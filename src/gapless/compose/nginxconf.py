"""What an nginx configuration passes on to which service, where that is all that it does."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};\"'#]+")
_PASS = re.compile(r"http://([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?/?")
_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_ELSE = frozenset({"root", "alias", "fastcgi_pass", "uwsgi_pass", "grpc_pass", "return", "rewrite",
                   "try_files", "auth_basic", "deny", "allow", "ssl_certificate", "if",
                   "include_regex", "proxy_cache", "limit_req", "stub_status"})  # fmt: skip
"""Directives that say what the edge would not do by itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for ``path`` at ``hosts`` (none: any) go to a service's port."""

    hosts: tuple[str, ...]
    path: str
    service: str
    port: int


@dataclass(slots=True)
class _Block:
    words: list[str]
    body: list[_Block] | None = None


def read(text: str) -> list[Rule]:
    """The rules, or none where it does more (or where it cannot be read)."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith("#")]
    tree = _tree(tokens)
    if tree is None:
        return []
    blocks = list(_flat(tree))
    upstreams: dict[str, list[str]] = {}
    for block in blocks:
        if block.words[:1] == ["upstream"] and len(block.words) == 2:
            upstreams[block.words[1]] = [
                one.words[1]
                for one in block.body or []
                if one.words[:1] == ["server"] and one.words[1:]
            ]
    rules: list[Rule] = []
    for block in blocks:
        if block.words == ["server"] and block.body is not None:
            found = _server(block.body, upstreams)
            if found is None:
                return []
            rules += found
    return rules


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
        elif not name or name[0] in _ELSE:
            return None
    return rules


def _location(
    block: _Block, hosts: tuple[str, ...], upstreams: dict[str, list[str]]
) -> Rule | None:
    words = block.words[1:]
    path = words[-1] if words and words[0] not in ("~", "~*") else ""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path):
        return None
    target = None
    for one in block.body or []:
        if one.words[:1] == ["proxy_pass"] and len(one.words) == 2:
            target = one.words[1]
        elif not one.words or one.words[0] in _ELSE:
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
