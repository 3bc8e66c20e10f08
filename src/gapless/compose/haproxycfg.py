"""What a haproxy.cfg passes on to which service, where that is all that it does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from gapless.compose.front import HOST, PATH, Rule

_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+):([0-9]{1,5})")
_BIND = re.compile(r"(\*|[0-9.]+|\[::\]|:::?)?:[0-9]{1,5}")
_SAME = frozenset(
    {"accepted_payload_size", "chroot", "compression", "daemon", "default-server", "description",
     "fullconn", "group", "hold", "http-check", "http-reuse", "id", "log", "log-format", "log-tag",
     "master-worker", "maxconn", "nameserver", "nbproc", "nbthread", "parse-resolv-conf",
     "pidfile", "resolve_retries", "retries", "stats", "timeout", "ulimit-n", "user"}
)  # fmt: skip
_BEGIN = ("tune.", "ssl-default-", "ca-base", "crt-base", "no log")
_OPTIONS = frozenset(
    {"httplog", "tcplog", "dontlognull", "forwardfor", "http-server-close", "redispatch", "httpchk",
     "http-keep-alive", "log-health-checks", "dontlog-normal", "httpclose", "splice-auto",
     "prefer-last-server", "abortonclose", "contstats"}
)  # fmt: skip
"""Directives and options that are of HAProxy's inside, or that the edge does as well."""
_BALANCES = frozenset({"roundrobin", "static-rr", "leastconn", "first", "random"})
_SECTIONS = frozenset({"global", "defaults", "frontend", "backend", "listen", "resolvers"})


@dataclass(slots=True)
class _Section:
    """``lines``: the words of each."""

    kind: str
    name: str
    lines: list[list[str]] = field(default_factory=list)

    def all(self, key: str) -> Iterator[list[str]]:
        return (words[1:] for words in self.lines if words[0] == key)


_Match = tuple[tuple[str, ...], tuple[str, ...]]
"""Hosts and paths, each empty for any."""


def read(text: str) -> list[Rule] | None:
    """The rules; None where it does more, or where it cannot be read."""
    try:
        sections = list(_sections(text))
    except ValueError:
        return None
    if any(not _known(one, words) for one in sections for words in one.lines):
        return None
    fronts = [one for one in sections if one.kind in ("frontend", "listen") and not _pages(one)]
    backends = {one.name: one for one in sections if one.kind in ("backend", "listen")}
    if len(fronts) != 1:
        return None
    asked = _asked(fronts[0])
    if asked is None:
        return None
    rules: list[Rule] = []
    for (hosts, paths), name in asked:
        target = _target(backends[name]) if name in backends else None
        if target is None:
            return None
        rules += [Rule(hosts, path, *target) for path in paths or ("/",)]
    return None if _otherwise(rules) else rules


def _sections(text: str) -> Iterator[_Section]:
    found: _Section | None = None
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] in _SECTIONS:
            if found is not None:
                yield found
            found = _Section(words[0], "".join(words[1:2]))
        elif words and found is None:
            raise ValueError(words[0])
        elif words and found is not None:
            found.lines.append(words)
    if found is not None:
        yield found


def _pages(section: _Section) -> bool:
    """Whether it shows HAProxy's own pages, and passes nothing on."""
    keys = {words[0] for words in section.lines}
    return "stats" in keys and not keys & {"server", "server-template", "default_backend"}


def _known(section: _Section, words: list[str]) -> bool:
    """Whether nothing is lost without it, or it is read."""
    key, values = words[0], words[1:]
    match key:
        case "mode":
            return values == ["http"]
        case "bind":
            return len(values) == 1 and bool(_BIND.fullmatch(values[0]))
        case "option":
            return values[:1] != [] and values[0] in _OPTIONS
        case "balance":
            return values[:1] != [] and values[0] in _BALANCES
        case "http-request":
            name = values[1].lower() if values[:1] == ["set-header"] and values[1:] else ""
            return name.startswith("x-forwarded-") or name == "x-real-ip"
        case "cookie":
            return "insert" in values
        case "acl" | "use_backend" | "default_backend" | "server" | "server-template":
            return True
    return key in _SAME or " ".join(words).startswith(_BEGIN)


def _asked(front: _Section) -> list[tuple[_Match, str]] | None:
    """What is asked, in turn, and the backend for it."""
    lists: dict[str, _Match] = {}
    for name, *test in front.all("acl"):
        found = _test(test)
        held = lists.get(name, found)
        if found is None or held is None or bool(found[0]) != bool(held[0]):
            return None
        # Of one name twice either will do.
        lists[name] = (tuple({*held[0], *found[0]}), tuple({*held[1], *found[1]}))
    made: list[tuple[_Match, str]] = []
    for name, *condition in front.all("use_backend"):
        if condition[:1] not in ([], ["if"]):
            return None
        for one in _alternatives(condition[1:]):
            match = _all(one, lists)
            if match is None:
                return None
            made.append((match, name))
    made += [(((), ()), words[0]) for words in front.all("default_backend") if words]
    if front.kind == "listen":
        made.append((((), ()), front.name))
    return made


def _alternatives(condition: list[str]) -> Iterator[list[str]]:
    found: list[str] = []
    for word in condition:
        if word in ("||", "or"):
            yield found
            found = []
        else:
            found.append(word)
    yield found


def _all(words: list[str], lists: dict[str, _Match]) -> _Match | None:
    """What must all be true; None where that is no host and path."""
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    while words:
        if words[0] == "{" and "}" in words:
            end = words.index("}")
            found, words = _test(words[1:end]), words[end + 1 :]
        else:
            found, words = lists.get(words[0]), words[1:]
        if found is None or (hosts and found[0]) or (paths and found[1]):
            return None
        hosts, paths = hosts or found[0], paths or found[1]
    return hosts, paths


def _test(words: list[str]) -> _Match | None:
    method, values = "".join(words[:1]), [word for word in words[1:] if word not in ("-i", "--")]
    if method in ("hdr(host)", "req.hdr(host)") and all(HOST.fullmatch(v.lower()) for v in values):
        return (tuple(value.lower() for value in values), ()) if values else None
    if method in ("path_beg", "path_dir") and all(PATH.fullmatch(value) for value in values):
        return ((), tuple(value.rstrip("/") or "/" for value in values)) if values else None
    return None


def _otherwise(rules: list[Rule]) -> bool:
    """Whether the first that fits is another one than the edge would take: it looks for a host's
    own rule first, then for the longest path.
    """

    def rank(rule: Rule) -> tuple[bool, int]:
        return len(rule.hosts) != 1, -len(rule.path.rstrip("/"))

    return any(
        first.service != other.service and _meet(first, other) and rank(first) >= rank(other)
        for first, other in combinations(rules, 2)
    )


def _meet(one: Rule, other: Rule) -> bool:
    """Whether a request can be for both."""
    a, b = (f"{rule.path.rstrip('/')}/" for rule in (one, other))
    hosts = not one.hosts or not other.hosts or bool({*one.hosts} & {*other.hosts})
    return hosts and (a.startswith(b) or b.startswith(a))


def _target(backend: _Section) -> tuple[str, int, bool] | None:
    """(service, port, whether clients stay where they are) of all servers; None: of several."""
    found = set()
    for words in backend.all("server"):
        found.add("".join(words[1:2]))
    for words in backend.all("server-template"):
        found.add("".join(words[2:3]))
    address = _ADDRESS.fullmatch(found.pop()) if len(found) == 1 else None
    if address is None:
        return None
    return address[1], int(address[2]), any(True for _ in backend.all("cookie"))
