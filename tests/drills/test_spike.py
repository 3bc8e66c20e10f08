"""Drill spike: its verdict over values, and the drill on sound and on faulty engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gapless.drills import base, scratch, spike, stage
from gapless.drills.base import Outcome
from gapless.drills.verdict import Traffic
from tests.drills import planted
from tests.drills.conftest import state

SOUND = spike.Table(
    traffic=Traffic(requests=2_000, handovers=3, seconds=30.0, p50=1.0, p99=5.0, baseline_p99=4.0),
    wanted=1_000,
    calm=2,
    peak=5,
    held=5,
    highest=5,
    final=(2, 2),
    followed=3.0,
    boot=1.0,
    fell=9.0,
)
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"traffic": replace(SOUND.traffic, failed=1, kinds={"cut": 1})}, "1 of 2,000 requests failed"),
    ({"wanted": 5_000}, "only 2,000 of 5,000"),
    ({"calm": 3}, "3 replicas before the spike instead of 2"),
    ({"peak": 4}, "4 replicas ready under the spike, 5 expected"),
    ({"held": 4}, "4 replicas wanted before fewer were enough"),
    ({"highest": 7}, "7 replicas wanted, 6 allowed"),
    ({"final": (3, 3)}, "3 wanted and 3 ready after the spike"),
    ({"final": (2, 1)}, "2 wanted and 1 ready after the spike"),
    ({"touched": ("web.1@r1",)}, "touched: web.1@r1"),
]


@pytest.mark.parametrize(("change", "reason"), FAULTS)
def test_the_verdict(change: dict[str, Any], reason: str) -> None:
    assert spike.judge(SOUND, strict=True) == ()
    found = spike.judge(replace(SOUND, **change))
    assert any(reason in one for one in found), found


def test_time_is_judged_only_when_strict() -> None:
    late = replace(SOUND, followed=6.1)
    assert spike.judge(late) == ()
    assert "replicas followed in 6.1 s: boot takes 1.0 s" in spike.judge(late, strict=True)[0]


def drilled(fault: str | None, patch: pytest.MonkeyPatch) -> Outcome:
    """The drill on a stack of its own, with short windows."""
    follow = 5.0 if fault == "never-scales" else 60.0  # boots take long on a busy machine
    for name, seconds in {"CALM": 1.0, "HOLD": 1.0, "FOLLOW": follow}.items():
        patch.setattr(spike, name, seconds)
    if fault is not None:
        patch.setattr(stage, "CLI", planted.command(fault, "cli"))
    with state() as home:
        patch.setenv("GAPLESS_STATE", str(home))
        folder = home / "source"
        source = spike.settings(scratch.MACHINE)
        with scratch.stack("probes", folder, _hear, source, base.Options()) as probes:
            return spike.attack(probes, 100)


def _hear(_: str) -> None:
    """Nobody watches."""


def test_replicas_follow_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = drilled(None, monkeypatch)
    assert outcome.reasons == ()
    assert outcome.traffic.handovers >= 3
    assert outcome.detail["fell_s"] >= spike.EARLY


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("never-scales", "2 replicas ready under the spike, 5 expected"),
        ("forgets-its-window", "before fewer were enough"),
        ("kills-first", "requests failed"),
    ],
)
def test_planted_faults(fault: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = drilled(fault, monkeypatch)
    assert any(reason in one for one in outcome.reasons), outcome.reasons
