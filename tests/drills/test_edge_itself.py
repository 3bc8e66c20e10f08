"""The drills of the edge's own promises, on real stacks: sound ones, and ones with a fault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gapless.drills import (
    base,
    blow,
    edge_crash,
    edge_reload,
    editions,
    maintenance,
    mix,
    run,
    scratch,
    waiters,
)
from gapless.drills.base import Outcome
from gapless.drills.verdict import Traffic
from gapless.edge import asking
from tests.drills.conftest import engine, quick


def drill(name: str, on: scratch.Scratch) -> Outcome:
    return run.perform(name, on.target, on.options, on.paths, on.say)


def test_maintenance_holds_and_is_off_after_it(sound: scratch.Scratch) -> None:
    outcome = drill("maintenance", sound)
    assert outcome.reasons == ()
    assert outcome.traffic.requests >= 100
    assert outcome.detail["page"]["shown"] > 0
    held = outcome.detail["held"]
    assert (held["restarted"], held["gone"]) == (3, maintenance.CLIENTS)
    state = sound.settle()
    assert not state.maintenance
    assert not (sound.paths.state / "drill").exists()


def test_edge_reload_holds(sound: scratch.Scratch) -> None:
    before = sound.settle()
    outcome = drill("edge-reload", sound)
    assert outcome.reasons == ()
    own, probes = outcome.detail["parts"]
    assert own["taken"] == 2
    assert own["waited"] == {"clients": 2 * waiters.CLIENTS, "cut": 0}
    assert probes["sockets"]["connected"] > 0
    assert probes["sockets"]["told"] == 0
    assert probes["waited"] == {"clients": 2 * waiters.CLIENTS, "cut": 0}
    assert sound.settle().edge_pid == before.edge_pid
    assert not (sound.paths.state / "drill-engines").exists()


def test_edge_reload_tells_that_no_other_program_has_taken_over(
    sound: scratch.Scratch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(edge_reload, "PATIENCE", 0.2)
    edge = asking.Asking(sound.paths.run, sound.paths.stack)
    for both in (editions.Binaries(tmp_path), editions.Images("lb:2", "shop")):
        assert not both.is_second(os.getpid())
        fault = edge_reload.upgraded(edge, edge_reload.worker(edge), both)
        assert fault == "another program has not taken over"


def test_edge_crash_holds_and_tells_what_it_cost(sound: scratch.Scratch) -> None:
    before = sound.settle()
    outcome = drill("edge-crash", sound)
    assert outcome.reasons == ()
    assert len(outcome.detail["crashes"]) == 2
    assert outcome.detail["refused"] == 0
    after = sound.settle()
    assert after.edge_pid != before.edge_pid
    assert len(after.serving("web")) == len(before.serving("web"))


@pytest.fixture(scope="module")
def bad_edge() -> Iterator[scratch.Scratch]:
    """A stack whose edge has all faults that do not hide each other."""
    with quick("bad-edge") as made:
        made.options = replace(made.options, rounds=1, requests=60)
        yield made


def test_maintenance_fails_on_a_bad_page(bad_edge: scratch.Scratch) -> None:
    """And on a hold that lets nobody wait: 503 at once."""
    measured, faults = maintenance.switched(bad_edge, chosen(bad_edge))
    page = maintenance.sort(measured, faults)
    held = maintenance.Held(9, 0, 3, 9, 9, 0, 8, 0, "served")
    reasons = maintenance.judge(maintenance.Table(Traffic(), page, held))
    assert "the load never met the page" in reasons
    assert any(one.startswith("page: no answer") for one in reasons), reasons
    assert page.broken["5xx"] > 0


def test_edge_reload_fails_where_idle_clients_are_cut(bad_edge: scratch.Scratch) -> None:
    """Who waited on a kept connection, and asks on it after the reload."""
    part = edge_reload.own(bad_edge, chosen(bad_edge))
    assert part.taken == bad_edge.options.rounds == 1
    assert part.waited.cut > 0
    reasons = edge_reload.judge(edge_reload.Table((part,)))
    assert any("on which they had waited" in one for one in reasons), reasons


def test_edge_crash_fails_where_servers_are_lost(
    bad_edge: scratch.Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test with this stack: nothing is served any more."""
    monkeypatch.setattr(blow, "PATIENCE", 4.0)
    crash = edge_crash.strike(bad_edge, chosen(bad_edge))
    reasons = edge_crash.judge(edge_crash.Table(Traffic(requests=9), (crash,), 1, 0))
    assert any("served again" in one for one in reasons), reasons


def test_maintenance_fails_on_a_hold_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And on one that does what nobody waits for any more."""
    monkeypatch.setattr(maintenance, "PATIENCE", 3.0)
    settings = scratch.Settings(replicas=1, start="20s", ledger=True)
    with (
        engine("bad-hold") as home,
        scratch.stack("probes", home / "source", print, settings, base.Options()) as probes,
    ):
        gone, ghosts = maintenance.deserted(probes, chosen(probes))
        alone = maintenance.orphaned(probes, chosen(probes))
    held = maintenance.Held(9, 0, 3, 9, 9, 0, gone, ghosts, alone)
    reasons = maintenance.judge(maintenance.Table(Traffic(), maintenance.Page((), 1, {}), held))
    assert ghosts == gone == maintenance.CLIENTS
    assert alone.startswith("lost")
    assert len(reasons) == 2


def chosen(on: scratch.Scratch) -> mix.Mix:
    return mix.choose(on.target, on.settle(), on.options)


def test_a_failure_outside_of_every_outage_is_found() -> None:
    crashes = [edge_crash.Crash(0.1, 0.1, at=100.0, until=100.2)]
    inside = {"sent": 99.9, "at": 100.01}
    late = {"sent": 103.0, "at": 103.1}
    early = {"sent": 90.0, "at": 90.1}
    assert edge_crash.outside(1, [inside], crashes) == 0
    assert edge_crash.outside(3, [inside, late, early], crashes) == 2
    assert edge_crash.outside(2, [inside], crashes) == 1
    table = edge_crash.Table(Traffic(requests=9), tuple(crashes), 1, outside=1)
    assert "while an edge served" in edge_crash.judge(table)[0]
