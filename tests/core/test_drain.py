"""How a replica goes away, one act at a time."""

from __future__ import annotations

from dataclasses import replace

from gapless.core import drain, plan
from gapless.model.desired import Generation
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import EdgeServer, Replica

SERVICE = Service.model_validate({"run": "serve --uds ${socket}", "drain": "20s"})
OUT = EdgeServer("web.1.r1", "web", "maint", up=False, in_flight=3)
PARKED = Replica(
    ReplicaId("web", 1, 1, 1), Generation(1), True, 0.0, server=OUT, left_at=10.0, ever_ready=True
)


def act(found: Replica, now: float, drain_time: float | None = None) -> plan.Decision:
    agenda = plan.Agenda(now)
    drain.retire(agenda, found, SERVICE, "it is over", drain=drain_time)
    return agenda.decision()


def test_who_was_parked_for_long_is_told_and_then_has_all_its_time() -> None:
    [step] = act(PARKED, 500.0).steps
    assert isinstance(step, plan.Tell)
    told = replace(PARKED, told_at=500.0)
    assert not act(told, 519.0).steps
    [step] = act(told, 520.0).steps
    assert isinstance(step, plan.Signal)


def test_nobody_is_told_who_has_nothing_in_flight_or_no_time() -> None:
    idle = replace(PARKED, server=replace(OUT, in_flight=0))
    for found, time in ((idle, None), (PARKED, 0.0)):
        [step] = act(found, 500.0, time).steps
        assert isinstance(step, plan.Signal)
