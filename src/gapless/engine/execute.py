"""One step, done. Each is quick and safe to repeat; what it did is seen by the next look."""

from __future__ import annotations

import asyncio
import json
import secrets as random_tokens
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from gapless import errors
from gapless.core import (
    balancer,
    certificates,
    drain,
    front,
    jobruns,
    network,
    plan,
    static,
    stores,
)
from gapless.edge import base as edge_base
from gapless.edge import config as edge_config
from gapless.edge import staticconf, staticserver
from gapless.engine import clock, durable, edges, jobs, origin
from gapless.engine.observe import Observer
from gapless.engine.site import Site
from gapless.model.process import Address, ReplicaId
from gapless.observed import Observed
from gapless.runtimes.base import Bridges, Confines, Found, ShowsHealth


class Executor:
    """Hands for steps. ``perform`` raises GaplessError; the loop notes it and looks again."""

    def __init__(self, site: Site, observer: Observer, note: Callable[[str], None]) -> None:
        self.site = site
        self.note = note
        self.observer = observer
        self._told: set[str] = set()
        self.config: edge_config.Config | None = None
        """The edge configuration wanted at present; set by the loop before each round."""
        self.files = staticconf.Files()
        """What is to be served as files at present; set by the loop likewise."""
        self.gentle = False
        """Whether what starts now gives way to what serves; set by the loop likewise."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        """Do it. Steps that only change the record are the loop's."""
        match step:
            case plan.StartReplica():
                await self._start(step)
            case plan.Enter(id=id):
                await self._enter(id)
            case plan.Leave(id=id):
                await self._leave(id)
            case plan.Flip(enter=enter, leave=leave):
                await self._flip(enter, leave)
            case plan.Tell(id=id, rate=rate):
                self._tell(id, rate, observed)
            case plan.ShutSockets(counts=counts):
                await self._shut(dict(counts))
            case plan.Signal(id=id):
                await self._end(id, observed)
            case plan.Kill(id=id):
                self.site.notebook.of(str(id)).killed_at = clock.now()
                self.site.notebook.save()
                await self.site.runtime.signal(str(id), "KILL")
            case plan.Forget(id=id):
                await self._forget(id, observed)
            case jobruns.RunStep():
                await self._job(step)
            case stores.StoreStep():
                await self._data(step)
            case _:
                await self._edge(step, observed)

    def show(self, observed: Observed) -> None:
        """Pass on which are ready to whoever asks the runtime's own tools."""
        if isinstance(self.site.runtime, ShowsHealth):
            ready = {str(r.id): r.ready for r in observed.replicas if r.alive}
            self.site.runtime.show_health(ready)

    async def _network(self, *, opens: bool) -> None:
        runtime = self.site.runtime
        assert isinstance(runtime, Bridges), "the world says that it does"  # noqa: S101
        await (runtime.open_bridge() if opens else runtime.close_bridge())

    # -- replicas ---------------------------------------------------------------------------

    async def _start(self, step: plan.StartReplica) -> None:
        book = self.site.notebook
        base = ReplicaId(step.id.service, step.id.ordinal, step.id.release)
        book.attempts[str(base)] = max(step.id.attempt, book.attempts.get(str(base), 0))
        book.of(str(step.id)).token = random_tokens.token_hex(8)
        book.of(str(step.id)).background = self.gentle
        book.save()
        process = self.site.replica(step.id, step.generation)
        await self.site.runtime.start(replace(process, background=self.gentle))
        self._tell_limits(step.id)

    async def _end(self, id: ReplicaId, observed: Observed) -> None:
        if not any(r.id == id and r.server and r.server.in_flight for r in observed.replicas):
            # Sixteen Celery processes that end at once are felt by everybody who waits for a page.
            await self.site.runtime.background(str(id), True)
        # After that, which an ordinary user may have to wait for: its grace begins with the signal.
        marks = self.site.notebook.of(str(id))
        marks.signalled_at = clock.now()
        marks.background = False  # it is not called to the foreground any more
        self.site.notebook.save()
        table = self.site.table(id)
        await self.site.runtime.signal(str(id), None if table is None else table.signal)

    def _tell_limits(self, id: ReplicaId) -> None:
        """Say it, once, where a limit that the file asks for is not kept."""
        runtime = self.site.runtime
        fault = runtime.unconfined() if isinstance(runtime, Confines) else ""
        if fault and fault not in self._told:
            self.note(f"{id}: {fault}")
        self._told.add(fault)

    async def _enter(self, id: ReplicaId) -> None:
        await self.site.edge.enter(await self._member(id))
        self._entered(id)
        self.site.notebook.save()

    async def _leave(self, id: ReplicaId) -> None:
        await self.site.edge.leave(id.service, id.server)
        self._left(id)
        self.site.notebook.save()

    async def _flip(self, enter: tuple[ReplicaId, ...], leave: tuple[ReplicaId, ...]) -> None:
        members = tuple([await self._member(id) for id in enter])
        await self.site.edge.flip(members, tuple((id.service, id.server) for id in leave))
        for id in enter:
            self._entered(id)
        for id in leave:
            self._left(id)
        self.site.notebook.save()

    def _entered(self, id: ReplicaId) -> None:
        marks = self.site.notebook.of(str(id))
        marks.entered_at, marks.left_at, marks.ever_ready = clock.now(), None, True
        if marks.told_at is not None:
            marks.told_at = marks.told_sockets = marks.told_rate = marks.shut_at = None
            self.site.notice(str(id)).unlink(missing_ok=True)

    def _left(self, id: ReplicaId) -> None:
        marks = self.site.notebook.of(str(id))
        marks.entered_at, marks.left_at = None, clock.now()

    def _tell(self, id: ReplicaId, rate: float | None, observed: Observed) -> None:
        """Put up the notice that the replica may watch for (docs/stackfile.md)."""
        service = self.site.table(id)
        notice = self.site.notice(str(id))
        seconds = service.drain if service else drain.DRAIN
        told = {"drain": seconds} | ({} if rate is None else {"rate": round(rate, 3)})
        try:
            notice.parent.mkdir(mode=0o711, exist_ok=True)
            durable.write(notice, json.dumps(told), sync=False)
            notice.chmod(0o644)
        except (errors.GaplessError, OSError) as fault:
            # A courtesy: a full disk must not keep it from leaving.
            self.note(f"{id}: no notice could be put up: {fault}")
        marks = self.site.notebook.of(str(id))
        marks.told_rate = rate
        if marks.told_at is None:
            marks.told_at = clock.now()
            marks.told_sockets = next((r.sockets for r in observed.replicas if r.id == id), None)
        self.site.notebook.save()

    async def _shut(self, counts: dict[ReplicaId, int]) -> None:
        wanted = {id.server: count for id, count in counts.items()}
        self.observer.saw_sockets(await self.site.edge.shut(wanted))
        for id in counts:
            self.site.notebook.of(str(id)).shut_at = clock.now()
        self.site.notebook.save()

    async def _forget(self, id: ReplicaId, observed: Observed) -> None:
        name = id.server
        if name in observed.edge.servers and not await self.site.edge.remove(id.service, name):
            return  # connections are attached still; the next look asks again
        await self.site.runtime.forget(str(id))
        self.site.notice(str(id)).unlink(missing_ok=True)
        self.observer.forget(str(id))
        self.site.notebook.save()

    async def _member(self, id: ReplicaId) -> edge_base.Member:
        found = await self._found(str(id))
        if found.address is None:
            raise errors.RuntimeFault(f"{id}: has no address for the edge")
        return self._as_member(id, found.address)

    def _as_member(self, id: ReplicaId, address: Address) -> edge_base.Member:
        service = self.site.stack(id.release).services[id.service]
        token = self.site.notebook.of(str(id)).token if service.sticky else None
        return edge_base.Member(id.server, id.service, address, token)

    async def _found(self, id: str) -> Found:
        for found in await self.site.runtime.look():
            if found.id == id:
                return found
        raise errors.RuntimeFault(f"{id}: is gone")

    # -- jobs -------------------------------------------------------------------------------

    async def _job(self, step: jobruns.RunStep) -> None:
        match step:
            case jobruns.RunJob(job=job, rollout=rollout, release=release):
                process = self.site.job(job, release, str(rollout))
                await self.site.runtime.start(replace(process, background=self.gentle))
            case jobruns.RunDue(job=job, release=release, due=due):
                process = self.site.due_job(job, release, due)
                await jobs.start(self.site, replace(process, background=True))
            case jobruns.EndJob(run=id, kill=kill):
                marks = self.site.notebook.of(id)
                marks.signalled_at = marks.signalled_at or clock.now()
                marks.killed_at = clock.now() if kill else None
                self.site.notebook.save()
                await self.site.runtime.signal(id, "KILL" if kill else "TERM")
            case jobruns.ForgetRun(run=id):
                await self.site.runtime.forget(id)
                self.site.notebook.marks.pop(id, None)

    # -- stores -----------------------------------------------------------------------------

    async def _data(self, step: stores.StoreStep) -> None:
        if isinstance(step, stores.StopData):
            await self._stop_store(step.name)
            return
        store = self.site.stores[step.name]
        if isinstance(step, stores.CreateData):
            origin.mark(self.site.paths, step.name, self.site.tables[step.name])
            await store.create()
        elif isinstance(step, stores.StartData):
            await store.apply(stopped=True)
            self.site.stale.discard(step.name)
            process = store.process(await self.site.network_of(step.name))
            if process is not None:
                self.site.notebook.marks.pop(process.id, None)
                labels = {**process.labels, "stop": process.stop or "TERM"}
                await self.site.runtime.start(replace(process, labels=labels))
        elif isinstance(step, stores.ApplyData):
            self.site.stale.discard(step.name)
            for pending in await store.apply():
                self.note(f"{step.name}: {pending}; gapless down and up bring it about")

    async def _stop_store(self, name: str) -> None:
        found = await self._found(f"data.{name}")
        asked: Literal["TERM", "INT"] = "INT" if found.labels.get("stop") == "INT" else "TERM"
        self._note_stop(found.id)
        await self.site.runtime.signal(found.id, asked)

    def _note_stop(self, id: str) -> None:
        self.site.notebook.of(id).signalled_at = clock.now()
        self.site.notebook.save()

    # -- certificates -----------------------------------------------------------------------

    async def _certificate(self, step: plan.Step) -> None:
        keeper = self.site.certificates
        match step:
            case certificates.MakeCertificate(certificate=name, kind=kind, names=names):
                await asyncio.to_thread(keeper.make, name, kind, names)
            case certificates.OrderCertificate(certificate=name, names=names):
                keeper.order(name, names)
            case certificates.InstallCertificate(certificate=name):
                await keeper.install(name)

    # -- files ------------------------------------------------------------------------------

    async def _static(self, step: static.StaticStep) -> None:
        runtime, server = self.site.runtime, self.site.static
        match step:
            case static.StartStatic():
                self.site.notebook.marks.pop(staticserver.ID, None)
                # One that runs all the same is one that does not answer.
                await runtime.signal(staticserver.ID, "KILL")
                await runtime.start(await asyncio.to_thread(server.process, self.files))
                await server.await_config(staticconf.digest(self.files))
            case static.ReloadStatic():
                await asyncio.to_thread(server.install, self.files)
                old = staticserver.workers((await self._found(staticserver.ID)).pid)
                await runtime.signal(staticserver.ID, "HUP")
                await server.await_config(staticconf.digest(self.files), old)
            case static.TellFiles(config=digest):
                await self.site.edge.serve(digest)
            case static.StopStatic():
                self._note_stop(staticserver.ID)
                await runtime.signal(staticserver.ID, "TERM")

    # -- edge -------------------------------------------------------------------------------

    async def _edge(self, step: plan.Step, observed: Observed) -> None:
        match step:
            case front.FrontStep():
                await self.site.front.perform(step)
            case balancer.StartEdge():
                self.site.notebook.marks.pop("edge", None)
                # One that runs all the same is one that nobody can steer: it has lost its sockets.
                await edges.kill(self.site.runtime)
                members = self._served(observed)
                config = self._config()
                giver = self.site.front.giver(config.addresses)
                process = await self.site.edge.process(config, members, giver)
                await edges.start(self.site.runtime, process)
            case balancer.ReloadEdge() | balancer.ReplaceEdge():
                await self._renew_edge(step, observed)
            case balancer.StopEdge():
                self._note_stop("edge")
                self.site.edge.let_go()
                await edges.end(self.site.runtime)
            case balancer.SetMaintenance(on=on):
                await self.site.edge.maintenance(on)
            case balancer.SetHold(hold=hold):
                await self.site.edge.hold(hold)
            case balancer.Await(begin=begin, end=end):
                await self.site.edge.awaits(begin, end)
            case balancer.RemoveServer(backend=backend, name=name):
                await self.site.edge.leave(backend, name)
                await self.site.edge.remove(backend, name)
            case static.StaticStep():
                await self._static(step)
            case network.NetworkStep():
                await self._network(opens=isinstance(step, network.OpenNetwork))
            case _:
                await self._certificate(step)

    async def _renew_edge(
        self, step: balancer.ReloadEdge | balancer.ReplaceEdge, observed: Observed
    ) -> None:
        members = tuple(
            self._as_member(r.id, r.address)
            for r in observed.replicas
            if r.server is not None and r.address is not None
        )
        config, edge = self._config(), self.site.edge
        if isinstance(step, balancer.ReloadEdge):
            await edge.reload(config, members, self.site.front.giver(config.addresses))
            return
        if observed.edge.heir_since is not None:
            await edges.kill(self.site.runtime)  # two would tell the same one to go
        heir = await edge.heir(config, members)
        await edges.start(self.site.runtime, heir.process)
        await heir.serves()

    def _served(self, observed: Observed) -> tuple[edge_base.Member, ...]:
        """Who was in rotation when the edge died, and is ready as far as anybody knows.

        They serve from its first moment: to introduce them one by one would make a longer outage.
        """
        found = []
        for one in observed.replicas:
            marks = self.site.notebook.of(str(one.id))
            inside = marks.entered_at is not None and marks.left_at is None
            fit = one.alive and one.signalled_at is None and one.frozen_since is None
            known = self.site.table(one.id) is not None
            if inside and fit and known and one.address and (one.ready or not one.asked):
                found.append(self._as_member(one.id, one.address))
        return tuple(found)

    def _config(self) -> edge_config.Config:
        assert self.config is not None, "the loop sets it before it acts"  # noqa: S101
        return self.config
