"""How a replica goes away: out of the edge, told, in-flight 0, only then the signal.

Invariant: no replica is signalled before the edge has acknowledged that it gets no new work,
nor before its in-flight count is 0 or its drain time is over. One that stands still is killed once
it is out of the edge: nothing in flight on it can end. A replica that serves behind no
edge is signalled at once and given its drain time to finish.
"""

from __future__ import annotations

from gapless.core import plan
from gapless.core import replica as states
from gapless.model.service import Service
from gapless.observed import Replica

DRAIN = 30.0
"""Seconds for work in flight of a replica whose table is not kept."""
KILL_AGAIN = 5.0
"""Seconds between two KILLs of one replica: the first can fail to land, never to be right."""


def retire(
    agenda: plan.Agenda,
    replica: Replica,
    service: Service | None,
    cause: str,
    *,
    drain: float | None = None,
) -> None:
    """Put the next act of its going on the agenda, or what is awaited.

    ``service``: its own release's table; None when unknown (then it gets the default times).
    ``drain``: seconds that override the service's (``down`` does not wait as long).
    """
    http = service.http if service else replica.server is not None
    drain_time = drain if drain is not None else (service.drain if service else DRAIN)
    grace = service.grace if service else 10.0
    if not replica.alive:
        if replica.server is not None and replica.server.admin != "maint":
            agenda.do(plan.Leave(replica.id, cause="it is dead"))
        else:
            agenda.do(plan.Forget(replica.id, cause=_ending(replica)))
    elif replica.killed_at is not None:
        _again(agenda, replica)
    elif states.hung(replica, agenda.now):
        # It hears no TERM, and nothing that it has in flight will end: who waits there is freed.
        if replica.server is not None and replica.server.admin != "maint":
            agenda.do(plan.Leave(replica.id, cause=cause))
        else:
            agenda.do(plan.Kill(replica.id, cause=cause))
    elif replica.signalled_at is not None:
        deadline = replica.signalled_at + (grace if http else drain_time)
        if agenda.now >= deadline:
            agenda.do(plan.Kill(replica.id, cause="its time to end is over"))
        else:
            agenda.wait(f"{replica.id} ends", deadline)
    elif replica.server is not None:
        _out_of_edge(agenda, replica, drain_time, cause)
    else:
        agenda.do(plan.Signal(replica.id, cause=cause))


def _out_of_edge(agenda: plan.Agenda, replica: Replica, drain_time: float, cause: str) -> None:
    server = replica.server
    assert server is not None
    if server.admin != "maint" or replica.left_at is None:
        agenda.do(plan.Leave(replica.id, cause=cause))
    elif server.in_flight == 0:
        agenda.do(plan.Signal(replica.id, cause="nothing in flight"))
    elif replica.told_at is None and drain_time > 0:
        agenda.do(plan.Tell(replica.id, cause=f"{server.in_flight} in flight"))
    elif agenda.now >= (deadline := began(replica) + drain_time):
        # Not cut at the edge first: a server that is told to end says goodbye to its sockets.
        agenda.do(plan.Signal(replica.id, cause="its drain time is over"))
    else:
        agenda.wait(f"{replica.id} finishes {server.in_flight} in flight", deadline)


def began(replica: Replica) -> float:
    """From when its drain time counts: the notice. One that was parked before had no reason to
    send its clients away, however long that was."""
    if replica.told_at is not None:
        return replica.told_at
    return replica.left_at or 0.0


def _again(agenda: plan.Agenda, replica: Replica) -> None:
    assert replica.killed_at is not None
    if agenda.now >= replica.killed_at + KILL_AGAIN:
        agenda.do(plan.Kill(replica.id, cause="still there"))
    else:
        agenda.wait(f"{replica.id} dies", replica.killed_at + KILL_AGAIN)


def _ending(replica: Replica) -> str:
    return str(replica.exit) if replica.exit else "it has ended"
