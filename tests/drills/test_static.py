"""The drill ``static`` on real stacks: sound, without old files, with files given to replicas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gapless import errors
from gapless.drills import base, scratch, static
from gapless.drills.state import Service, State
from gapless.drills.verdict import Traffic
from gapless.model.stack import Stack
from tests.drills import conftest

FILES = replace(conftest.QUICK, replicas=1, watch="200ms", drain="1s", static=True, sticky=False)
PLANTED = [
    ("forgets-old-files", "a page of the old release found no file of its own"),
    ("files-last", "did not go to files"),
    ("keeps-by-name", "found no file of its own (the new page, after deploy 1)"),
]


def test_it_holds_and_puts_back() -> None:
    """Both halves of it on one stack, which publishes what the probe service does anyway."""
    with conftest.engine(None) as home:
        options = base.Options(requests=100)
        with scratch.stack("probes", home / "source", print, FILES, options) as probes:
            before = probes.settle()
            own = static.on_stack(probes)
            old = static.attack(probes)
            after = probes.settle()
    assert (own.reasons, old.reasons) == ((), ())
    assert own.detail["counted"] >= own.traffic.requests >= 100
    assert set(old.detail["old"].values()) == {200}
    assert (after.release, after.edge_pid) == (before.release, before.edge_pid)


@pytest.mark.parametrize(("fault", "reason"), PLANTED)
def test_it_fails_on_a_planted_fault(fault: str, reason: str) -> None:
    with conftest.engine(fault) as home:
        options = base.Options(requests=100)
        with scratch.stack("probes", home / "source", print, FILES, options) as probes:
            outcome = static.attack(probes)
    assert not outcome.held
    assert any(reason in one for one in outcome.reasons), outcome.reasons


def test_without_a_folder_there_is_nothing_to_prove() -> None:
    table = {"run": "app ${socket}"}
    stack = Stack.model_validate({"gapless": 1, "name": "x", "service": {"web": table}})
    runs = State(1, "", None, {"web": Service("web", 1, 1)}, (), {})
    with pytest.raises(errors.MissingSubject, match="publishes no folder"):
        static.subject(base.Target(Path("gapless.toml"), None, stack), runs)


def test_a_wrong_count_is_a_reason() -> None:
    traffic = Traffic(requests=10, handovers=1)
    table = static.Table(traffic, 10, sent=10, counted=10)
    assert static.judge(table) == ()
    assert any("did not go" in one for one in static.judge(replace(table, counted=9)))
    assert any("replicas got 1" in one for one in static.judge(replace(table, replicas=1)))
    assert any("404" in one for one in static.judge(replace(table, old={"then": 404})))
    assert "type" in static.judge(replace(table, faults=("type",)))
