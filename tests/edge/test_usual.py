"""An ordinary request leaves a list of rules early: none that is left behind is for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gapless.edge import (
    awaiting,
    config,
    forwarded,
    hostile,
    limits,
    private,
    queueing,
    render,
    tls,
)
from gapless.edge.cors import Cors
from gapless.edge.redirects import Redirect
from gapless.edge.shared import Shared
from tests.edge import stand

PLAIN = replace(stand.CONFIG, access_log=True)
GUARD = private.Guard(("10.0.0.1",), (private.Login("ops", "OPS", "a2V5", "00ff"),))
RATES = replace(PLAIN, limits=limits.Limits((limits.Rate(1, 1.0),)))
SECURE = tls.Tls("/c", ("own",), "a.example", 8443, "max-age=1", challenge=True)
RICH = {
    "plain": PLAIN,
    "rates": RATES,
    "connections": replace(PLAIN, limits=limits.Limits(connections=5)),
    "private": replace(PLAIN, private=private.Private((private.Place("/p", GUARD),))),
    "guarded": replace(PLAIN, backends=(replace(stand.backend("web"), guard=GUARD),)),
    "proxies": replace(PLAIN, proxies=forwarded.Proxies(("10.0.0.0/8",))),
    "cors": replace(PLAIN, cors=Cors(("https://a.example",), "/p", ("GET",))),
    "redirects": replace(PLAIN, redirects=(Redirect("/old", "/new", 301),)),
    "shared": replace(PLAIN, shared=Shared(("a.example",), parting=True)),
    "tls": replace(PLAIN, tls=SECURE, binds=(config.Bind("127.0.0.1:8443", tls=True),)),
    "maintenance": replace(PLAIN, allow=("10.0.0.1",), maintenance_page="<p>back soon"),
    "body": replace(PLAIN, backends=(replace(stand.backend("web"), body=1_000),)),
    "queue": replace(
        PLAIN, backends=(replace(stand.backend("web"), queue=queueing.Queue(concurrency=2)),)
    ),
    "routes": replace(
        PLAIN,
        rules=(*PLAIN.rules, config.Rule("/api", None, "api")),
        backends=(*PLAIN.backends, stand.backend("api")),
    ),
    "all": replace(
        RATES,
        cors=Cors((), "/"),
        redirects=(Redirect("/old", "/new", 301),),
        proxies=forwarded.Proxies(("10.0.0.0/8",), announce=True),
        tls=SECURE,
    ),
    "standalone": replace(PLAIN, standalone=True),
}
NEVER_USUAL = ("{ var(txn.odd) -m bool }", "{ var(txn.gapless_hold) -m found }")
"""Set of no ordinary request: each of the two is set under the word that says so."""
WAITING = ("http-request disable-l7-retry unless METH_GET or ", "http-request wait-for-body ")
"""What is left to a backend for others: a GET may be repeated, and has no body."""


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and rules about requests, of each section that knows ordinary ones."""
    for block in text.split("\n\n"):
        kind, _, name = block.partition("\n")[0].partition(" ")
        rules = [line.strip() for line in block.splitlines() if "http-request " in line]
        if kind in ("frontend", "backend") and any(hostile.USUAL in rule for rule in rules):
            yield name, rules


def overlooked(text: str) -> list[str]:
    """Rules behind the way out that are for ordinary requests as well."""
    found = []
    for _, rules in sections(text):
        if rules.count(hostile.LEAVE) == 0:
            continue
        at = rules.index(hostile.LEAVE)
        said = rules[:at]
        for rule in rules[at + 1 :]:
            others = any(test in rule for test in (hostile.UNUSUAL, *NEVER_USUAL))
            sets = rule.startswith(
                f"http-request set-var(txn.odd) bool(true) unless {hostile.USUAL}"
            )
            if not (others or sets or rule in said or rule.startswith(WAITING)):
                found.append(rule)
    return found


@pytest.mark.parametrize("name", RICH)
def test_no_rule_for_all_is_left_behind(name: str) -> None:
    assert overlooked(render.text(RICH[name])) == []


def test_what_sets_the_words_of_others_asks_first() -> None:
    text = render.text(RICH["all"])
    assert f"lua.gapless_hold if {hostile.UNUSUAL} held" in text
    assert f"set-var(txn.odd) bool(true) unless {hostile.USUAL} or " in text


def planted(name: str) -> set[str]:
    """What is found where ordinary requests leave before everything else."""
    found = []
    for line in render.text(RICH[name]).splitlines():
        found.append(line)
        if line.strip().startswith(("http-request set-var(txn.usual)", "http-reuse ")):
            found.append(f"    {hostile.LEAVE}")
    return set(overlooked("\n".join(found)))


@pytest.mark.parametrize("name", [*RICH])
def test_planted_a_way_out_before_all(name: str) -> None:
    """The same check finds whatever else each of these stacks asks of everybody."""
    alike = ("plain", "maintenance", "routes", "standalone")
    assert planted("plain")
    assert (planted(name) <= planted("plain")) == (name in alike)


def test_who_is_ordinary_may_be_repeated_and_has_no_body() -> None:
    [rule] = [
        line for line in render.text(PLAIN).splitlines() if "set-var(txn.usual) bool(true)" in line
    ]
    tests = rule.partition(" if ")[2].split()
    for needed in ("METH_GET", "plain-url", "plain-host", "new", "!telling", "!long-url"):
        assert needed in tests
    for time in ("!retired", "!held", "!maintenance", "!full"):
        assert time in tests
    assert " or " not in rule
    assert "||" not in rule


def test_waiting_for_a_service_that_has_nobody_is_no_rule_of_other_requests() -> None:
    """But for the last line of servers, all that an ordinary request passes is the same text. (The
    floor has more patience, for who is waited for.)"""
    for name, wanted in RICH.items():
        never = awaiting.Await(0.0)
        without = replace(wanted, backends=tuple(replace(b, wait=never) for b in wanted.backends))
        other = [
            block
            for block in blocks(wanted)
            if not block[0].startswith(
                (f"frontend {awaiting.SECTION}", f"backend {awaiting.AGAIN}")
            )
        ]
        way = f"    server {awaiting.SERVER} "
        cut = [[line for line in block if not line.startswith(way)] for block in other]
        served = [block for block in cut[1:] if config.FLOOR not in block[0]]
        assert served == [block for block in blocks(without)[1:] if config.FLOOR not in block[0]], (
            name
        )
        ends = [block[-1].startswith(way) for block in other if len(block) > 1]
        assert any(ends) == (not wanted.standalone), name


def blocks(wanted: config.Config) -> list[list[str]]:
    return [block.splitlines() for block in render.text(wanted).strip().split("\n\n")]


def test_headers_are_told_once_to_whom_the_list_goes_on_for() -> None:
    """Behind the rule that takes away what clients claim, and what was said before it."""
    for name, wanted in RICH.items():
        rules = dict(sections(render.text(wanted)))[config.PUBLIC]
        told = [at for at, rule in enumerate(rules) if "-header X-Forwarded-Port " in rule]
        stripped = next(at for at, rule in enumerate(rules) if "del-header '^(" in rule)
        assert [at > stripped for at in told].count(True) == 1, name
