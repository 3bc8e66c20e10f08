"""What state a replica is in. One table for decisions, ``ps`` and tests."""

from __future__ import annotations

from gapless.model.service import Service
from gapless.observed import Replica

HUNG_AFTER = 3.0
"""Seconds of standstill after which a program counts as dead."""

GIVES_WAY = 0.25
"""Share of its time to start for which a replica leaves the processor to those that serve."""


def hung(replica: Replica, now: float) -> bool:
    """Whether it has stood still (stopped, or a zombie) for so long that it counts as dead."""
    return replica.frozen_since is not None and now - replica.frozen_since >= HUNG_AFTER


def usable(replica: Replica) -> bool:
    """Alive and not asked to end."""
    return replica.alive and replica.signalled_at is None and replica.killed_at is None


def serving(replica: Replica, service: Service) -> bool:
    """Whether it takes new work: through the edge, or by being ready where there is none."""
    if not usable(replica) or replica.frozen_since is not None:
        return False
    if service.http:
        return replica.server is not None and replica.server.takes_work
    return replica.ready


def in_edge(replica: Replica) -> bool:
    """Whether the edge counts it as a member (it may be down by the edge's own checks)."""
    return replica.server is not None and replica.server.admin == "ready"


def available_at(replica: Replica, service: Service) -> float | None:
    """When it has served for the whole watch window; None while it does not serve."""
    if not serving(replica, service):
        return None
    since = replica.entered_at if service.http else replica.ready_since
    return None if since is None else since + service.watch


def start_deadline(replica: Replica, service: Service) -> float:
    """When a replica that was never ready has failed to start."""
    return replica.started_at + service.start


def boots(replica: Replica, service: Service | None, now: float) -> bool:
    """Whether it has no clients yet, and so leaves the processor to those that serve.

    One that runs out of time boots like everybody else: a machine that is never idle would starve
    it. One without a probe is ready as soon as it exists, which says nothing of having booted, and
    cannot fail by being late: it gives way for all of its time to start.
    """
    if service is None:
        return False
    if service.http or service.ready is not None:
        limit = replica.started_at + GIVES_WAY * service.start
        return not replica.ever_ready and now < limit
    return now < start_deadline(replica, service)


def late(replica: Replica, service: Service, now: float) -> bool:
    """Never ready as far as anybody knows, asked, and its time to start is over."""
    unready = usable(replica) and replica.asked and not replica.ever_ready
    return unready and now >= start_deadline(replica, service)


def state(replica: Replica, service: Service | None, *, parked: bool = False) -> str:
    """The word that ``ps`` shows: starting, ready, parked, draining, unhealthy or stopped."""
    if not replica.alive:
        return "stopped"
    if replica.signalled_at is not None or replica.killed_at is not None:
        return "draining"
    if replica.frozen_since is not None:
        return "unhealthy"
    if replica.left_at is not None and not in_edge(replica):
        return "parked" if parked else "draining"
    if not replica.ready:
        return "unhealthy" if replica.ever_ready else "starting"
    if service is not None and service.http and not serving(replica, service):
        return "starting" if replica.entered_at is None else "unhealthy"
    return "ready"
