"""From what was seen of a service's replicas to one measure for each of its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gapless.core import replica as states
from gapless.core.autoscale import proposals
from gapless.core.autoscale.proposals import Member, Proposal
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import Measure, Replica

CPU_WINDOW = 4.0
"""Seconds over which a replica's cores are told, the age of the sample included."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One service at one moment. ``count``: replicas wanted of it.

    ``rates``: requests/s by replica; who is not in it has told nothing yet. ``latency``: mean
    seconds to an answer; None: nobody was answered while some wait. ``backlog``: queued tasks;
    None: see ``fault``.
    """

    service: Service
    replicas: tuple[Replica, ...]
    count: int
    now: float
    rates: Mapping[ReplicaId, float] = field(default_factory=dict)
    latency: float | None = 0.0
    backlog: int | None = None
    fault: str = "not asked yet"
    http: bool = field(init=False)
    """The service's own, asked for once: there may be a thousand replicas."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "http", self.service.http)


def measures(seen: Seen) -> tuple[Measure, ...]:
    """One for each target of the service's ``scale``, in a fixed order."""
    return tuple(_measures(seen))


def _measures(seen: Seen) -> Iterator[Measure]:
    scale = seen.service.scale
    if scale is None:
        return
    if scale.cpu is not None:
        yield _told("cpu", scale.cpu, _resource(seen, scale.cpu, cpu=True))
    if scale.memory is not None:
        yield _told("memory", scale.memory, _resource(seen, scale.memory, cpu=False))
    if scale.rps is not None:
        members = [_member(seen, r, seen.rates.get(r.id)) for r in seen.replicas]
        told = proposals.average(members, seen.count, scale.rps, now=seen.now)
        yield _told("rps", scale.rps, told)
    if scale.connections is not None:
        members = [_member(seen, r, _in_flight(r)) for r in seen.replicas]
        told = proposals.average(members, seen.count, scale.connections, now=seen.now)
        yield _told("connections", scale.connections, told)
    if scale.latency is not None:
        yield _told("latency", scale.latency, _latency(seen, scale.latency))
    if scale.backlog is not None:
        yield _told("backlog", scale.backlog, _backlog(seen, scale.backlog))


def _told(metric: str, target: float, told: Proposal) -> Measure:
    return Measure(metric, target, told.measured, told.count, told.fault)


def _resource(seen: Seen, target: int, *, cpu: bool) -> Proposal:
    reserved = seen.service.cpu_base if cpu else seen.service.memory_base
    members = [
        _member(seen, r, r.cores if cpu else r.memory, float(reserved or 0)) for r in seen.replicas
    ]
    return proposals.utilization(members, seen.count, target, cpu=cpu, now=seen.now)


def _latency(seen: Seen, target: float) -> Proposal:
    if seen.latency is None:
        return Proposal(None, fault="requests wait and none was answered")
    ready = sum(
        states.usable(r) and r.server is not None and r.server.takes_work for r in seen.replicas
    )
    return proposals.value(seen.latency, seen.count, ready, target)


def _backlog(seen: Seen, target: int) -> Proposal:
    if seen.backlog is None:
        return Proposal(None, fault=seen.fault)
    return proposals.share(seen.backlog, seen.count, target)


def _in_flight(found: Replica) -> float | None:
    return None if found.server is None else found.server.in_flight


def _member(seen: Seen, found: Replica, value: float | None, request: float = 0.0) -> Member:
    """``gone`` too: one that is no longer wanted, and leaves."""
    leaving = found.left_at is not None and not states.in_edge(found)
    return Member(
        value=value,
        request=request,
        started_at=found.started_at,
        ready=found.ready,
        ready_changed_at=seen.now if found.ready_since is None else found.ready_since,
        measured_at=seen.now,
        window=CPU_WINDOW,
        pending=not found.ever_ready or (seen.http and found.server is None),
        gone=not states.usable(found) or leaving or found.id.ordinal > seen.count,
    )
