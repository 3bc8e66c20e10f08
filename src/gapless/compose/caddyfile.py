"""What a Caddyfile passes on to which service, where that is all that it does."""

from __future__ import annotations

import re

from gapless.compose.front import Rule

_TARGET = re.compile(r"(?:http://)?([A-Za-z0-9_.-]+):([0-9]{1,5})")
_PATH = re.compile(r"(/[A-Za-z0-9._~/-]*)\*")
_HOST = re.compile(r"(?:https://)?([a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:443)?")
_ANY = re.compile(r"(https?://)?(localhost)?(:[0-9]+)?")
"""Sites of this machine, or of a port alone: any name."""
_SAME = frozenset({"encode", "log", "email", "admin"})
"""Directives that say what the edge does by itself."""


def read(text: str) -> list[Rule] | None:
    """The rules; None where it does more, or where it cannot be read."""
    lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines()]
    rules: list[Rule] = []
    inside: list[str] = []
    hosts: tuple[str, ...] | None = ()
    path: str | None = "/"
    for line in filter(None, lines):
        words = line.removesuffix("{").split()
        if line == "}" and inside:
            inside.pop()
            path = "/"
        elif line.endswith("{") and not inside:
            inside.append("site" if words else "options")
            hosts = named(words)
        elif line.endswith("{") and inside == ["site"] and words[:1] == ["handle"]:
            inside.append("handle")
            path = below(words[1:])
        elif words[:1] == ["reverse_proxy"] and "site" in inside and hosts is not None:
            rule = _rule(hosts, path, words[1:])
            if rule is None:
                return None
            rules.append(rule)
        elif not inside or line.endswith("{") or not same(words):
            return None
        if hosts is None or path is None:
            return None
    return None if inside else rules


def same(words: list[str]) -> bool:
    # "tls you@example.com" names the account; any other word there is another certificate.
    return words[0] in _SAME or (words[0] == "tls" and len(words) == 2 and "@" in words[1])


def named(words: list[str]) -> tuple[str, ...] | None:
    """Names of a site; None where there is one that has no certificate, or cannot be read."""
    found = []
    for word in (word.strip(",") for word in words):
        if _ANY.fullmatch(word):
            continue
        match = _HOST.fullmatch(word)
        if match is None:
            return None
        found.append(match[1])
    return tuple(found)


def below(words: list[str]) -> str | None:
    """A path with all below it: "/api/*". None: a matcher of another kind, or one page alone."""
    if words in ([], ["*"]):
        return "/"
    found = _PATH.fullmatch(words[0]) if len(words) == 1 else None
    return found and (found[1].rstrip("/") or "/")


def _rule(hosts: tuple[str, ...], path: str | None, words: list[str]) -> Rule | None:
    if len(words) == 2 and path == "/":
        path, words = below(words[:1]), words[1:]
    found = _TARGET.fullmatch(words[0]) if len(words) == 1 else None
    if found is None or path is None:
        return None
    return Rule(hosts, path, found[1], int(found[2]))
