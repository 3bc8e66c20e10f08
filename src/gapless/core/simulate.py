"""What each step is expected to do to the world. ``unroll`` makes a complete plan of that.

``apply`` is the step's own effect (a started replica is not ready yet); ``settle`` lets the
world catch up as it does when nothing fails. Property tests put failures in between.
"""

from __future__ import annotations

from dataclasses import replace

from gapless.core import (
    balancer,
    certificates,
    front,
    jobruns,
    network,
    plan,
    record,
    static,
    stores,
)
from gapless.core.reconcile import reconcile
from gapless.core.world import Claims, EdgeConfigs, World
from gapless.model.process import Bridge, Exit, ReplicaId
from gapless.observed import (
    Certificate,
    DataNode,
    Edge,
    EdgeServer,
    Front,
    JobRun,
    Moment,
    Observed,
    Replica,
    Static,
)

LIFETIME = 90 * 86_400.0
"""Seconds for which a certificate is valid, in a plan."""
LIMIT = 400
"""Rounds after which a plan is cut; no sound change needs as many."""


def unroll(world: World) -> plan.Plan:
    """All steps from here to where nothing is left to do, if nothing fails."""
    batches: list[tuple[plan.Step, ...]] = []
    for _ in range(LIMIT):
        decision = reconcile(world)
        if decision.steps:
            batches.append(decision.steps)
            for step in decision.steps:
                world = apply(world, step)
            world = settle(world)
        elif decision.wake_at is not None and decision.wake_at > world.now:
            world = replace(world, now=decision.wake_at)
        else:
            return plan.Plan(tuple(batches))
    return plan.Plan(tuple(batches), complete=False)


def settle(world: World) -> World:
    """Started replicas get ready, signalled ones end, requests in flight finish."""
    replicas = []
    for found in world.observed.replicas:
        if found.frozen_since is not None:
            pass  # it neither ends nor gets ready
        elif found.signalled_at is not None and found.alive:
            found = replace(found, alive=False, ready=False, exit=Exit(code=0))
        elif found.alive and not found.ready:
            found = replace(found, ready=True, ready_since=world.now, ever_ready=True)
        if found.server is not None and found.server.in_flight:
            found = replace(found, server=replace(found.server, in_flight=0), sockets=0)
        replicas.append(found)
    jobs = tuple(
        replace(job, state="succeeded") if job.state == "running" else job
        for job in world.observed.jobs
    )
    return _observe(world, replicas=tuple(replicas), jobs=jobs)


def apply(world: World, step: plan.Step) -> World:
    """The world right after the step, the durable record included."""
    world = _apply_record(world, step)
    match step:
        case plan.Tell(id=id, rate=rate):
            return _told(world, id, rate)
        case plan.ShutSockets(counts=counts):
            for id, count in counts:
                world = _shut(world, id, count)
            return world
        case plan.StartReplica() | plan.Forget() | plan.Signal() | plan.Kill():
            return _apply_process(world, step)
        case plan.Enter() | plan.Leave() | plan.Flip() | balancer.RemoveServer():
            return _apply_member(world, step)
        case stores.StoreStep(name=name):
            node = _stored(world.observed.data[name], step)
            return _observe(world, data={**world.observed.data, name: node})
        case jobruns.RunStep():
            return _observe(world, jobs=_runs(world, step))
        case front.FrontStep():
            return _observe(world, front=_fronted(world.observed.front, step))
        case certificates.CertificateStep():
            return _apply_certificate(world, step)
        case _:
            return _apply_edge(world, step)


def _stored(node: DataNode, step: stores.StoreStep) -> DataNode:
    if isinstance(step, stores.ApplyData):
        return replace(node, stale=False)
    return replace(node, state="ready" if isinstance(step, stores.StartData) else "stopped")


def _fronted(now: Front, step: front.FrontStep) -> Front:
    match step:
        case front.Join(claim=claim):
            return replace(now, claim=claim, entered=now.state == "running")
        case front.Withdraw():
            return replace(now, claim=now.claim and replace(now.claim, http=(), tls=()))
        case front.Leave():
            return Front()
        case _:
            return replace(now, state="running", entered=True, stale="")


def _apply_certificate(world: World, step: certificates.CertificateStep) -> World:
    name = step.certificate
    seen = world.observed.certificates.get(name, Certificate(name))
    match step:
        case certificates.InstallCertificate():
            seen = replace(seen, served=seen.serial, fresh=False)
        case certificates.MakeCertificate(kind=kind, names=names):
            seen = _certified(world, replace(seen, kind=kind, names=names))
        case certificates.OrderCertificate(names=names):
            seen = _certified(world, replace(seen, kind="issued", names=names))
    return _observe(world, certificates={**world.observed.certificates, name: seen})


def _certified(world: World, seen: Certificate) -> Certificate:
    return replace(
        seen,
        serial=seen.serial + 1,
        starts_at=world.wall,
        ends_at=world.wall + LIFETIME,
        fresh=world.observed.edge.state == "running",
        asked=False,
        failures=None,
    )


def _runs(world: World, step: jobruns.RunStep) -> tuple[JobRun, ...]:
    jobs = world.observed.jobs
    match step:
        case jobruns.RunJob(job=job, rollout=number):
            return (*jobs, JobRun(job, number, "running"))
        case jobruns.RunDue(job=job, release=release, due=due):
            id = f"{job}@r{release}.{due:.0f}"
            if any(run.id == id for run in jobs):
                return jobs
            return (*jobs, JobRun(job, 0, "running", id=id, release=release, due=due))
        case jobruns.EndJob(run=id):
            ended = (replace(r, state="failed", signalled_at=world.now) for r in jobs if r.id == id)
            return (*(r for r in jobs if r.id != id), *ended)
        case jobruns.ForgetRun(run=id):
            return tuple(run for run in jobs if run.id != id)
    return jobs


def _apply_record(world: World, step: plan.Step) -> World:
    if isinstance(step, record.Rescale):
        world = _note_change(world, step)
    desired = record.apply(world.desired, step)
    configs, claims, statics = world.edge_configs, world.claims, world.static_configs
    handing = world.handing_configs
    if isinstance(step, record.Commit):
        configs = EdgeConfigs(configs.switched, configs.switched, configs.switched)
        handing = EdgeConfigs(handing.switched, handing.switched, handing.switched)
        statics = EdgeConfigs(statics.switched, statics.switched, statics.switched)
        claims = Claims(*(claims.target,) * 4)
    return replace(
        world,
        desired=desired,
        edge_configs=configs,
        handing_configs=handing,
        claims=claims,
        static_configs=statics,
    )


def _note_change(world: World, step: record.Rescale) -> World:
    """What was added lately counts against what the policies allow."""
    load = world.observed.loads.get(step.name)
    if load is None:
        return world
    count = world.count(step.name, world.desired.vector.get(step.name))
    moment = Moment(world.now, step.count - count)
    changed = replace(load, changes=(*load.changes, moment))
    return _observe(world, loads={**world.observed.loads, step.name: changed})


def _apply_edge(world: World, step: plan.Step) -> World:
    edge = world.observed.edge
    match step:
        case network.OpenNetwork():
            return _observe(world, bridge=Bridge("", ""))
        case network.CloseNetwork():
            return _observe(world, bridge=None)
        case balancer.StartEdge():
            edge = Edge("running", config=world.edge_config, maintenance=edge.maintenance)
            edge = replace(edge, form=world.edge_form, awaited=world.observed.edge.awaited)
        case balancer.ReloadEdge(config=config):
            edge = replace(edge, config=config)
        case balancer.ReplaceEdge(config=config):
            edge = replace(edge, config=config, form=world.edge_form, heir_since=None)
        case balancer.StopEdge():
            edge = Edge()
        case static.StartStatic() | static.ReloadStatic():
            return _observe(world, static=Static("running", config=world.static_config))
        case static.StopStatic():
            return _observe(world, static=Static())
        case _:
            edge = _steered(edge, step)
    return _observe(world, edge=edge)


def _steered(edge: Edge, step: plan.Step) -> Edge:
    match step:
        case static.TellFiles(config=config):
            return replace(edge, files=config)
        case balancer.SetMaintenance(on=on):
            return replace(edge, maintenance=on)
        case balancer.SetHold(hold=hold):
            return replace(edge, held_until=None if hold is None else hold.until)
        case balancer.Await(begin=begin, end=end):
            return replace(edge, awaited=edge.awaited.union(begin).difference(end))
    return edge


def _apply_process(world: World, step: plan.Step) -> World:
    match step:
        case plan.StartReplica(id=id, generation=generation):
            fresh = Replica(id, generation, alive=True, started_at=world.now)
            slot = (id.service, id.ordinal, id.release)
            attempts = {**world.observed.attempts, slot: id.attempt}
            return _observe(world, replicas=(*world.observed.replicas, fresh), attempts=attempts)
        case plan.Forget(id=id):
            left = tuple(r for r in world.observed.replicas if r.id != id)
            servers = {n: s for n, s in world.observed.edge.servers.items() if n != id.server}
            edge = replace(world.observed.edge, servers=servers)
            return _observe(world, replicas=left, edge=edge)
        case plan.Signal(id=id):
            return _change(world, id, signalled_at=world.now)
        case plan.Kill(id=id):
            return _change(
                world, id, alive=False, ready=False, exit=Exit(signal=9), killed_at=world.now
            )
    return world


def _apply_member(world: World, step: plan.Step) -> World:
    match step:
        case plan.Enter(id=id):
            return _enter(world, id)
        case plan.Leave(id=id):
            return _leave(world, id)
        case plan.Flip(enter=entering, leave=leaving):
            for id in entering:
                world = _enter(world, id)
            for id in leaving:
                world = _leave(world, id)
        case balancer.RemoveServer(name=name):
            servers = {n: s for n, s in world.observed.edge.servers.items() if n != name}
            return _observe(world, edge=replace(world.observed.edge, servers=servers))
    return world


def _find(world: World, id: ReplicaId) -> Replica:
    return next(r for r in world.observed.replicas if r.id == id)


def _told(world: World, id: ReplicaId, rate: float | None) -> World:
    found = _find(world, id)
    if found.told_at is not None:
        return _change(world, id, told_rate=rate)
    return _change(world, id, told_at=world.now, told_sockets=found.sockets, told_rate=rate)


def _shut(world: World, id: ReplicaId, count: int) -> World:
    found = _find(world, id)
    if found.server is None or found.sockets is None:
        return world
    shut = min(count, found.sockets)
    server = replace(found.server, in_flight=max(0, found.server.in_flight - shut))
    return _change(world, id, server=server, sockets=found.sockets - shut, shut_at=world.now)


def _enter(world: World, id: ReplicaId) -> World:
    server = EdgeServer(id.server, id.service, "ready", up=True)
    edge = world.observed.edge
    world = _observe(world, edge=replace(edge, awaited=edge.awaited | {id.service}))
    fresh = {"told_at": None, "told_sockets": None, "told_rate": None, "shut_at": None}
    return _change(world, id, server=server, entered_at=world.now, left_at=None, **fresh)


def _leave(world: World, id: ReplicaId) -> World:
    found = _find(world, id)
    if found.server is None:
        return world
    server = replace(found.server, admin="maint", up=False)
    return _change(world, id, server=server, entered_at=None, left_at=world.now)


def _change(world: World, id: ReplicaId, **values: object) -> World:
    replicas = tuple(
        replace(r, **values) if r.id == id else r  # type: ignore[arg-type]  # names are checked by replace
        for r in world.observed.replicas
    )
    servers = dict(world.observed.edge.servers)
    for found in replicas:
        if found.server is not None:
            servers[found.server.name] = found.server
    edge = replace(world.observed.edge, servers=servers)
    return _observe(world, replicas=replicas, edge=edge)


def _observe(world: World, **values: object) -> World:
    observed: Observed = replace(world.observed, **values)  # type: ignore[arg-type]  # as above
    return replace(world, observed=observed)
