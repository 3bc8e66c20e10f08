"""Drill leak on real stacks, and its reading of what happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from gapless.drills import base, figures, leak, scratch, stage
from gapless.drills.leak import MEMORY, REQUESTS, Renewal
from gapless.drills.verdict import Traffic
from tests.drills import conftest, planted

QUICK = leak.Leaky(replicas=2, requests=700)


@contextmanager
def leaking(rounds: int, fault: str | None = None) -> Iterator[scratch.Scratch]:
    with conftest.state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        options = base.Options(rounds=rounds)
        with scratch.stack("leaks", home / "source", lambda _: None, QUICK, options) as made:
            yield made


def test_it_holds_for_memory_and_for_requests() -> None:
    with leaking(2) as probes:
        outcome = leak.attack(probes)
    assert outcome.reasons == ()
    assert outcome.detail["renewals"][MEMORY] >= 1
    assert outcome.detail["renewals"][REQUESTS] >= 1
    assert outcome.traffic.requests >= 100


def test_it_fails_where_a_limit_kills_at_once() -> None:
    with leaking(1, "kills-at-limit") as probes:
        outcome = leak.attack(probes)
    assert outcome.traffic.failed > 0
    assert any("requests failed" in one for one in outcome.reasons), outcome.reasons


def event(what: str, cause: str = "", outcome: str = "done") -> dict[str, Any]:
    return {"at": 0.0, "actor": "", "what": what, "cause": cause, "outcome": outcome}


OVER = "web.1@r1 is over its memory limit (60M of 48M)"
SOUND = (
    event("web.1@r1 start", "up 1"),
    event("web.1@r1 enter edge", "it is ready"),
    event("web.1@r1.2 start", OVER),
    event("web.1@r1.2 enter edge", "it is ready"),
    event("web.1@r1 leave edge", OVER),
    event("web.1@r1 stop", "nothing in flight"),
    event("web.2@r1 leave edge", "deploy 2"),
)


def test_the_journal_tells_who_was_renewed_and_whether_his_successor_was_there() -> None:
    assert leak.read(SOUND) == ((Renewal("web.1@r1", MEMORY, True),), ())
    without = [one for one in SOUND if one["what"] != "web.1@r1.2 enter edge"]
    assert leak.read(without) == ((Renewal("web.1@r1", MEMORY, False),), ())
    due = [event("web.2@r1 leave edge", "web.2@r1 has answered 500 requests")]
    assert leak.read(due)[0] == (Renewal("web.2@r1", REQUESTS, False),)
    refused = [event("web.2@r1 leave edge", OVER, "the edge refused")]
    assert leak.read(refused) == ((), ())
    died = [event("web.1@r1.2 start", "web.1@r1 ended: killed by signal 9")]
    assert leak.read(died)[1] == ("web.1@r1 ended: killed by signal 9",)


TRAFFIC = Traffic(requests=5_000, handovers=3, seconds=30.0, sockets=figures.Sockets())
TABLE = leak.Table(
    TRAFFIC,
    3,
    (
        Renewal("web.1@r1", MEMORY, True),
        Renewal("web.3@r1", MEMORY, True),
        Renewal("web.2@r1", REQUESTS, True),
    ),
    (),
    4,
    4,
)


def changed(number: int, **change: Any) -> leak.Table:
    renewals = list(TABLE.renewals)
    renewals[number] = replace(renewals[number], **change)
    return replace(TABLE, renewals=tuple(renewals))


FAULTS = [
    (replace(TABLE, traffic=replace(TRAFFIC, failed=1, kinds={"cut": 1})), "1 of 5,000 requests"),
    (replace(TABLE, wanted=4), "only 3 of 4 renewals"),
    (replace(TABLE, renewals=TABLE.renewals[2:] * 3), "no replica was renewed for its memory"),
    (replace(TABLE, renewals=TABLE.renewals[:1] * 3), "for the requests that it had answered"),
    (changed(0, first=False), "gone before its successor served: web.1@r1"),
    (changed(1, id="web.4@r1"), "though it does not leak: web.4@r1"),
    (replace(TABLE, died=("web.1@r1 ended: killed by signal 9",)), "died instead"),
    (replace(TABLE, least=3), "only 3 of 4 were ready"),
]


@pytest.mark.parametrize(("table", "reason"), FAULTS)
def test_planted(table: leak.Table, reason: str) -> None:
    assert leak.judge(TABLE) == ()
    assert any(reason in one for one in leak.judge(table)), leak.judge(table)
