"""When a replica counts as booting."""

from __future__ import annotations

import pytest

from gapless.core import replica as states
from gapless.model.desired import Generation
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import Replica

WEB = Service.model_validate({"run": "serve ${socket}", "start": "40s"})
WORKER = Service.model_validate({"run": "work", "start": "40s", "watch": "5s"})
PROBED = Service.model_validate({"run": "work", "start": "40s", "ready": {"command": "ask"}})


def seen(*, ever_ready: bool) -> Replica:
    return Replica(
        id=ReplicaId("x", 1, 1),
        generation=Generation(1, 0),
        alive=True,
        started_at=100.0,
        ready=ever_ready,
        ever_ready=ever_ready,
    )


@pytest.mark.parametrize(
    ("service", "ever_ready", "now", "boots"),
    [
        (WEB, False, 101.0, True),
        (WEB, True, 101.0, False),
        (WEB, False, 110.0, False),  # a quarter of its time to start is over
        (PROBED, False, 101.0, True),
        (PROBED, True, 101.0, False),
        (WORKER, True, 101.0, True),  # ready since it exists, for nobody can ask it
        (WORKER, True, 139.0, True),
        (WORKER, True, 140.0, False),
        (None, False, 101.0, False),
    ],
)
def test_it_boots_until_it_is_known_to_serve(
    service: Service | None, ever_ready: bool, now: float, boots: bool
) -> None:
    assert states.boots(seen(ever_ready=ever_ready), service, now) is boots
