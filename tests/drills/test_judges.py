"""Every judge holds on a sound table and fails, with the reason, on each planted value."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from gapless.drills import (
    bad_deploy,
    base,
    config,
    controller,
    deploy,
    figures,
    rivalry,
    rollback,
    run,
    scale,
    siblings,
    singleton,
    spread,
    sticky,
    verdict,
)
from gapless.drills.verdict import Traffic

SOUND = Traffic(
    requests=20_000,
    handovers=6,
    slow_begun=10,
    slow_done=10,
    seconds=30.0,
    p50=1.0,
    p99=5.0,
    baseline_p99=4.0,
    sockets=figures.Sockets(clients=50, connected=98, told=48, moved=48, open=50),
)
FAILED = replace(SOUND, failed=1, kinds={"reset": 1})
TRAFFIC_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"failed": 1, "kinds": {"cut": 1}}, "1 of 20,000 requests failed (1 cut)"),
    ({"unknown": 3}, "3 requests have an unknown outcome"),
    ({"requests": 0}, "not one request"),
    ({"requests": 999}, "only 999 of 1,000"),
    ({"slow_done": 9}, "1 of 10 slow ones cut"),
    ({"sockets": figures.Sockets(clients=50, connected=50, dropped=2)}, "2 sockets dropped"),
    ({"sockets": figures.Sockets(clients=50, connected=50, refused=1)}, "could not connect"),
    ({"sockets": figures.Sockets(clients=50)}, "no socket ever connected"),
]


@pytest.mark.parametrize(("change", "reason"), TRAFFIC_FAULTS)
def test_traffic(change: dict[str, Any], reason: str) -> None:
    assert base.traffic_reasons(SOUND, 1_000, strict=True) == ()
    found = base.traffic_reasons(replace(SOUND, **change), 1_000, strict=False)
    assert any(reason in one for one in found)


def test_times_are_judged_only_when_strict() -> None:
    slow = replace(SOUND, p99=8.1)
    assert base.traffic_reasons(slow, 1, strict=False) == ()
    assert "more than 2 times" in base.traffic_reasons(slow, 1, strict=True)[0]
    unmeasured = replace(SOUND, p99=None)
    assert base.traffic_reasons(unmeasured, 1, strict=True) == ("p99 was not measured",)


DEPLOY = deploy.Table(SOUND, 1_000, {"web": 3}, {"web": 3}, 7, 7)
ROLLBACK = rollback.Table(SOUND, 1_000, {"web": (4,)}, {"web": (4,)}, 4, 4, (5, 6))
CONFIG = config.Table(SOUND, 1_000, "config-1", {"web.1@r5": "config-1"}, 4, 4)
SCALE = scale.Table(SOUND, 1_000, ((5, 5), (3, 3)), (), 3, 3)
SPREAD = spread.Table(SOUND, 1_000, {"web.1@r1": 1000, "web.2@r1": 1050, "web.3@r1": 1100})
COOKIES = figures.Cookies(300, 0, 0, {"replica 1": 100, "replica 2": 95, "replica 3": 105})
STICKY = sticky.Table(SOUND, COOKIES, 0, 90, 40, 7, 7, (), replicas=3)
KILL = controller.Kill("while idle", (), (), (), {}, 7, 7)
CONTROLLER = controller.Table(SOUND, (KILL, replace(KILL, when="after step 3")), 1)
FAULTS = tuple(
    bad_deploy.Fault(mode, 4, f"deploy: {word}", 900, failed, (), 1, 1)
    for mode, word, failed in (
        ("crash", "exit code 3", {}),
        ("never-ready", "GET /ready: 503", {}),
        ("bad", "5xx", {"5xx": 20}),
    )
)
BAD = bad_deploy.Table(replace(SOUND, failed=20), FAULTS)


def fault(mode: str, **change: Any) -> bad_deploy.Table:
    """The sound table with one fault's values changed."""
    return replace(
        BAD, faults=tuple(replace(one, **change) if one.mode == mode else one for one in FAULTS)
    )


def kill(**change: Any) -> controller.Table:
    return replace(CONTROLLER, kills=(replace(KILL, **change),))


def cookies(**change: Any) -> sticky.Table:
    return replace(STICKY, cookies=replace(COOKIES, **change))


PLANTED: list[tuple[str, Any, Any, str]] = [
    ("deploy", DEPLOY, replace(DEPLOY, traffic=FAILED), "1 reset"),
    ("deploy", DEPLOY, replace(DEPLOY, ready_after={"web": 2}), "ready replicas"),
    ("deploy", DEPLOY, replace(DEPLOY, edge_after=8), "edge's pid"),
    ("deploy", DEPLOY, replace(DEPLOY, traffic=replace(SOUND, handovers=0)), "no replica was"),
    ("rollback", ROLLBACK, replace(ROLLBACK, traffic=FAILED), "failed"),
    ("rollback", ROLLBACK, replace(ROLLBACK, release_after=5), "release: 4 before, 5 after"),
    ("rollback", ROLLBACK, replace(ROLLBACK, vector_after={"web": (4, 5)}), "by service"),
    ("rollback", ROLLBACK, replace(ROLLBACK, between=(4,)), "no other release"),
    ("config", CONFIG, replace(CONFIG, traffic=FAILED), "failed"),
    ("config", CONFIG, replace(CONFIG, seen={"web.1@r5": None}), "without the new value"),
    ("config", CONFIG, replace(CONFIG, seen={}), "no replica was looked at"),
    ("config", CONFIG, replace(CONFIG, release_after=5), "release"),
    ("scale", SCALE, replace(SCALE, traffic=FAILED), "failed"),
    ("scale", SCALE, replace(SCALE, touched=("web.1@r1",)), "touched: web.1@r1"),
    ("scale", SCALE, replace(SCALE, counts=((5, 4),)), "4 instead of 5"),
    ("scale", SCALE, replace(SCALE, desired_after=5), "wanted replicas"),
    ("scale", SCALE, replace(SCALE, drift_after=True), "set by hand"),
    ("spread", SPREAD, replace(SPREAD, traffic=FAILED), "failed"),
    ("spread", SPREAD, replace(SPREAD, served={"a": 100, "b": 130}), "spread 26%"),
    ("spread", SPREAD, replace(SPREAD, served={}), "nothing to compare"),
    ("spread", SPREAD, replace(SPREAD, traffic=replace(SOUND, requests=999)), "only 999"),
    ("sticky", STICKY, cookies(moved=1), "1 times a client was moved"),
    ("sticky", STICKY, cookies(clients=299), "only 299"),
    ("sticky", STICKY, cookies(without=2), "2 clients got no"),
    ("sticky", STICKY, cookies(by={"a": 150, "b": 150}), "2 of 3 replicas"),
    ("sticky", STICKY, cookies(by={"a": 80, "b": 100, "c": 120}), "spread 40%"),
    ("sticky", STICKY, replace(STICKY, harmed=1), "forged or stale cookies failed"),
    ("sticky", STICKY, replace(STICKY, stale_sent=0), "no stale cookie"),
    ("sticky", STICKY, replace(STICKY, edge_after=8), "edge's pid"),
    ("sticky", STICKY, replace(STICKY, touched=("web.2@r1",)), "touched"),
    ("controller", CONTROLLER, replace(CONTROLLER, traffic=FAILED), "failed"),
    ("controller", CONTROLLER, kill(lost=("web.1@r1",)), "while idle: lost: web.1@r1"),
    ("controller", CONTROLLER, kill(orphans=("pid 9",)), "orphans: pid 9"),
    ("controller", CONTROLLER, kill(doubles=("web.1",)), "doubles: web.1"),
    ("controller", CONTROLLER, kill(missing={"web": 1}), "web (-1)"),
    ("controller", CONTROLLER, kill(edge_after=8), "edge pid"),
    ("controller", CONTROLLER, replace(CONTROLLER, kills=()), "never killed"),
    ("controller", CONTROLLER, replace(CONTROLLER, during=0), "no kill met a deploy"),
    ("controller", CONTROLLER, replace(CONTROLLER, broken="web: not ready"), "failed by itself"),
    ("bad-deploy", BAD, fault("crash", exit=0), "crash: exit 0 instead of 4"),
    ("bad-deploy", BAD, fault("crash", failed={"5xx": 1}), "crash: 1 of 900"),
    ("bad-deploy", BAD, fault("never-ready", failed={"cut": 1}), "never-ready: 1 of 900"),
    ("bad-deploy", BAD, fault("never-ready", message="failed"), "cause is not named"),
    ("bad-deploy", BAD, fault("bad", failed={"5xx": 21}), "21 bad answers"),
    ("bad-deploy", BAD, fault("bad", failed={"5xx": 3, "cut": 1}), "bad: 1 of 900"),
    ("bad-deploy", BAD, fault("bad", touched=("web.1@r1",)), "old replicas were touched"),
    ("bad-deploy", BAD, fault("bad", release_after=2), "release"),
    ("bad-deploy", BAD, fault("bad", requests=0), "not one request"),
    ("bad-deploy", BAD, replace(BAD, faults=FAULTS[:2]), "bad: not tried"),
    ("bad-deploy", BAD, replace(BAD, traffic=replace(SOUND, unknown=1)), "unknown outcome"),
]


SINGLETON = singleton.Table(
    rounds=tuple(
        singleton.Round(kind, f"beat.1@r1.{n}", f"beat.1@r1.{n + 1}", 0.5)
        for n, kind in enumerate(rivalry.kinds(10), 1)
    ),
    wanted=10,
    leaders=singleton.Leaders((1.1, 1.2), 1, 1, ((1, 100), (2, 90), (3, 20))),
    own=(siblings.Own("beat", (0.4, 0.5, 0.4), 100, 1),),
)
LED = SINGLETON.leaders
assert LED is not None
NOBODY = replace(SINGLETON.rounds[0], after="", gap=None)
LATE = replace(SINGLETON.rounds[0], gap=5.1)


def led(**change: Any) -> singleton.Table:
    assert LED is not None
    return replace(SINGLETON, leaders=replace(LED, **change))


def owned(**change: Any) -> singleton.Table:
    return replace(SINGLETON, own=(replace(SINGLETON.own[0], **change),))


PLANTED += [
    ("singleton", SINGLETON, replace(SINGLETON, wanted=11), "only 10 of 11 rounds"),
    ("singleton", SINGLETON, replace(SINGLETON, rounds=SINGLETON.rounds[:1] * 10), "not tried"),
    ("singleton", SINGLETON, replace(SINGLETON, overlaps=("a still wrote",)), "two at once: a"),
    ("singleton", SINGLETON, replace(SINGLETON, refusals=("b found it held",)), "two at once: b"),
    ("singleton", SINGLETON, replace(SINGLETON, intruders=("a second controller",)), "second con"),
    ("singleton", SINGLETON, replace(SINGLETON, rounds=(*SINGLETON.rounds, NOBODY)), "nobody held"),
    ("singleton", SINGLETON, led(runs=((1, 9), (2, 1), (1, 1))), "1 writes with token 1 after"),
    ("singleton", SINGLETON, led(runs=((1, 9),)), "no second leader"),
    ("singleton", SINGLETON, led(late=0), "nothing was refused"),
    ("singleton", SINGLETON, led(gaps=(1.0, None)), "1 times nobody led again"),
    ("singleton", SINGLETON, owned(most=2), "beat: 2 at once"),
    ("singleton", SINGLETON, owned(most=0), "none of its processes"),
    ("singleton", SINGLETON, owned(gaps=(0.4, None, 0.5)), "not ready again after 1 of 3"),
]


@pytest.mark.parametrize(("name", "sound", "planted", "reason"), PLANTED)
def test_planted(name: str, sound: Any, planted: Any, reason: str) -> None:
    judge: Any = run.DRILLS[name]
    assert judge.judge(sound) == ()
    found = judge.judge(planted)
    assert any(reason in one for one in found), found


def test_takeovers_are_judged_only_when_strict() -> None:
    slow = replace(SINGLETON, rounds=(*SINGLETON.rounds[1:], LATE))
    assert singleton.judge(slow) == ()
    assert "5.1 s until the next held" in singleton.judge(slow, strict=True)[0]
    assert "5.2 s until the next led" in singleton.judge(led(gaps=(5.2,)), strict=True)[0]
    # Nobody was there to start the next one: that takes as long as somebody takes to come.
    alone = replace(SINGLETON.rounds[5], gap=7.0)
    assert alone.kind == "controller killed"
    assert singleton.judge(replace(SINGLETON, rounds=(*SINGLETON.rounds, alone)), strict=True) == ()


ELSEWHERE = {
    "backlog": "test_backlog",
    "connections": "test_connections",
    "crash": "test_toll",
    "edge-crash": "test_edge_itself",
    "edge-reload": "test_edge_itself",
    "errors": "test_toll",
    "hang": "test_toll",
    "leak": "test_leak",
    "maintenance": "test_edge_itself",
    "private": "test_private",
    "rate-limit": "test_rate_limit",
    "spike": "test_spike",
    "static": "test_static",
    "tls": "test_tls",
}
"""Drills whose judges have a module of tests to themselves."""


def test_every_drill_has_planted_faults() -> None:
    assert {name for name, *_ in PLANTED} | set(ELSEWHERE) == set(run.DRILLS)
    for name in ELSEWHERE.values():
        assert importlib.util.find_spec(f"tests.drills.{name}")


def test_an_outcome_holds_only_without_reasons_and_bounds_only_without_failures() -> None:
    sound = base.Outcome("deploy", (), SOUND, {"rounds": 1})
    assert sound.held
    document = sound.as_json()
    assert document["held"] is True
    assert document["bound"]["per_handover"] == pytest.approx(0.5, rel=0.01)
    assert document["detail"] == {"reasons": [], "rounds": 1}
    broken = base.Outcome("deploy", verdict.lossless(FAILED), FAILED)
    assert not broken.held
    assert broken.as_json()["bound"] == {"per_request": None, "per_handover": None}
