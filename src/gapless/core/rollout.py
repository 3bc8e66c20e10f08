"""From one generation to the next, as a table of phases.

=============  ==============================================  ==========================
phase          what happens                                    left when
=============  ==============================================  ==========================
release-jobs   jobs once, the old replicas serving             all succeeded
rolling        service after service: start, ready, into the   every service has switched
               edge, watched, old one parked
smoke          after-release jobs                              all succeeded: commit
undoing        steady at the base: parked ones back in the     nothing of the target left
               edge first, then the new ones out
=============  ==============================================  ==========================

Invariants: a late or failing new version never costs an old replica (old ones stay parked until
the commit, unless the plan said there is no room); a new replica counts only after it has served
for the watch window; singletons change stop-first.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.core import certificates, drain, front, jobruns, plan, record, replica
from gapless.core import service as services
from gapless.core.world import World
from gapless.model.desired import Generation, Rollout
from gapless.model.process import ReplicaId
from gapless.model.service import Service
from gapless.observed import Replica


def advance(agenda: plan.Agenda, world: World, rollout: Rollout) -> None:
    """Put the next acts of the rollout on the agenda."""
    if rollout.phase == "undoing":
        _undo(agenda, world, rollout)
        return
    if fault := _failure(world, rollout):
        subject, reason = fault
        agenda.do(record.Undo(rollout.id, reason, subject, cause=reason))
        return
    _untouched(agenda, world, rollout)
    if rollout.phase == "release-jobs":
        _hold(agenda, world, rollout, rollout.order)
        if _jobs(agenda, world, rollout, rollout.release_jobs):
            agenda.do(record.Advance(rollout.id, "rolling", cause="release jobs are done"))
    elif rollout.phase == "rolling":
        _roll(agenda, world, rollout)
    elif _has_http(world, rollout) and not (world.edge_ready and front.ready(world)):
        agenda.wait("the edge takes the new routes")  # which smoke jobs ask for
    elif _jobs(agenda, world, rollout, rollout.smoke_jobs):
        agenda.do(record.Commit(rollout.id, cause="every service has switched"))


def _roll(agenda: plan.Agenda, world: World, rollout: Rollout) -> None:
    if not world.edge_ready and _has_http(world, rollout):
        agenda.wait("the edge gets ready")
        _hold(agenda, world, rollout, rollout.order)
        return
    if not world.static_ready:
        agenda.wait("the new release's files are served")
        _hold(agenda, world, rollout, rollout.order)
        return
    for position, name in enumerate(rollout.order):
        if not switch(agenda, world, rollout, name):
            _hold(agenda, world, rollout, rollout.order[position + 1 :])
            return
    agenda.do(record.Advance(rollout.id, "smoke", cause="every service has switched"))


def switch(agenda: plan.Agenda, world: World, rollout: Rollout, name: str) -> bool:
    """The next acts that switch one service; True when it has switched."""
    generation = rollout.target[name]
    table = world.service(name, generation)
    assert table is not None, f"release {generation} has no service {name}"
    count = world.count(name, generation, scaled=rollout.kind != "deploy")
    replicas = world.of(name)
    new = services.keep(world, replicas, generation, count)
    old = [r for r in replicas if r.generation == rollout.base.get(name) and r.alive]
    ready_at = [replica.available_at(r, table) for r in new.values()]
    available = sum(at is not None and at <= world.now for at in ready_at)
    cause = _cause(rollout)
    services.step_out(agenda, new.values())
    if table.singleton:
        return _switch_singleton(agenda, world, rollout, name, new)
    _older(agenda, world, rollout, name)
    old = _moving(agenda, world, old)
    if available < count:
        wanted = _surge(rollout, table, count, len(new) - available)
        missing = [n for n in range(1, count + 1) if n not in new][:wanted]
        services.fill(agenda, world, name, generation, new, [*new, *missing], cause)
        if table.http and table.switch == "atomic":
            services.flip(agenda, world, list(new.values()), old, count, cause)
        else:
            services.enter_ready(agenda, world, table, list(new.values()))
        for at in ready_at:
            if at is not None and at > world.now:
                agenda.wait(f"{name} is watched", at)
    if not table.http:
        return _keep_workers(agenda, world, rollout, old, available >= count)
    parked = _park(agenda, world, rollout, old, available, count)
    return available >= count and parked


def _moving(agenda: plan.Agenda, world: World, old: Sequence[Replica]) -> list[Replica]:
    """Old replicas but for those that stand still: these go, the new ones take their place."""
    hung = [found for found in old if replica.hung(found, world.now)]
    for found in hung:
        drain.retire(agenda, found, world.own_service(found), "it stands still")
    left = [found for found in old if found not in hung]
    services.step_out(agenda, left)
    return left


def _older(agenda: plan.Agenda, world: World, rollout: Rollout, name: str) -> None:
    """Replicas of neither side are still on their way out from an earlier change, new ones from
    when it was not their turn: such a one may not hear that it is to end."""
    for found in world.of(name):
        sent = found.generation == rollout.target[name] and found.signalled_at is not None
        if sent and found.alive:
            drain.retire(agenda, found, world.own_service(found), "not its turn before")
        elif found.generation not in (rollout.target[name], rollout.base.get(name)):
            drain.retire(agenda, found, world.own_service(found), "replaced earlier")


def _surge(rollout: Rollout, table: Service, count: int, under_way: int) -> int:
    """How many more may start now."""
    if rollout.surge_all or not rollout.base or table.surge == "all" or table.switch == "atomic":
        return count
    return max(0, table.surge - under_way)


def _park(
    agenda: plan.Agenda,
    world: World,
    rollout: Rollout,
    old: Sequence[Replica],
    available: int,
    count: int,
) -> bool:
    """Old replicas leave the edge as far as enough others serve; True when all are out.

    One that does not serve just now (what it depends on is away) stays as long: it may be back
    before the others are there.
    """
    inside = [r for r in old if replica.in_edge(r) and r.frozen_since is None]
    serving = sum(r.server is not None and r.server.takes_work for r in inside)
    for found in sorted(inside, key=lambda r: r.id.ordinal):
        takes_work = found.server is not None and found.server.takes_work
        if available + serving - takes_work < count:
            continue
        serving -= takes_work
        agenda.do(plan.Leave(found.id, park=rollout.park, cause=_cause(rollout)))
    if not rollout.park:
        for found in old:
            if not replica.in_edge(found) and available + serving >= count:
                drain.retire(agenda, found, world.own_service(found), "no room to park it")
    return not inside


def _keep_workers(
    agenda: plan.Agenda, world: World, rollout: Rollout, old: Sequence[Replica], done: bool
) -> bool:
    """Old workers work on until the commit; without room they go as soon as new ones hold."""
    if done and not rollout.park and old:
        for found in old:
            drain.retire(agenda, found, world.own_service(found), "no room to keep it")
        return False
    return done


def _switch_singleton(
    agenda: plan.Agenda,
    world: World,
    rollout: Rollout,
    name: str,
    new: dict[int, Replica],
) -> bool:
    """Stop-first: the new one starts when all others, dead ones too, have been cleared away."""
    generation = rollout.target[name]
    table = world.service(name, generation)
    assert table is not None
    count = world.count(name, generation, scaled=rollout.kind != "deploy")
    others = [r for r in world.of(name) if r not in new.values()]
    for found in others:
        drain.retire(agenda, found, world.own_service(found), "a singleton, stop-first")
    if others:
        return False
    if count == 0:
        return True
    if not new:
        services.fill(agenda, world, name, generation, new, [1], _cause(rollout))
        return False
    services.enter_ready(agenda, world, table, list(new.values()))
    at = replica.available_at(new[1], table)
    if at is not None and at > world.now:
        agenda.wait(f"{name} is watched", at)
    return at is not None and at <= world.now


def _hold(agenda: plan.Agenda, world: World, rollout: Rollout, names: Sequence[str]) -> None:
    """Services whose turn has not come stay at their base."""
    for name in names:
        services.steady(agenda, world, name, rollout.base.get(name), "not its turn yet")


def _untouched(agenda: plan.Agenda, world: World, rollout: Rollout) -> None:
    """Services outside the rollout are kept as they are."""
    for name in world.service_names(rollout.base):
        if name not in rollout.target:
            services.steady(agenda, world, name, rollout.base.get(name), "kept up")


def _undo(agenda: plan.Agenda, world: World, rollout: Rollout) -> None:
    for name in dict.fromkeys((*world.service_names(rollout.base), *rollout.target)):
        services.steady(agenda, world, name, rollout.base.get(name), "the rollout is undone")
    left = [
        r
        for r in world.observed.replicas
        if rollout.target.get(r.id.service) == r.generation
        and (replica.usable(r) or replica.in_edge(r))
    ]
    back = all(_back(world, rollout, name) for name in rollout.target if name in rollout.base)
    if not left and back:
        agenda.do(record.Settle(rollout.id, cause=rollout.reason))


def _back(world: World, rollout: Rollout, name: str) -> bool:
    """Whether every parked replica of the base is in use again."""
    generation: Generation = rollout.base[name]
    table = world.service(name, generation)
    if table is None or not table.http or not world.edge_ready:
        return True
    count = world.count(name, generation)
    kept = services.keep(world, world.of(name), generation, count)
    return all(replica.in_edge(r) for r in kept.values() if r.ready)


def _jobs(agenda: plan.Agenda, world: World, rollout: Rollout, names: Sequence[str]) -> bool:
    """Run jobs one after the other, once each; True when all have succeeded."""
    runs = {run.job: run for run in world.observed.jobs if run.rollout == rollout.id}
    for name in names:
        run = runs.get(name)
        if run is None:
            if stores := world.missing_stores(name):
                agenda.wait(f"{name} waits for {', '.join(stores)}")
            else:
                agenda.do(jobruns.RunJob(name, rollout.id, rollout.stack, cause=_cause(rollout)))
            return False
        if run.state != "succeeded":
            agenda.wait(f"{name} runs")
            return False
    return True


def _failure(world: World, rollout: Rollout) -> tuple[str, str] | None:
    """(subject, reason) of the first thing that ends the rollout, else None."""
    for run in world.observed.jobs:
        if run.rollout == rollout.id and run.state in ("failed", "unknown"):
            outcome = "failed" if run.state == "failed" else "ended with an unknown outcome"
            return run.job, f"{run.job}: {outcome}{': ' + run.reason if run.reason else ''}"
    for subject, reason in world.observed.faults.items():
        if not (_of_base(rollout, subject) or subject.startswith(certificates.CERTIFICATE)):
            return subject, reason
    for found in world.observed.replicas:
        if rollout.target.get(found.id.service) != found.generation:
            continue
        table = world.own_service(found)
        if table is not None and found.signalled_at is None:
            reason = _fault(found, table, world.now)
            if reason:
                return str(found.id), f"{found.id.service}: replica {found.id} {reason}"
    return None


def _of_base(rollout: Rollout, subject: str) -> bool:
    """Whether it is a replica that the rollout does not bring: its faults are not the target's."""
    try:
        id = ReplicaId.parse(subject)
    except ValueError:
        return False
    target = rollout.target.get(id.service)
    return target is None or target.release != id.release


def _fault(found: Replica, table: Service, now: float) -> str:
    if not found.alive:
        when = "after it was ready" if found.ever_ready else "before it was ready"
        return f"ended {when} ({found.exit or 'nobody saw how'})"
    if replica.hung(found, now):
        return f"stands still ({found.probe})"
    if found.live_failed_since is not None:
        return f"failed its liveness probe ({found.live})"
    if replica.late(found, table, now):
        return f"was not ready within {table.start:g} s ({found.probe or 'no answer yet'})"
    server = found.server
    if server is not None and server.admin == "ready" and found.entered_at is not None:
        if server.tripped:
            return f"gave a run of bad answers and the edge took it out ({server.check})"
        if not server.up:
            return f"stopped being ready ({server.check or found.probe})"
    if not table.http and found.ever_ready and not found.ready:
        return f"stopped being ready ({found.probe})"
    return ""


def _has_http(world: World, rollout: Rollout) -> bool:
    tables = (world.service(name, gen) for name, gen in rollout.target.items())
    return any(table is not None and table.http for table in tables)


def _cause(rollout: Rollout) -> str:
    return f"{rollout.kind} {rollout.id}"
