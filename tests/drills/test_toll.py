"""Failures sorted by whom they can be blamed on, and the judges over blows and turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gapless.drills import crash, errors, figures, hang, toll
from gapless.drills.blow import Blow
from gapless.drills.toll import Toll
from gapless.drills.verdict import Traffic

BLOW = Blow("web.1@r1", 0.02, 0.05, 0.6, 0.6, boot=0.5, at=100.0, until=100.05)
GET = {"method": "GET", "sent": 99.9, "at": 100.1, "before_byte": True, "status": None}
POST = {**GET, "method": "POST"}


def sorted_(*failures: dict[str, Any], failed: int | None = None) -> Toll:
    return toll.sort(len(failures) if failed is None else failed, failures, (BLOW,))


def test_what_is_safe_to_repeat_has_no_excuse() -> None:
    assert sorted_(GET) == Toll(safe=1)
    assert sorted_({**GET, "status": 502, "before_byte": False}) == Toll(safe=1)
    assert sorted_({**GET, "method": "OPTIONS"}) == Toll(safe=1)


def test_an_answer_that_had_begun_is_cut_by_a_blow_alone() -> None:
    begun = {**GET, "before_byte": False}
    assert sorted_(begun) == Toll(cut=1)
    assert sorted_({**begun, "sent": 100.2, "at": 100.3}) == Toll(safe=1)
    assert sorted_({**begun, "sent": 98.0, "at": 99.0}) == Toll(safe=1)


def test_what_may_not_be_repeated_is_lost_only_in_the_victims_hands() -> None:
    assert sorted_(POST) == Toll(lost=1)
    assert sorted_({**POST, "status": 502, "before_byte": False}) == Toll(lost=1)
    assert sorted_({**POST, "sent": 100.2, "at": 100.3}) == Toll(stray=1)
    assert sorted_({**POST, "sent": 98.0, "at": 99.0}) == Toll(stray=1)


def test_what_nobody_looked_at_is_counted() -> None:
    assert sorted_(POST, failed=3) == Toll(lost=1, untold=2)


SOUND = Traffic(requests=2_000, failed=6, kinds={"cut": 6}, seconds=9.0)
ONCE = crash.Once(requests=200, failed=4, done=200, twice=0)
HERD = crash.Herd(900, Toll(cut=1, lost=3), BLOW)
CRASH = crash.Table(SOUND, Toll(cut=4, lost=2), (BLOW,), 1, ONCE, HERD, 7, 7)
HANG = hang.Table(SOUND, Toll(cut=4, lost=2), (BLOW,), 1, (), 7, 7)


def test_sound_tables_hold() -> None:
    assert crash.judge(CRASH, strict=True) == ()
    assert hang.judge(HANG, strict=True) == ()


BOTH: list[tuple[dict[str, Any], str]] = [
    ({"traffic": replace(SOUND, requests=0)}, "not one request"),
    ({"traffic": replace(SOUND, unknown=2)}, "unknown outcome"),
    ({"traffic": replace(SOUND, sockets=figures.Sockets(refused=1))}, "could not connect"),
    ({"toll": Toll(safe=1)}, "safe to repeat"),
    ({"toll": Toll(stray=1)}, "no struck replica's hands"),
    ({"toll": Toll(untold=1)}, "too many"),
    ({"blows": ()}, "only 0 of 1"),
    ({"blows": (replace(BLOW, gone=None),)}, "has not ended"),
    ({"blows": (replace(BLOW, away=None),)}, "stayed in rotation"),
    ({"blows": (replace(BLOW, full=None),)}, "not filled"),
    ({"blows": (replace(BLOW, overlap=True),)}, "beside its successor"),
    ({"edge_after": 8}, "edge's pid"),
]


@pytest.mark.parametrize(("change", "reason"), BOTH)
def test_faults_of_blows(change: dict[str, Any], reason: str) -> None:
    for reasons in (crash.judge(replace(CRASH, **change)), hang.judge(replace(HANG, **change))):
        assert any(reason in one for one in reasons), reasons


ONLY_CRASH: list[tuple[crash.Once | None, str]] = [
    (None, "not tried"),
    (replace(ONCE, twice=1), "done twice"),
    (replace(ONCE, done=0), "recorded nothing"),
    (replace(ONCE, failed=0), "nothing was in flight"),
    (replace(ONCE, done=150), "196 were answered, 150 recorded"),
]


@pytest.mark.parametrize(("once", "reason"), ONLY_CRASH)
def test_faults_of_crash(once: crash.Once | None, reason: str) -> None:
    assert any(reason in one for one in crash.judge(replace(CRASH, once=once)))


ALL_AT_ONCE: list[tuple[crash.Herd | None, str]] = [
    (None, "all die at once was not tried"),
    (replace(HERD, toll=Toll(safe=1)), "all at once: 1 requests failed that are safe to repeat"),
    (replace(HERD, toll=Toll(stray=2)), "all at once: 2 requests failed"),
    (replace(HERD, blow=replace(BLOW, full=None)), "its place was not filled"),
]


@pytest.mark.parametrize(("herd", "reason"), ALL_AT_ONCE)
def test_faults_where_all_die_at_once(herd: crash.Herd | None, reason: str) -> None:
    assert any(reason in one for one in crash.judge(replace(CRASH, herd=herd)))


def test_what_stays_stopped_is_named() -> None:
    assert "web.2@r1" in hang.judge(replace(HANG, left=("web.2@r1",)))[0]


def test_times_of_blows_are_judged_only_when_strict() -> None:
    late = replace(CRASH, blows=(replace(BLOW, away=1.2, full=1.6),))
    assert crash.judge(late) == ()
    assert ["1.20 s in rotation" in one for one in crash.judge(late, strict=True)] == [True, False]
    unmeasured = replace(CRASH, blows=(replace(BLOW, boot=None),))
    assert "not measured" in crash.judge(unmeasured, strict=True)[0]
    slow = replace(HANG, blows=(replace(BLOW, away=3.1),))
    assert hang.judge(slow) == ()
    assert "3.10 s in rotation" in hang.judge(slow, strict=True)[0]


TURNS = tuple(
    errors.Turn(case, 50, {"5xx": 4} if how == "bad" else {}, away=1.0, back=2.0)
    for case, how, _ in errors.CASES
)
ERRORS = errors.Table(Traffic(requests=150, failed=8), TURNS)


def test_sound_turns_hold() -> None:
    assert errors.judge(ERRORS, strict=True) == ()
    assert errors.judge(replace(ERRORS, turns=TURNS[:2])) == (f"{TURNS[2].case}: not tried",)


TURN_FAULTS: list[tuple[int, dict[str, Any], str]] = [
    (0, {"requests": 0}, "not one request"),
    (0, {"away": None}, "stayed in rotation"),
    (0, {"back": None}, "did not return"),
    (0, {"again": False}, "did not return"),
    (0, {"failed": {"5xx": 21}}, "21 bad answers"),
    (0, {"failed": {}}, "no bad answer"),
    (0, {"failed": {"5xx": 4, "cut": 1}}, "1 of 50 requests failed"),
    (0, {"others": ("web.2:r1",)}, "others left rotation"),
    (2, {"failed": {"5xx": 1}}, "1 bad answers reached clients, 0 allowed"),
]


@pytest.mark.parametrize(("number", "change", "reason"), TURN_FAULTS)
def test_faults_of_turns(number: int, change: dict[str, Any], reason: str) -> None:
    turns = list(TURNS)
    turns[number] = replace(turns[number], **change)
    found = errors.judge(replace(ERRORS, turns=tuple(turns)))
    assert any(one.startswith(turns[number].case) and reason in one for one in found), found


def test_times_of_turns_are_judged_only_when_strict() -> None:
    turns = (replace(TURNS[0], away=2.5), *TURNS[1:])
    assert errors.judge(replace(ERRORS, turns=turns)) == ()
    assert "2.50 s in rotation" in errors.judge(replace(ERRORS, turns=turns), strict=True)[0]
