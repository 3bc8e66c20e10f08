"""The stack as the controller's status tells it, as values that can be compared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SERVING = frozenset({"ready"})


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica. ``started_at`` is in seconds."""

    id: str
    service: str
    state: str
    pid: int | None = None
    started_at: float | None = None
    release: int | None = None
    served: int | None = None
    address: str | None = None
    """A socket's path, or host and port."""

    @property
    def slot(self) -> str:
        """``web.1``: service and ordinal."""
        return self.id.partition("@")[0]

    def is_same(self, other: Replica) -> bool:
        """Whether both are the very same process.

        Start times are told on the wall clock, which is nudged now and then: less than a second
        apart is the same moment, and no pid comes round again so soon.
        """
        if (self.id, self.pid) != (other.id, other.pid):
            return False
        if self.started_at is None or other.started_at is None:
            return self.started_at is other.started_at
        return abs(self.started_at - other.started_at) < 1.0

    def among(self, others: Iterable[Replica]) -> bool:
        """Whether the same process is one of them."""
        return any(self.is_same(other) for other in others)


@dataclass(frozen=True, slots=True)
class Service:
    """A service: how many are wanted, how many ready, and whether a hand set that."""

    name: str
    desired: int
    ready: int
    drift: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """One look. ``replicas`` holds those alive, parked and draining ones included."""

    release: int | None
    edge_url: str
    edge_pid: int | None
    services: Mapping[str, Service]
    replicas: tuple[Replica, ...]
    data: Mapping[str, str]
    rollout: bool = False
    maintenance: bool = False

    @classmethod
    def of_status(cls, status: Mapping[str, Any]) -> State:
        """From the answer of ``GET /v1/status``."""
        services, replicas = {}, []
        for one in status.get("services") or []:
            name = str(one["name"])
            services[name] = Service(
                name, int(one["desired"]), int(one["ready"]), one.get("drift") is not None
            )
            replicas += [_replica(name, each) for each in one.get("replicas") or []]
        edge = status.get("edge") or {}
        return cls(
            release=_number(status.get("release")),
            edge_url=str(edge.get("local_url") or edge.get("url") or ""),
            edge_pid=edge.get("pid"),
            services=services,
            replicas=tuple(one for one in replicas if one.state != "stopped"),
            data={str(d["name"]): str(d.get("state")) for d in status.get("data") or []},
            rollout=bool(status.get("rollout")),
            maintenance=bool(status.get("maintenance")),
        )

    def serving(self, service: str | None = None) -> tuple[Replica, ...]:
        """Replicas that take traffic, of one service or of all."""
        return tuple(
            one for one in self.replicas if one.state in SERVING and service in (None, one.service)
        )

    @property
    def settled(self) -> bool:
        """Nothing is under way, and each service has exactly what it wants."""
        if self.rollout:
            return False
        for name, service in self.services.items():
            mine = [one for one in self.replicas if one.service == name]
            if service.ready != service.desired or len(mine) != service.desired:
                return False
        return all(state == "ready" for state in self.data.values())


def _number(release: Any) -> int | None:
    """``"r12"`` or 12 to 12."""
    return None if release is None else int(str(release).removeprefix("r"))


def _replica(service: str, each: Mapping[str, Any]) -> Replica:
    return Replica(
        id=str(each["id"]),
        service=service,
        state=str(each["state"]),
        pid=each.get("pid"),
        started_at=each.get("started_at"),
        release=_number(each.get("release")),
        served=each.get("served"),
        address=each.get("address"),
    )


def handovers(before: State, after: State) -> int:
    """Replicas that served before and do not any more: each handed its work to another."""
    return sum(not one.among(after.serving()) for one in before.serving())


def lost(before: State, after: State) -> tuple[str, ...]:
    """Ids of replicas of ``before`` that are no longer the same process."""
    return tuple(one.id for one in before.replicas if not one.among(after.replicas))


def doubles(state: State) -> tuple[str, ...]:
    """Slots (``web.1``) that more than one replica occupies."""
    slots = [one.slot for one in state.replicas]
    return tuple(sorted({slot for slot in slots if slots.count(slot) > 1}))
