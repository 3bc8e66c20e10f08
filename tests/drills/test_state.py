"""The stack as values: what a status becomes, and what is compared."""

from __future__ import annotations

from typing import Any

from gapless.drills import state as states
from gapless.drills.state import State


def status(*replicas: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A status of one service that wants two replicas."""
    ready = sum(one["state"] == "ready" for one in replicas)
    service = {"name": "web", "desired": 2, "ready": ready, "drift": None, "replicas": replicas}
    edge = {"url": "http://127.0.0.1:8080", "state": "running", "pid": 5}
    whole = {"release": "r4", "edge": edge, "services": [service], "data": [], "rollout": None}
    return {**whole, **more}


def one(name: str, state: str = "ready", pid: int = 10, **more: Any) -> dict[str, Any]:
    return {"id": name, "state": state, "release": "r4", "pid": pid, "started_at": 1.0, **more}


TWO = State.of_status(status(one("web.1@r4", pid=10), one("web.2@r4", pid=11)))


def test_releases_are_numbers() -> None:
    assert TWO.release == 4
    assert {r.release for r in TWO.replicas} == {4}


def test_settled_means_exactly_what_is_wanted() -> None:
    assert TWO.settled
    web = (one("web.1@r4"), one("web.2@r4"))
    assert not State.of_status(status(web[0])).settled
    assert not State.of_status(status(*web, one("web.1@r3", "draining"))).settled
    assert not State.of_status(status(*web, rollout={"id": 1})).settled
    assert not State.of_status(status(*web, data=[{"name": "db", "state": "starting"}])).settled
    assert State.of_status(status(*web, one("web.1@r3", "stopped"))).settled


def test_a_handover_is_a_replica_that_serves_no_more() -> None:
    after = State.of_status(status(one("web.1@r5", pid=20), one("web.2@r4", pid=11)))
    assert states.handovers(TWO, after) == 1
    assert states.handovers(TWO, TWO) == 0
    parked = State.of_status(status(one("web.1@r4", "parked", 10), one("web.2@r4", pid=11)))
    assert states.handovers(TWO, parked) == 1


def test_lost_is_by_process_not_by_name() -> None:
    again = State.of_status(status(one("web.1@r4", pid=99), one("web.2@r4", pid=11)))
    assert states.lost(TWO, again) == ("web.1@r4",)
    assert states.lost(TWO, TWO) == ()
    later = State.of_status(status(one("web.1@r4", started_at=9.0), one("web.2@r4", pid=11)))
    assert states.lost(TWO, later) == ("web.1@r4",)
    nudged = State.of_status(status(one("web.1@r4", started_at=1.01), one("web.2@r4", pid=11)))
    assert states.lost(TWO, nudged) == ()


def test_doubles() -> None:
    double = State.of_status(status(one("web.1@r4"), one("web.1@r5"), one("web.2@r5")))
    assert states.doubles(double) == ("web.1",)
    assert states.doubles(TWO) == ()
