"""Drill rate-limit on a real stack, and its verdict over planted values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gapless import errors
from gapless.drills import base, rate_limit, run, scratch
from gapless.drills.rate_limit import Client, Limit, Table
from gapless.model.limits import RateLimit
from gapless.model.stack import Stack
from tests.drills import conftest

QUICK = scratch.Settings(replicas=1, start="20s", watch="500ms", edge='rate_limit = "20/s"')
LIMIT = Limit("/", 100.0, 100, 1.0)
EAGER = Client(1_000, 4_000, bins=Counter(dict.fromkeys(range(40), 125)), seconds=10.0)
CALM = Client(500, 0, bins=Counter(dict.fromkeys(range(40), 12)), seconds=10.0)
SOUND = Table(LIMIT, EAGER, CALM)


def test_it_holds_on_a_real_stack() -> None:
    with conftest.engine(None) as home:
        options = base.Options(seconds=3.0)
        with scratch.stack("limited", home / "source", lambda _: None, QUICK, options) as made:
            outcome = run.perform("rate-limit", made.target, options, made.paths, made.say)
            tighter = edited(made.target, "10/s")
            with pytest.raises(errors.MissingSubject, match="r1 has other limits") as missing:
                run.perform("rate-limit", tighter, options, made.paths, made.say)
    assert missing.value.hint == "gapless deploy"
    assert outcome.reasons == ()
    assert outcome.traffic.failed == 0
    assert outcome.detail["refused"] > 50


def edited(target: base.Target, limit: str) -> base.Target:
    """With another limit in its file, which nobody has deployed."""
    edge = target.stack.edge.model_copy(update={"rate_limit": (RateLimit(rate=limit),)})
    return replace(target, stack=target.stack.model_copy(update={"edge": edge}))


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ({"eager": replace(EAGER, admitted=1_051, refused=3_949)}, "1,050 are allowed in 10.0 s"),
        ({"eager": replace(EAGER, admitted=949, refused=4_051)}, "950 should have"),
        ({"eager": replace(EAGER, admitted=100, refused=4_900)}, "950 should have"),
        ({"eager": replace(EAGER, admitted=1_000, refused=0)}, "not beyond the limit"),
        ({"eager": replace(EAGER, unsaid=1)}, "1 refusals did not say"),
        ({"eager": replace(EAGER, failed=Counter({"5xx": 2}))}, "2 requests of the client beyond"),
        ({"calm": replace(CALM, refused=1)}, "refused 1 of 501"),
        ({"calm": replace(CALM, failed=Counter({"reset": 1}))}, "below the limit failed (1 reset)"),
        ({"calm": Client()}, "second client sent nothing"),
    ],
)
def test_planted(planted: dict[str, Any], reason: str) -> None:
    assert rate_limit.judge(SOUND) == ()
    found = rate_limit.judge(replace(SOUND, **planted))
    assert any(reason in one for one in found), found


def test_a_client_that_stood_still_may_get_less() -> None:
    still = replace(EAGER, bins=EAGER.bins - Counter({12: 125, 13: 125}))
    assert rate_limit.bounds(LIMIT, still) == (522, 1_050)
    assert rate_limit.bounds(LIMIT, replace(EAGER, bins=Counter())) == (0, 1_050)


def target(edge: dict[str, Any]) -> base.Target:
    web = {"run": "x ${socket}"}
    stack = {"gapless": 1, "name": "demo", "service": {"web": web}, "edge": edge}
    return base.Target(Path("/nowhere"), None, Stack.model_validate(stack))


@pytest.mark.parametrize(
    ("edge", "missing"),
    [
        ({}, "no rate limit is set"),
        ({"rate_limit": "5/m"}, "within 5 s"),
        ({"rate_limit": "9000/s"}, "at most 600/s"),
        ({"rate_limit": {"rate": "5/s", "path": "/login"}}, "on a path"),
        ({"rate_limit": {"rate": "5/s", "method": "POST"}}, "on a path"),
        ({"rate_limit": {"rate": "5/s", "allow": ["127.0.0.0/8"]}}, "on a path"),
    ],
)
def test_without_a_subject_it_says_what_is_missing(edge: dict[str, Any], missing: str) -> None:
    with pytest.raises(errors.MissingSubject, match=missing):
        rate_limit.find(target(edge), ("/ready",))


def test_the_tightest_limit_counts() -> None:
    limits = ["100/s", {"rate": "20/s", "path": "/ready"}, {"rate": "1/s", "path": "/other"}]
    found = rate_limit.find(target({"rate_limit": limits}), ("/ready/x",))
    assert (found.count, found.rate) == (20, 20.0)
