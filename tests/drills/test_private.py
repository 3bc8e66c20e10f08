"""Drill private on a real stack, sound and with guards that miss something, and its verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gapless import errors
from gapless.drills import base, private, run, scratch
from gapless.drills.private import Table
from gapless.drills.state import Service, State
from gapless.model.private import Private
from gapless.model.stack import Stack
from tests.drills import conftest

EDGE = """private = { "/admin" = "OPS", "/admin/open" = false, "/ready" = ["10.0.0.0/8"] }"""
QUICK = scratch.Settings(replicas=1, start="20s", watch="200ms", edge=EDGE)
SOUND = Table(40, guesses=(401,) * 10 + (429,))


def drilled(
    fault: str | None, monkeypatch: pytest.MonkeyPatch, undeployed: str = ""
) -> base.Outcome:
    """``undeployed``: what it says where the file has become another one than what runs."""
    monkeypatch.setenv("OPS", "a password of some length")
    with conftest.engine(fault) as home:
        options = base.Options()
        with scratch.stack("shut", home / "source", lambda _: None, QUICK, options) as made:
            outcome = run.perform("private", made.target, options, made.paths, made.say)
            if undeployed:
                with pytest.raises(errors.MissingSubject, match=undeployed) as missing:
                    run.perform("private", edited(made.target), options, made.paths, made.say)
                assert missing.value.hint == "gapless deploy"
    return outcome


def edited(target: base.Target) -> base.Target:
    """With a private service in its file, which nobody has deployed."""
    table = Private(allow=("10.0.0.0/8",))
    web = target.stack.services["web"].model_copy(update={"private": table})
    return replace(target, stack=target.stack.model_copy(update={"services": {"web": web}}))


def test_it_holds_on_a_real_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = drilled(None, monkeypatch, undeployed="r1 has other private pages than the file")
    assert outcome.reasons == ()
    assert outcome.traffic.requests == 2 * 14 + 11
    assert outcome.detail["guesses"] == (401,) * 10 + (429,)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("reads-paths-as-sent", "/admin: //admin was answered"), ("counts-no-guess", "and no 429")],
)
def test_it_fails_on_a_planted_fault(
    fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = drilled(fault, monkeypatch).reasons
    assert any(reason in one for one in reasons), reasons


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ({"open": (("/a", "//a", 200),)}, "/a: //a was answered 200"),
        ({"open": (("/a", "/a", 404),)}, "was answered 404"),
        ({"unasked": ("/a",)}, "/a: 401 does not say how to log in"),
        ({"guesses": (401, 200, 429)}, "a wrong password was answered 200"),
        ({"guesses": (401,) * 11}, "11 wrong passwords in a row, and no 429"),
        ({"asked": 0}, "nothing was asked"),
    ],
)
def test_planted(planted: dict[str, Any], reason: str) -> None:
    assert private.judge(SOUND) == ()
    assert private.judge(replace(SOUND, guesses=None)) == ()
    found = private.judge(replace(SOUND, **planted))
    assert any(reason in one for one in found), found


def target(edge: dict[str, Any], **service: Any) -> base.Target:
    web = {"run": "x ${socket}", **service}
    stack = {"gapless": 1, "name": "demo", "service": {"web": web}, "edge": edge}
    return base.Target(Path("/nowhere"), None, Stack.model_validate(stack))


RUNS = State(1, "", None, {"web": Service("web", 1, 1)}, (), {})


def test_what_it_asks_for() -> None:
    places = {"/a": "X", "/a/b": False, "/c": ["127.0.0.0/8"], "/d": ["127.0.0.4"]}
    made = target({"private": places}, private={"login": "Y"}, route={"host": "*.example.com"})
    assert private.subject(made, RUNS) == "/a, /d, web"
    found = {page.name: page for page in private.pages(made)}
    assert found["web"].host == "gapless-drill.example.com"
    assert private.stranger(found["/c"].table) is None
    assert private.stranger(found["/d"].table) == "127.0.0.5"
    assert "/%61" in private.ways(found["/a"])
    assert private.ways(found["/a"], ["/a/gapless-drill"]) != private.ways(found["/a"])
    assert private.ways(found["web"]) == ["/", "/gapless-drill", "/gapless-drill?a=b"]


@pytest.mark.parametrize("edge", [{}, {"private": {"/c": ["127.0.0.0/8"]}}])
def test_without_a_subject_it_says_what_is_missing(edge: dict[str, Any]) -> None:
    with pytest.raises(errors.MissingSubject, match="nothing of this stack is private"):
        private.subject(target(edge), RUNS)
