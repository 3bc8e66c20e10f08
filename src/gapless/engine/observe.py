"""One look at the world: processes, edge, stores, jobs and probes into one ``Observed``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace

from gapless import errors, observed
from gapless.core import goodbye, restart
from gapless.core import replica as states
from gapless.edge import asking, staticserver
from gapless.edge import config as edge_config
from gapless.engine import clock, durable, edges, jobs
from gapless.engine.ends import Ends
from gapless.engine.prober import LiveProber, Prober, Subject
from gapless.engine.site import Site
from gapless.engine.stores import StoreWatch
from gapless.engine.vitals import Sampler
from gapless.model.desired import Desired, Generation
from gapless.model.process import Exit, ReplicaId
from gapless.model.service import Probe, Service
from gapless.model.stack import Stack
from gapless.runtimes.base import LOST, Asks, Found

SOCKETS_KNOWN = 1.0
"""Seconds for which a count of sockets is taken as the present one."""
LOST_AFTER = 5.0
"""Seconds after its start from which an edge without a socket has lost it."""


class Observer:
    """Looks, and remembers only what no look can show: failures in a row, and readiness."""

    def __init__(
        self,
        site: Site,
        prober: Prober,
        live: LiveProber,
        stores: StoreWatch,
        vitals: Sampler,
    ) -> None:
        self.site = site
        self.prober = prober
        self.live = live
        self.stores = stores
        self.vitals = vitals
        self._failures: dict[observed.Slot, observed.Failures] = {}
        self._ended: set[str] = set()
        self.ends = Ends()
        self._sockets: Mapping[str, int] = {}
        self._sockets_until = 0.0
        self._static_answered = 0.0
        self._noted = False
        """Whether the notebook knows more than its file."""

    def clear_failures(self, names: set[str]) -> None:
        """A new version is a new chance: no back-off is carried over to it."""
        self._failures = {k: v for k, v in self._failures.items() if k[0] not in names}

    async def look(self, desired: Desired) -> observed.Observed:
        """Everything at this moment. Raises EdgeRefused or RuntimeFault when it cannot tell."""
        founds = {found.id: found for found in await self.site.runtime.look()}
        edge = await self.site.edge.look()
        program, heir = edges.serving(founds.values(), edge.pid)
        if program is not None:
            edge = replace(edge, program=program.id)
        if heir is not None:
            edge = replace(edge, heir_since=heir.started_at)
        if program is not None and edge.state != "absent" and not program.alive:
            edge = replace(edge, state="dead", servers={})
        if program is not None and program.alive and edge.state in ("absent", "dead"):
            # It runs and does not answer yet: a second one would find its port taken.
            edge = replace(edge, state="starting", pid=program.pid)
            if self._lost(program):
                edge = replace(edge, state="dead", pid=None, servers={})
        edge = replace(edge, stopping_at=self._told_to_stop("edge"))
        replicas = tuple(
            self._replica(found, edge) for found in founds.values() if _is_replica(found)
        )
        self._note_ends(replicas)
        replicas = await self._with_sockets(replicas)
        if self._noted:
            # A full disk blinds nobody: what it costs is that the next controller asks again.
            with contextlib.suppress(errors.GaplessError):
                self.site.notebook.save()
                self._noted = False
        return observed.Observed(
            replicas=replicas,
            bridge=self.site.bridge,
            edge=edge,
            front=await self.site.front.look(),
            certificates=await self.site.certificates.look(self._in_force(desired), edge),
            static=await self._static(founds.get(staticserver.ID)),
            data=self._data(desired, founds),
            jobs=tuple(
                jobs.run_of(found, self.site.notebook.marks.get(found.id))
                for found in founds.values()
                if found.labels.get("kind") == "job"
            ),
            failures=dict(self._failures),
            attempts={_slot(text): number for text, number in self.site.notebook.attempts.items()},
            cpus=os.cpu_count() or 1,
        )

    def _in_force(self, desired: Desired) -> list[Stack]:
        """The stack whose edge applies, then that of the rollout under way."""
        numbers = [desired.stack, desired.rollout.stack if desired.rollout else None]
        found = [None if n is None else self.site.readable(n) for n in dict.fromkeys(numbers)]
        return [stack for stack in found if stack is not None] if desired.running else []

    async def _static(self, program: Found | None) -> observed.Static:
        """The server of files; one that has been silent for long is as good as dead."""
        if program is None or not program.alive:
            return observed.Static("absent" if program is None else "dead")
        seen = await self.site.static.look(program.pid)
        now = clock.now()
        stopped = self.vitals.of(staticserver.ID).frozen_since or 0.0
        if program.started_at < stopped < now - states.HUNG_AFTER:
            return observed.Static("dead")  # its workers answer, and it would not hear of a reload
        if seen.config:
            self._static_answered = now
        elif now - max(self._static_answered, program.started_at) > LOST_AFTER:
            return observed.Static("dead")
        return replace(seen, stopping_at=self._told_to_stop(staticserver.ID))

    async def _with_sockets(
        self, replicas: tuple[observed.Replica, ...]
    ) -> tuple[observed.Replica, ...]:
        """Those on their way out with the sockets they still have; asked only for them, and
        so seldom that the answer costs the edge a tenth of its time at most."""
        if not any(map(goodbye.leaves, replicas)):
            return replicas
        now = clock.now()
        if now >= self._sockets_until:
            sockets = await self.site.edge.sockets()
            self.saw_sockets(sockets, clock.now() - now)
        return tuple(
            replace(r, sockets=self._sockets.get(r.id.server, 0)) if goodbye.leaves(r) else r
            for r in replicas
        )

    def saw_sockets(self, sockets: Mapping[str, int], took: float = 0.0) -> None:
        """What the edge carries now, known for a while."""
        self._sockets = sockets
        self._sockets_until = clock.now() + max(SOCKETS_KNOWN, 10 * took)

    def _told_to_stop(self, id: str) -> float | None:
        marks = self.site.notebook.marks.get(id)
        return None if marks is None else marks.signalled_at

    def _lost(self, program: Found) -> bool:
        """Whether a running edge can never be steered again: its socket's entry was removed."""
        old = clock.now() - program.started_at > LOST_AFTER
        return old and not (asking.place(self.site.paths.run) / edge_config.MASTER_SOCKET).exists()

    def _replica(self, found: Found, edge: observed.Edge) -> observed.Replica:
        id = ReplicaId.parse(found.id)
        # One whose labels are lost is of no generation that anybody wants: it is replaced.
        unknown = "-1" if LOST in found.labels else "0"
        generation = Generation(id.release, int(found.labels.get("epoch", unknown)))
        server = edge.servers.get(id.server)
        marks = self.site.notebook.of(found.id)
        now = clock.now()
        if server is not None and server.admin == "maint" and marks.left_at is None:
            marks.left_at = now
            self._noted = True
        if server is not None and server.admin == "ready" and marks.entered_at is None:
            marks.entered_at = now
            self._noted = True
        service = self.site.table(id)
        signs = self.vitals.of(found.id)
        seen = observed.Replica(
            id=id,
            generation=generation,
            alive=found.alive,
            started_at=found.started_at,
            address=found.address,
            pid=found.pid,
            exit=found.exit if found.exit is not None or found.alive else Exit(),
            server=server,
            entered_at=marks.entered_at if server is not None else None,
            left_at=marks.left_at,
            told_at=marks.told_at,
            told_sockets=marks.told_sockets,
            told_rate=marks.told_rate,
            shut_at=marks.shut_at,
            signalled_at=marks.signalled_at,
            killed_at=marks.killed_at,
            cores=signs.cores,
            memory=signs.memory,
            memory_low=signs.memory_low,
            frozen_since=signs.frozen_since if found.alive else None,
        )
        if service is None:
            return replace(seen, ready=server is not None and server.up, ever_ready=True)
        seen = self._with_liveness(self._with_readiness(seen, service), service)
        if seen.frozen_since is not None:
            return replace(seen, ready=False, ready_since=None, probe=f"process {signs.frozen}")
        place = seen.address.socket if seen.address else None
        if seen.ready and place and not os.access(place, os.F_OK):
            # Known at once, so that no step is tried that can only fail.
            return replace(seen, ready=False, probe=f"its socket {place} is gone")
        return seen

    def _with_readiness(self, seen: observed.Replica, service: Service) -> observed.Replica:
        """Readiness by the edge's own checks for its members, by our probes for the others."""
        id = str(seen.id)
        marks = self.site.notebook.of(id)
        if not seen.alive or seen.signalled_at is not None:
            self.prober.leave(id)
            known = self.prober.health(id)
            return replace(seen, ready=False, ever_ready=marks.ever_ready, probe=known.last)
        if service.http and states.in_edge(seen):
            server = seen.server
            assert server is not None  # noqa: S101  # in_edge says so
            if server.up:
                self.prober.leave(id)
                self.prober.assume_ready(id)
            else:
                # The edge decides; but all it knows of an answer is the status, and not the reason.
                self._watch(seen, service)
            self._note_ready(marks)
            known = self.prober.health(id)
            text = known.last if known.last and not (known.ready or server.up) else server.check
            return replace(
                seen, ready=server.up, ready_since=seen.entered_at, ever_ready=True, probe=text
            )
        self._watch(seen, service)
        known = self.prober.health(id)
        if known.ever:
            self._note_ready(marks)
        return replace(
            seen,
            asked=bool(known.last),
            ready=known.ready,
            ready_since=known.since,
            ever_ready=marks.ever_ready,
            probe=known.last,
        )

    def _note_ready(self, marks: durable.Marks) -> None:
        self._noted |= not marks.ever_ready
        marks.ever_ready = True

    def _watch(self, seen: observed.Replica, service: Service) -> None:
        if str(seen.id) not in self.prober:
            self.prober.watch(self._subject(seen, service.ready))

    def _with_liveness(self, seen: observed.Replica, service: Service) -> observed.Replica:
        """Liveness by our probes, from when it was first ready until it is asked to end."""
        if service.live is None:
            return seen
        id = str(seen.id)
        if seen.alive and seen.ever_ready and seen.signalled_at is None:
            if id not in self.live:
                self.live.watch(self._subject(seen, service.live))
        else:
            self.live.leave(id)
        known = self.live.of(id)
        return replace(seen, live_failed_since=known.failed_since, live=known.last)

    def _subject(self, seen: observed.Replica, probe: Probe | None) -> Subject:
        subject = Subject(str(seen.id), probe, seen.address, seen.started_at)
        if probe is None or not probe.command:
            return subject
        argv, env, cwd = self.site.probe_command(seen.id, seen.generation, probe.command)
        uid = self.site.uid(seen.id.service)
        subject = replace(subject, command=argv, command_env=env, cwd=cwd, uid=uid)
        runtime = self.site.runtime
        if self.site.contained(seen.id, seen.generation) and isinstance(runtime, Asks):
            return replace(subject, ask=runtime.ask)
        return subject

    def _note_ends(self, replicas: tuple[observed.Replica, ...]) -> None:
        """Count ends without steady readiness, once each; ends that we asked for count nothing."""
        now = clock.now()
        for seen in replicas:
            slot = (seen.id.service, seen.id.ordinal)
            if seen.alive:
                since = seen.ready_since
                if seen.ready and since is not None and now - since > restart.STEADY_AFTER:
                    self._failures.pop(slot, None)
                continue
            if str(seen.id) in self._ended:
                continue
            self._ended.add(str(seen.id))
            self.ends.note(seen, now)
            if not seen.ever_ready:
                reason = f"{seen.id} cannot start: {seen.exit}{probe_text(seen)}"
                self.note_fault(seen.id, reason)

    def note_fault(self, id: ReplicaId, reason: str) -> None:
        """It could not even be started: that counts like an end without readiness."""
        slot = (id.service, id.ordinal)
        before = self._failures.get(slot)
        count = (before.count if before else 0) + 1
        self._failures[slot] = observed.Failures(count, clock.now(), reason)

    def forget(self, id: str) -> None:
        """A replica is cleared away."""
        self.prober.forget(id)
        self.live.forget(id)
        self._ended.discard(id)
        self.site.notebook.marks.pop(id, None)

    def _data(self, desired: Desired, founds: dict[str, Found]) -> dict[str, observed.DataNode]:
        numbers = [desired.stack, desired.rollout.stack if desired.rollout else None]
        numbers.append(max((r.number for r in self.site.releases.list()), default=None))
        nodes: dict[str, observed.DataNode] = {}
        for number in numbers:
            if number is None:
                continue
            stack = self.site.stack(number) if desired.running else self.site.readable(number)
            for name, table in () if stack is None else stack.data.items():
                if name in nodes:
                    continue  # the stack in force comes first: its table holds until the commit
                store = self.site.store(name, table)
                node = self.stores.node(name, table, store, founds.get(f"data.{name}"))
                nodes[name] = replace(
                    node,
                    stale=name in self.site.stale,
                    stopping_at=self._told_to_stop(f"data.{name}"),
                )
        return nodes | self._nameless(nodes, founds)

    def _nameless(
        self, known: Mapping[str, observed.DataNode], founds: Mapping[str, Found]
    ) -> dict[str, observed.DataNode]:
        """Servers of stores that no release names that can be read: they can still be stopped."""
        nodes = {}
        for found in founds.values():
            name = found.id.removeprefix("data.")
            if found.alive and name != found.id and name not in known:
                kind = found.labels.get("type", "")
                at = self._told_to_stop(found.id)
                nodes[name] = observed.DataNode(name, kind, "ready", pid=found.pid, stopping_at=at)
        return nodes


def _is_replica(found: Found) -> bool:
    """Also one whose labels are lost: its id says it."""
    if LOST not in found.labels:
        return found.labels.get("kind") == "replica"
    try:
        ReplicaId.parse(found.id)
    except ValueError:
        return False
    return True


def probe_text(seen: observed.Replica) -> str:
    """The last probe as the tail of a sentence."""
    return f" (last probe: {seen.probe})" if seen.probe else ""


def _slot(text: str) -> tuple[str, int, int]:
    id = ReplicaId.parse(text)
    return id.service, id.ordinal, id.release
