"""What ``ps`` shows: the last look, in words and numbers."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from gapless.core import drain, following, goodbye, restart
from gapless.core import replica as states
from gapless.core.autoscale import deciding
from gapless.engine import clock, jobs, situation
from gapless.engine.certificates import report as certificates
from gapless.engine.usage import backlog, rounded
from gapless.engine.vitals import Vitals
from gapless.model import front
from gapless.model.stack import Stack
from gapless.observed import Measure, Replica

if TYPE_CHECKING:
    from gapless.engine.controller import Controller


def report(c: Controller, usage: Mapping[str, Vitals]) -> dict[str, Any]:
    """The answer of ``GET /v1/status`` (docs/api.md). ``usage``: id to vital signs."""
    desired = c.desired
    rollout = desired.rollout
    edge = c.observed.edge
    stack = None if desired.stack is None else c.site.stack(desired.stack)
    return {
        "stack": c.site.paths.stack,
        "release": None if desired.stack is None else f"r{desired.stack}",
        "controller": "running",
        "maintenance": desired.maintenance,
        "held_until": edge.held_until,
        "edge": {
            "url": _url(c, stack),
            "local_url": None if stack is None else c.site.local_url(stack),
            "state": edge.state,
            "pid": edge.pid,
            "front": _front(c),
            "hsts": stack is not None and stack.edge.hsts is not None and "tls" in desired.proven,
            "certificates": certificates.rows(c.observed.certificates.values(), clock.wall()),
        },
        "static": None
        if c.observed.static.state == "absent"
        else {"state": c.observed.static.state, "pid": c.observed.static.pid},
        "rollout": None
        if rollout is None
        else {
            "id": rollout.id,
            "kind": rollout.kind,
            "phase": rollout.phase,
            "target": {name: str(gen) for name, gen in rollout.target.items()},
            "reason": rollout.reason,
        },
        "services": [_service(c, name, usage) for name in _names(c)],
        "data": [
            {
                "name": node.name,
                "type": node.type,
                "state": node.state,
                "address": node.address,
                "role": node.role,
                "reason": node.reason,
                "pid": node.pid,
            }
            for node in c.observed.data.values()
        ],
        "jobs": jobs.report(c),
    }


def _url(c: Controller, stack: Stack | None) -> str | None:
    """Where the public finds the stack in force."""
    if stack is None:
        return None
    return situation.public_url(c.site, stack)


def _front(c: Controller) -> dict[str, Any] | None:
    """The front that the stack is behind; None: it has its address for itself."""
    seen = c.observed.front
    wanted = c.world.claim if c.world is not None else None
    claim = wanted or seen.claim
    if claim is None:
        return None
    return {
        "state": seen.state,
        "pid": seen.pid,
        "urls": list(front.urls(claim)),
        "shared_with": list(seen.others),
        "reason": c.observed.faults.get("front", ""),
    }


def _names(c: Controller) -> tuple[str, ...]:
    names = dict.fromkeys(c.desired.vector)
    if c.desired.rollout is not None:
        names.update(dict.fromkeys(c.desired.rollout.target))
    names.update(dict.fromkeys(r.id.service for r in c.observed.replicas))
    return tuple(names)


def _service(c: Controller, name: str, usage: Mapping[str, Vitals]) -> dict[str, Any]:
    replicas = [r for r in c.observed.replicas if r.id.service == name]
    wanted = wanted_count(c, name)
    return {
        "name": name,
        "desired": wanted,
        "ready": sum(_state(c, r) == "ready" for r in replicas),
        "drift": c.desired.scale.get(name),
        "stopped": name in c.desired.stopped,
        "scale": _following(c, name),
        "backlog": backlog(c, name),
        "replicas": [
            _replica(c, r, usage)
            for r in sorted(replicas, key=lambda r: (r.id.ordinal, r.started_at))
        ]
        + _backing_off(c, name, wanted, {r.id.ordinal for r in replicas}),
    }


def _backing_off(
    c: Controller, name: str, wanted: int, taken: Container[int]
) -> list[dict[str, Any]]:
    """Slots that nobody is in, because whoever was started there could not start."""
    rows = []
    for ordinal in range(1, wanted + 1):
        failures = c.observed.failures.get((name, ordinal))
        if ordinal in taken or failures is None:
            continue
        again = restart.not_before((name, ordinal), failures)
        rows.append(
            dict.fromkeys(("release", "pid", "address", "started_at", "cpu", "memory"))
            | {
                "id": f"{name}.{ordinal}",
                "state": "backing-off",
                "restarts": failures.count,
                "in_flight": 0,
                "served": 0,
                "reason": f"{failures.reason}; again at {_wall(again)}",
                "last_end": _last_end(c, name, ordinal),
            }
        )
    return rows


def _wall(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(clock.to_unix(at)))


def _last_end(c: Controller, name: str, ordinal: int) -> str:
    """The last end in this slot that nobody had asked for; "" without one."""
    end = c.observer.ends.last((name, ordinal))
    return "" if end is None else f"{end} ({clock.now() - end.at:.0f} s ago)"


def _following(c: Controller, name: str) -> dict[str, Any] | None:
    """How a service follows its load; None where it does not."""
    world = c.world
    table = None if world is None else world.service(name, c.desired.vector.get(name))
    if world is None or table is None or table.scale is None:
        return None
    fewest, most = table.bounds(world.observed.cpus)
    load = c.observed.loads.get(name)
    return {
        "min": fewest,
        "max": most,
        "held": following.held(world, name),
        "wanted": None if load is None else load.wanted,
        "reason": "" if load is None else deciding.reason(load),
        "metrics": [] if load is None else [_measure(measure) for measure in load.measures],
    }


def _measure(measure: Measure) -> dict[str, Any]:
    told = measure.wanted is not None
    return {
        "metric": measure.metric,
        "target": measure.target,
        "measured": round(measure.measured, 4) if told else None,
        "wanted": measure.wanted,
        "fault": measure.fault,
    }


def wanted_count(c: Controller, name: str) -> int:
    """How many replicas the record asks for; a rollout's target where nothing is in force yet."""
    if c.world is None:
        return 0
    generation = c.desired.vector.get(name)
    if generation is None and c.desired.rollout is not None:
        generation = c.desired.rollout.target.get(name)
    return c.world.count(name, generation) if _loaded(c, generation) else 0


def _loaded(c: Controller, generation: Any) -> bool:
    return generation is not None and c.world is not None and generation.release in c.world.stacks


def _state(c: Controller, found: Replica) -> str:
    rollout = c.desired.rollout
    parked = rollout is not None and rollout.base.get(found.id.service) == found.generation
    return states.state(found, c.site.table(found.id), parked=parked)


def _replica(c: Controller, found: Replica, usage: Mapping[str, Vitals]) -> dict[str, Any]:
    failures = c.observed.failures.get((found.id.service, found.id.ordinal))
    cores, memory = rounded(usage, str(found.id))
    return {
        "id": str(found.id),
        "state": _state(c, found),
        "release": f"r{found.id.release}",
        "pid": found.pid,
        "address": str(found.address) if found.address else None,
        "started_at": clock.to_unix(found.started_at),
        "restarts": failures.count if failures else 0,
        "cpu": cores,
        "memory": memory,
        "in_flight": found.server.in_flight if found.server else 0,
        "sockets": found.sockets,
        "drains_until": _drains_until(c, found),
        "served": found.server.served if found.server else 0,
        "reason": found.probe if not found.ready else "",
        "live": found.live,
        "last_end": _last_end(c, found.id.service, found.id.ordinal),
    }


def _drains_until(c: Controller, found: Replica) -> float | None:
    """When it is signalled at the latest, if it is on its way out with work in flight."""
    if _state(c, found) != "draining" or found.left_at is None or not goodbye.leaves(found):
        return None
    table = c.site.table(found.id)
    return None if table is None else clock.to_unix(drain.began(found) + table.drain)


def settled(c: Controller, services: tuple[str, ...], *, exact: bool) -> bool:
    """Whether each service has as many ready replicas as wanted and no rollout runs."""
    if c.desired.rollout is not None or c.world is None or c.world.desired != c.desired:
        return False
    for name in services:
        generation = c.desired.vector.get(name)
        replicas = [r for r in c.observed.replicas if r.id.service == name]
        serving = [r for r in replicas if r.generation == generation and _state(c, r) == "ready"]
        if len(serving) < wanted_count(c, name):
            return False
        alive = [r for r in replicas if r.alive]
        if exact and len(alive) > wanted_count(c, name):
            return False
    return True


def nothing_runs(c: Controller) -> bool:
    """Whether ``down`` is done. Where nothing could be seen yet, nothing is known to be gone."""
    observed = c.observed
    return (
        not c.desired.running
        and c.world is not None
        and c.world.desired == c.desired
        and observed.programless
        and observed.bridge is None
        and observed.front.claim is None
    )


def summary(c: Controller) -> dict[str, dict[str, int]]:
    """Service to ready and wanted counts."""
    return {
        name: {
            "ready": sum(
                _state(c, r) == "ready" for r in c.observed.replicas if r.id.service == name
            ),
            "wanted": wanted_count(c, name),
        }
        for name in _names(c)
    }


def serving(c: Controller) -> dict[str, Any]:
    """What a command ends with: release, address, and how many of each service are ready."""
    return {
        "release": c.desired.stack,
        "url": situation.public_url(c.site, c.in_force),
        "services": summary(c),
    }
