"""HAProxy as the edge: written down, started by the runtime, steered through its sockets.

Nothing is remembered here but in files: the configuration that the running edge calls itself
after (``edge-<digest>.json``) tells another client, in another process, what it needs to know.

Invariants: a server is made known out of rotation and enters it only by ``enter`` or ``flip``;
it leaves by ``maint``, which turns cookie holders away too, never by ``drain`` (with a weight
of 0 before a first ``ready`` HAProxy 2.8 dies of a forged cookie).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gapless import errors, observed
from gapless.edge import (
    asking,
    base,
    binary,
    breaker,
    carrying,
    files,
    judging,
    sums,
    talk,
    wire,
    words,
)
from gapless.edge import config as conf
from gapless.model.process import Process

POLL_SECONDS = 0.02
REPLACE_SECONDS = 5.0
"""How long a server of another address may hold on to its connections before it is replaced."""
LISTING_KEPT = 3.0
"""Seconds for which a listing of sessions is drawn from."""
SHOWN_BYTES = 1_500
"""Of questions about sessions, so some fifty: each costs the edge a walk over all it has."""
PROOF_SECONDS = 0.5
"""How long those that a flip brings in must hold before those that left cannot step in at once."""


class HAProxyEdge(asking.Asking):
    """``edge.base.Edge`` by HAProxy. ``home`` keeps its configuration, ``run`` its sockets."""

    def __init__(self, home: Path, run: Path, stack: str, binary: str | None = None) -> None:
        super().__init__(run, stack)
        self.home = home
        self._program = binary
        self._breaker = breaker.Breaker()
        self._listed: carrying.Listed = {}
        self._listed_at = -LISTING_KEPT
        self._proving: dict[tuple[str, str], float] = {}
        """Since when servers that have entered are on probation, by backend and name."""

    # -- what it is started with ------------------------------------------------------------

    def process(self, config: conf.Config) -> Process:
        """The program to start. The configuration is written and checked by HAProxy itself.

        Raises EdgeRefused with HAProxy's own line, EnvironmentFault when an address is taken or
        no HAProxy is suitable, UsageError for values that cannot be written safely.
        """
        program = binary.find(self._program)
        files.prepare(self.home, self.run, config)
        if not files.answers(self._master):
            files.check_ports(config)
            files.write(self.run / conf.STATE_FILE, files.NO_STATE)
            self._base.unlink(missing_ok=True)
        files.install(program, self.home, self.run, config, ())
        return Process(
            id="edge",
            argv=(str(program), "-W", "-S", f"{self._master},mode,600", "-f", self._text),
            cwd=str(self.run),
        )

    # -- looking ----------------------------------------------------------------------------

    async def look(self) -> observed.Edge:
        """One exchange with the worker, one with the master, one with each old worker."""
        try:
            workers = await self._workers()
        except talk.SilentError as silent:
            return observed.Edge(state="dead" if silent.was else "absent")
        starting = observed.Edge(state="starting", pid=workers.master)
        if workers.current is None:
            return starting
        acl = str(self.run / conf.MAINTENANCE_LIST)
        try:
            answer = await self._ask([wire.INFO, wire.switch_look(acl), wire.SERVERS])
        except talk.SilentError:
            return starting
        info = self._info(answer)
        present = wire.servers(answer)
        await self._settle(present)
        found = {seen.server.name: seen.server for seen in await self._break(present)}
        for pid in workers.old:
            for seen in await self._old_servers(pid):
                found[seen.server.name] = sums.with_old(found.get(seen.server.name), seen.server)
        return observed.Edge(
            state="running",
            pid=workers.master,
            config=info.digest,
            maintenance=wire.is_on(answer),
            servers=found,
            uneasy=self._breaker.uneasy(time.monotonic()),
        )

    async def counters(self) -> Mapping[str, base.Counters]:
        """By backend, and ``""`` for the public frontend; since the start of the edge.

        Over reloads the sums go on; what is answered just while one happens may be missing.
        """
        workers = await self._known_workers()
        rows = wire.totals(await self._answer([wire.TOTALS]))
        before = self._counted_before()
        total = {}
        for name in ("", *sums.names(rows)):
            total[name] = sums.plus(sums.counters(rows, name), before.get(name))
        for pid in workers.old:
            answer = await self._through_master(pid, wire.TOTALS)
            old = wire.totals(answer) if wire.TABLE in answer else []
            for name, now in total.items():
                more = sums.counters(old, name).sessions
                total[name] = replace(now, sessions=now.sessions + more)
        return total

    # -- members ----------------------------------------------------------------------------

    async def enter(self, member: base.Member) -> None:
        """Into rotation; returns once HAProxy's own check found it up.

        Raises EdgeRefused when it does not come up: then it is out of rotation again.
        """
        config = await self._running()
        seen = await self._known_as(config, member)
        orders = self._introduction(config, member, seen)
        if seen is None or seen.judged is None:
            orders.append(wire.limit(member.backend, member.name, judging.PROBATION))
        await self._order([*orders, wire.state(member.backend, member.name, "ready")])
        late = await self._await_up(config, (member,))
        if late is not None:
            known = sums.find(await self._servers(), member.backend, member.name)
            await self._order(wire.out(member.backend, member.name, known) if known else [])
            raise late
        if seen is None or seen.judged is None:
            self._proving[member.backend, member.name] = time.monotonic()
        else:
            await self._order(_settled(member.backend, member.name))

    async def flip(
        self, enter: tuple[base.Member, ...], leave: tuple[tuple[str, str], ...]
    ) -> None:
        """All in and all out by one line of commands; entering first, so some always serve.

        Until those that entered are found up, those that left stay on the floor: should all
        that entered give runs of bad answers, the others serve again at once. Raises EdgeRefused
        when one does not come up: then the swap is undone.
        """
        config = await self._running()
        for member in enter:
            seen = await self._known_as(config, member)
            await self._order(self._introduction(config, member, seen))
        known = await self._servers()
        leaving = [(b, n, seen) for b, n in leave if (seen := sums.find(known, b, n))]
        leaving = [(b, n, seen) for b, n, seen in leaving if seen.judged == "ready"]
        orders = [wire.state(member.backend, member.name, "ready") for member in enter]
        await self._order([*orders, *(wire.state(b, n, "maint") for b, n, _ in leaving)])
        late = await self._await_up(config, enter, PROOF_SECONDS)
        if late is not None:
            orders = [wire.state(b, n, "ready") for b, n, _ in leaving]
            orders += [wire.state(m.backend, m.name, "maint") for m in enter]
            await self._order(orders)
            raise late
        orders = [text for m in enter for text in _settled(m.backend, m.name)]
        await self._order(
            [*orders, *(text for b, n, seen in leaving for text in wire.out(b, n, seen))]
        )

    async def leave(self, backend: str, name: str) -> None:
        """No new work from now on. A server that the edge does not know is out already."""
        seen = sums.find(await self._servers(), backend, name)
        if seen is not None:
            orders = wire.out(backend, name, seen)
            await self._order(orders)
            seen = sums.find(await self._servers(), backend, name)
            if seen is not None and seen.server.admin != "maint":
                raise talk.refused("; ".join(orders), "it did not leave")

    async def cut(self, backend: str, name: str) -> None:
        """End what it has in flight, on old workers too."""
        seen = sums.find(await self._servers(), backend, name)
        if seen is not None and seen.judged is not None:
            await self._order([wire.shutdown(backend, name)])
        if seen is not None and seen.floor is not None:
            await self._order([wire.shutdown(conf.floor(backend), name)])
        for pid in (await self._known_workers()).old:
            answer = await self._through_master(pid, wire.SESSIONS)
            for id in wire.sessions(answer, backend, name):
                await self._through_master(pid, wire.end_session(id))

    async def sockets(self) -> Mapping[str, int]:
        """One listing of each worker's sessions."""
        self._listed, self._listed_at = await self._tunnels(), time.monotonic()
        return carrying.count(self._listed)

    async def shut(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """From a listing that may be some seconds old: of each drawn one it is asked first
        whether its id still is the same client's, as ids are given to others at once."""
        old = time.monotonic() - self._listed_at > LISTING_KEPT
        if old or not carrying.enough(self._listed, counts):
            await self.sockets()
        drawn = carrying.draw(self._listed, counts, random.sample)
        for pid, tunnels in drawn.items():
            for batch in sums.batches([wire.show_session(one.id) for one in tunnels], SHOWN_BYTES):
                same = wire.still(await self._of_worker(pid, batch)) & set(tunnels)
                if same:
                    # One that has ended meanwhile is refused, and that is fine.
                    await self._of_worker(pid, [wire.end_session(one.id) for one in same])
        return carrying.count(self._listed)

    async def _of_worker(self, pid: int | None, orders: list[str]) -> str:
        if pid is None:
            return await self._answer(orders)
        return await self._through_master(pid, *orders, patience=asking.LISTING_SECONDS)

    async def _tunnels(self) -> carrying.Listed:
        """Of the present worker and of the old ones."""
        listed: carrying.Listed = {None: wire.tunnels(await self._answer([wire.SESSIONS]))}
        for pid in (await self._known_workers()).old:
            listed[pid] = wire.tunnels(await self._of_worker(pid, [wire.SESSIONS]))
        return listed

    async def remove(self, backend: str, name: str) -> bool:
        """Forget it; False while anything is attached. Raises EdgeRefused while in rotation."""
        for pid in (await self._known_workers()).old:
            seen = sums.find(await self._old_servers(pid), backend, name)
            if seen is not None and seen.server.in_flight:
                return False
        # In this order: one that is refused because it is in rotation keeps its floor.
        for each in (backend, conf.floor(backend)):
            order = wire.delete(each, name)
            answer = " ".join((await self._answer([order])).split())
            if wire.ATTACHED in answer:
                return False
            if answer not in (wire.DELETED, wire.UNKNOWN_SERVER, wire.UNKNOWN_BACKEND):
                raise talk.refused(order, answer)
        return True

    # -- the whole --------------------------------------------------------------------------

    async def maintenance(self, on: bool) -> None:
        """For new requests from now on; kept in a file for the next worker."""
        path = self.run / conf.MAINTENANCE_LIST
        files.write(path, "on\n" if on else "")
        await self._order(wire.switch(str(path), on))

    async def reload(self, config: conf.Config, members: tuple[base.Member, ...]) -> None:
        """Another worker with the new configuration; the old one finishes what it has.

        Members that are in rotation stay in it, the others stay out. The old configuration goes
        on when HAProxy refuses the new one (EdgeRefused).
        """
        files.prepare(self.home, self.run, config)
        before = await self._known_workers()
        known = await self._servers()
        states = await self._answer(["show servers state"])
        servers = sums.members(config, members, known)
        program = binary.find(self._program)
        files.write(self.run / conf.STATE_FILE, states)
        await asyncio.to_thread(files.install, program, self.home, self.run, config, servers)
        counted = await self.counters()
        answer = await talk.exchange(self._master, "reload\n")
        if "Success=0" in answer:
            raise talk.refused("reload", " ".join(answer.split()))
        await self._await_worker(before, conf.digest(config))
        files.write(self._base, sums.to_json(await self._retire(before.current, counted)))
        files.prune(self.home, conf.digest(config))

    # -- inside -----------------------------------------------------------------------------

    @property
    def _text(self) -> str:
        return str(self.home / files.TEXT)

    @property
    def _base(self) -> Path:
        return self.home / files.COUNTED

    async def _running(self) -> conf.Config:
        digest = self._info(await self._answer([wire.INFO])).digest
        return files.known(self.home, digest)

    async def _known_as(self, config: conf.Config, member: base.Member) -> wire.Seen | None:
        """What it is there as; a namesake elsewhere is removed first."""
        cookie = member.cookie if sums.backend(config, member.backend).sticky else None
        seen = sums.find(await self._servers(), member.backend, member.name)
        if seen is None or seen.id == words.server_id(member.name, member.address, cookie):
            return seen
        await self._replace(member)
        return None

    def _introduction(
        self, config: conf.Config, member: base.Member, seen: wire.Seen | None
    ) -> list[str]:
        """What makes it known, out of rotation; nothing when it is."""
        backend = sums.backend(config, member.backend)
        cookie = member.cookie if backend.sticky else None
        server = conf.Server(member.name, member.backend, member.address, cookie)
        orders = []
        if seen is None or seen.judged is None:
            orders += wire.add(backend, server)
        if seen is None or seen.floor is None:
            orders += wire.add(backend, server, floor=True)
        return orders

    async def _replace(self, member: base.Member) -> None:
        await self.leave(member.backend, member.name)
        deadline = time.monotonic() + REPLACE_SECONDS
        while not await self.remove(member.backend, member.name):
            if time.monotonic() > deadline:
                await self.cut(member.backend, member.name)
                deadline = float("inf")
            await asyncio.sleep(POLL_SECONDS)

    async def _await_up(
        self, config: conf.Config, members: tuple[base.Member, ...], proof: float = 0.0
    ) -> errors.EdgeRefused | None:
        """None once all are up; else why the first one is not.

        ``proof``: for so many seconds they must stay up, or until they have answered enough.
        """
        backends = [sums.backend(config, member.backend) for member in members]
        patience = max([0.0, *(2 * b.check_every + b.check_timeout + 1.0 for b in backends)])
        started = time.monotonic()
        deadline = started + patience
        while True:
            known = await self._servers()
            found = [(member, sums.find(known, member.backend, member.name)) for member in members]
            waiting = [(m, s) for m, s in found if not (s and s.checked and s.server.takes_work)]
            proven = all(s and s.server.served >= 2 * judging.ERROR_LIMIT for _, s in found)
            if not waiting and (proven or time.monotonic() - started >= proof):
                return None
            tripped = [pair for pair in waiting if pair[1] and pair[1].server.tripped]
            if tripped or (waiting and time.monotonic() > deadline):
                break
            await asyncio.sleep(POLL_SECONDS)
        member, seen = (tripped or waiting)[0]
        taken = "gave a run of bad answers and was taken out"
        late = f"did not come up within {patience:g} s"
        last = seen.server.check if seen is not None else "the edge does not know it"
        return errors.EdgeRefused(
            f"edge: {member.backend}/{member.name} {taken if tripped else late}"
            f" ({last or 'no answer to its check'})",
            command="enter",
            answer=last,
        )

    async def _settle(self, present: Sequence[wire.Seen]) -> None:
        """The end of probation; and what a controller that died in ``enter`` left undone."""
        orders = []
        now = time.monotonic()
        for seen in present:
            server = seen.server
            if seen.floor == "ready" and seen.judged != "ready":
                orders.append(wire.state(conf.floor(server.backend), server.name, "maint"))
            if seen.judged != "ready" or not (seen.checked and server.up):
                continue
            since = self._proving.get((server.backend, server.name), -PROOF_SECONDS)
            proven = server.served > judging.ERROR_LIMIT or now - since >= PROOF_SECONDS
            if proven and (seen.probation or seen.floor == "maint"):
                orders += _settled(server.backend, server.name)
                self._proving.pop((server.backend, server.name), None)
        if orders:
            await self._order(orders)

    async def _break(self, present: Sequence[wire.Seen]) -> list[wire.Seen]:
        """Take out what gave bad answers one after the other; as it is then."""
        trips = self._breaker.look((seen.server for seen in present), time.monotonic())
        await self._order([wire.trip(server.backend, server.name) for server in trips])
        judged = []
        for seen in present:
            server = replace(seen.server, up=False) if seen.server in trips else seen.server
            if why := self._breaker.reason(server):
                server = replace(server, tripped=True, check=f"{why}; {server.check}")
            judged.append(seen if server is seen.server else replace(seen, server=server))
        return judged

    async def _await_worker(self, before: wire.Workers, digest: str) -> None:
        deadline = time.monotonic() + talk.ANSWER_SECONDS
        while time.monotonic() < deadline:
            try:
                workers = await self._workers()
                if workers.current not in (None, before.current):
                    info = self._info(await self._ask([wire.INFO]))
                    if info.digest == digest and info.pid == workers.current:
                        return
            except talk.SilentError:
                pass  # the master is between two lives
            await asyncio.sleep(POLL_SECONDS)
        raise talk.refused("reload", "no new worker took over")

    async def _retire(
        self, replaced: int | None, counted: Mapping[str, base.Counters]
    ) -> Mapping[str, base.Counters]:
        """Old workers take no orders about servers: they pass on what still comes to them.

        Gives what had passed through before: the last word of the one just replaced, said in
        the same breath, or ``counted`` when it had nothing left to do and is gone.
        """
        if replaced not in (await self._known_workers()).old:
            return counted
        orders = wire.switch(str(self.run / conf.RETIRED_LIST), True)
        answer = await self._through_master(replaced, wire.TOTALS, *orders)
        if wire.TABLE not in answer:
            return counted
        rows = wire.totals(answer)
        before = self._counted_before()
        names = ("", *sums.names(rows))
        kept = {n: sums.plus(sums.counters(rows, n), before.get(n)) for n in names}
        return {**counted, **kept}

    def _counted_before(self) -> Mapping[str, base.Counters]:
        try:
            return sums.from_json(self._base.read_text())
        except (OSError, ValueError, TypeError):
            return {}


def _settled(backend: str, name: str) -> list[str]:
    """It is in: any number of requests, and the floor may count on it."""
    return [
        wire.limit(backend, name, 0),
        wire.state(conf.floor(backend), name, "ready"),
    ]
