"""Rendered files as texts: what is in them, and what can never be."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.edge import config, words
from gapless.errors import UsageError
from gapless.model.process import Address
from gapless.model.stack import Stack
from gapless.stackfile import reference
from gapless.targets import ask, balance, haproxy, keys, nginx
from tests.edge.test_config import NASTY
from tests.targets import programs

TABLE: dict[str, Any] = {
    "gapless": 1,
    "name": "demo",
    "service": {
        "web": {"run": "a ${socket}", "sticky": "cookie", "ready": "/ready", "timeout": "7s"},
        "api": {"run": "a ${socket}", "route": {"path": "/api", "host": "*.example.com"}},
        "v2": {"run": "a ${port}", "route": {"path": "/api/v2", "host": "a.example.com"}},
        "work": {"run": "celery"},
    },
    "edge": {"allow": ["10.0.0.0/8", "::1"]},
}
UPSTREAMS = ask.upstreams(
    ["web=10.0.0.5:8001,unix:/run/web.1@r1.sock", "api=[::1]:9000", "v2=v2.internal:80"]
)
INSTEAD = ask.Ask(at="/etc/demo", upstreams=UPSTREAMS, page="<h1>$soon; {}</h1>")
FRONT = ask.Ask(at="/etc/demo")
SECURE = {"certificate": "/etc/demo/site.pem", "key": "/etc/demo/site.key"}


def _stack(**more: object) -> Stack:
    return Stack.model_validate({**TABLE, **more})


def _files(target: str, wanted: balance.Balance) -> dict[str, str]:
    return nginx.files(wanted) if target == "nginx" else haproxy.files(wanted)


# -- the table of keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [entry.key for entry in reference.entries()])
def test_every_key_of_the_file_has_a_fate(key: str) -> None:
    """A new key needs a line in ``targets/keys.py``: KEYS, or ELSEWHERE if it is no balancer's."""
    assert keys.row(key) is not None


def test_what_nobody_thought_of_is_refused_and_not_dropped() -> None:
    """The planted fault: a key that the table lacks."""
    wanted = balance.of_stack(_stack(), INSTEAD)
    for unknown in ("edge.novelty", "service.NAME.novelty", "novelty"):
        (line, *_) = keys.report("nginx", wanted, [(unknown, unknown)])
        assert (line.key, line.kind) == (unknown, "refused")


def test_the_report_follows_the_file() -> None:
    tree = {
        "name": "demo",
        "x-own": 1,
        "service": {"web": {"run": "a", "sticky": "cookie"}, "work": {"scale": {"max": 3}}},
        "edge": {"allow": ["::1"]},
    }
    said = list(keys.said(tree, ["web"]))
    assert ("service.NAME.sticky", "service.web.sticky") in said
    assert not any("work" in written for _, written in said)
    wanted = balance.of_stack(_stack(), INSTEAD)
    fates = {line.key: line.kind for line in keys.report("nginx", wanted, said)}
    assert fates["service.web.sticky"] == "emulated"
    assert "service.web.run" not in fates
    assert "name" not in fates
    fates = {line.key: line.kind for line in keys.report("haproxy", wanted, said)}
    assert fates["service.web.sticky"] == "kept"


def test_a_private_service_cannot_be_reached_instead() -> None:
    stack = Stack.model_validate(
        {
            "gapless": 1,
            "name": "demo",
            "service": {
                "web": {"run": "a ${socket}"},
                "in": {"run": "b ${socket}", "route": False},
            },
        }
    )
    instead = replace(INSTEAD, upstreams=ask.upstreams(["web=10.0.0.5:1"]))
    for wanted, kind in ((instead, "refused"), (FRONT, "kept")):
        lines = keys.report("haproxy", balance.of_stack(stack, wanted), [])
        assert [line.kind for line in lines if line.key == "service.in"] == [kind]


def test_passwords_are_in_no_file_and_their_pages_are_shut() -> None:
    edge = {"private": {"/admin": "OPS", "/metrics": ["10.0.0.0/8"]}}
    instead = replace(INSTEAD, upstreams=ask.upstreams(["web=10.0.0.5:1"]))
    stack = _stack(service={"web": {"run": "a ${socket}", "private": "EVE"}}, edge=edge)
    for target in ("nginx", "haproxy"):
        wanted = balance.of_stack(stack, instead)
        lines = keys.report("nginx" if target == "nginx" else "haproxy", wanted, [])
        assert [line.kind for line in lines if line.key == "logins"] == ["refused"]
        text = "".join(_files(target, wanted).values())
        assert "OPS" not in text
        assert "EVE" not in text
        assert "hmac" not in text
        if target == "nginx":
            # Nobody is near enough.
            assert text.count('10.0.0.0/8 "";') == 1
            assert text.count("return 403;") == 3
        assert balance.of_stack(stack, FRONT).places == ()


# -- what stands behind ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "fault"),
    [
        (["web"], "cannot be read"),
        (["web="], "cannot be read"),
        (["web=a:1", "web=b:1"], "named twice"),
        (["web=a:1,a:1"], "stands there twice"),
        (["web=10.0.0.5"], "not an address"),
        (["web=10.0.0.5:0"], "not an address"),
        (["web=10.0.0.5:70000"], "not an address"),
        (["web=unix:/a b"], "not an address"),
        (["web=a;b:1"], "not an address"),
    ],
)
def test_addresses_that_make_no_sense(given_: list[str], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        ask.upstreams(given_)


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        (["web=a:1"], "no address for api, v2"),
        (["web=a:1", "api=a:1", "v2=a:1", "work=a:1"], "no published service work"),
        (["web=a:1", "edge=a:1"], "which stands behind"),
    ],
)
def test_each_published_service_needs_addresses(named: list[str], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        balance.of_stack(_stack(), replace(INSTEAD, upstreams=ask.upstreams(named)))


def test_in_front_the_edge_is_found_where_it_listens() -> None:
    for listen, there in (("*:8080", "127.0.0.1:8080"), ("[::]:81", "[::1]:81")):
        wanted = balance.of_stack(_stack(edge={"listen": listen}), FRONT)
        assert [str(where) for where in wanted.pools[0].servers] == [there]
        assert wanted.listen == "*:80"


# -- the way through the rules --------------------------------------------------------------------

_HOSTS = [None, "*.b.c", "a.b.c", "*.a.b.c", "x.a.b.c", "d"]
_PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c"]
RULES = st.lists(st.tuples(st.sampled_from(_PATHS), st.sampled_from(_HOSTS)), max_size=8)


@given(RULES, st.sampled_from(["a.b.c", "x.a.b.c", "y.b.c", "d", "e"]))
def test_the_longest_path_of_what_is_left_is_the_first_rule_that_holds(
    pairs: list[tuple[str, str | None]], host: str
) -> None:
    rules = sorted(
        (config.Rule(path, on, f"s{n}") for n, (path, on) in enumerate(pairs)),
        key=lambda rule: words.precedence(rule.path, rule.host),
    )
    names = nginx.hosts(rules)
    chosen = host if host in names else _wildcard(host, names)
    left = nginx.locations(rules, chosen)
    for path in ("/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/abc", "/a/b/c/d", "/e"):
        first = next((r for r in rules if _on(r.host, host) and _under(path, r.path)), None)
        longest = next((r for r in left if _under(path, r.path)), None)
        assert (first and (first.path.rstrip("/"), first.host)) == (
            longest and (longest.path.rstrip("/"), longest.host)
        )


def _wildcard(host: str, names: list[str | None]) -> str | None:
    """As nginx chooses among server names: the longest wildcard."""
    wild = [name for name in names if name and name.startswith("*") and host.endswith(name[1:])]
    return max(wild, key=len, default=None)


def _on(named: str | None, host: str) -> bool:
    return named is None or named == host or (named[0] == "*" and host.endswith(named[1:]))


def _under(path: str, rule: str) -> bool:
    stem = rule.rstrip("/")
    return path == stem or path.startswith(f"{stem}/")


# -- foreign values -------------------------------------------------------------------------------


def _shape(text: str) -> list[int]:
    """How many words each statement of an nginx file has, as nginx splits it."""
    shape, word, quote, count, at = [], False, "", 0, 0
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote, word = char, True
        elif char in " \t\r\n;{}" and not (char == "{" and text[at - 1] == "$"):
            count, word = count + word, False
            if char in ";{}":
                shape.append(count)
                count = 0
        else:
            word = True
        at += 1
    assert not quote
    return shape


@given(NASTY, NASTY, NASTY, NASTY)
def test_a_hostile_string_is_refused_or_one_word_of_nginx(
    path: str, host: str, allow: str, at: str
) -> None:
    plain = balance.of_stack(_stack(), INSTEAD)
    one = (config.Rule("/p", "h.example", "web"),)
    plain = replace(plain, rules=one)
    expected = _shape(nginx.site(plain))
    for hostile in (
        replace(plain, rules=(config.Rule(f"/p{path}", "h.example", "web"),)),
        replace(plain, rules=(config.Rule("/p", host or "h", "web"),)),
        replace(plain, allow=("10.0.0.0/8", allow)),
        replace(plain, at=f"/etc/{at}"),
        replace(plain, tls_listen="*:443", certificate=f"/etc/{at}", key=f"/k/{path}"),
    ):
        try:
            shape = _shape(nginx.site(hostile))
        except UsageError:
            continue
        if hostile.certificate is None and hostile.rules[0].host != "*":
            assert shape == expected


def test_the_planted_fault_is_found() -> None:
    """Without quotes, the same measure tells the difference."""
    plain = balance.of_stack(_stack(), INSTEAD)
    text = nginx.site(replace(plain, rules=(config.Rule("/p;q{", None, "web"),)))
    assert _shape(text.replace("'/p;q{'", "/p;q{")) != _shape(text)


def test_names_that_servers_cannot_have() -> None:
    plain = balance.of_stack(_stack(), INSTEAD)
    pool = plain.pools[0]
    for where, targets in (
        (Address(socket="/a;b"), ("nginx",)),  # HAProxy's quotes hold it
        (Address(socket="/a'b"), ("nginx", "haproxy")),
        (Address(host="a b", port=1), ("nginx", "haproxy")),
    ):
        for target in targets:
            with pytest.raises(UsageError):
                _files(target, replace(plain, pools=(replace(pool, servers=(where,)),)))


# -- the servers' own tests -----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["nginx", "haproxy"])
@pytest.mark.parametrize("wanted", [INSTEAD, FRONT, replace(FRONT, listen="127.0.0.1:8099")])
def test_the_server_itself_finds_nothing_wrong(
    target: str, wanted: ask.Ask, tmp_path: Path
) -> None:
    stack = _stack()
    local = replace(wanted, at=str(tmp_path))
    if target == "nginx" and wanted is FRONT and os.geteuid() != 0:
        pytest.skip("nginx -t binds what it is to listen on, and port 80 is closed to this user")
    if not local.front:  # names are looked up by both servers when they start
        local = replace(local, upstreams={**UPSTREAMS, "v2": (Address(host="127.0.0.1", port=9),)})
    programs.write(tmp_path, _files(target, balance.of_stack(stack, local)))
    assert programs.check(target, tmp_path) == ""


@pytest.mark.parametrize("target", ["nginx", "haproxy"])
def test_their_test_is_one(target: str, tmp_path: Path) -> None:
    files = _files(target, balance.of_stack(_stack(), replace(FRONT, at=str(tmp_path))))
    files = {
        name: text.replace("zone", "zune").replace("retries", "retrues")
        for name, text in files.items()
    }
    programs.write(tmp_path, files)
    assert re.search("zune|retrues", programs.check(target, tmp_path))
