"""Who is in rotation: servers made known, entering, leaving, forgotten.

Invariants: a server is made known out of rotation and enters it only by ``enter`` or ``flip``;
it leaves by ``maint``, which turns cookie holders away too, never by ``drain`` (with a weight
of 0 before a first ``ready`` HAProxy 2.8 dies of a forged cookie).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gapless import errors
from gapless.edge import (
    asking,
    awaiting,
    base,
    carrying,
    files,
    judging,
    queueing,
    sums,
    talk,
    wire,
    words,
)
from gapless.edge import config as conf

POLL_SECONDS = 0.02
REPLACE_SECONDS = 5.0
"""How long a server of another address may hold on to its connections before it is replaced."""
LISTING_KEPT = 3.0
"""Seconds for which a listing of sessions is drawn from."""
SHOWN_BYTES = 1_500
"""Of questions about sessions, so some fifty: each costs the edge a walk over all it has."""
ENTER_SECONDS = 25.0
"""For so long one that enters may not be found up at most: less than a step may take, which would
tell no reason."""
PROOF_SECONDS = 0.5
"""How long those that a flip brings in must hold before those that left cannot step in at once."""


class Rotation(asking.Asking):
    """The part of ``edge.base.Edge`` that is about members. ``home`` keeps the configuration."""

    def __init__(self, home: Path, run: Path, stack: str) -> None:
        super().__init__(run, stack)
        self.home = home
        self._listed: carrying.Listed = {}
        self._listed_at = -LISTING_KEPT
        self._proving: dict[tuple[str, str], float] = {}
        """Since when servers that have entered are on probation, by backend and name."""
        self._lasting: tuple[str, Mapping[str, int]] = ("", {})
        """Of the configuration of that digest: see ``_limits``."""

    async def enter(self, member: base.Member) -> None:
        """Into rotation; returns once HAProxy's own check found it up.

        Raises EdgeRefused when it does not come up: then it is out of rotation again.
        """
        config = await self._running()
        seen = await self._known_as(config, member)
        orders = self._introduction(config, member, seen)
        if seen is None or seen.judged is None:
            queue = sums.backend(config, member.backend).queue
            few = queueing.at_most(queue, judging.PROBATION)
            orders.append(wire.limit(member.backend, member.name, few))
        await self._order([*orders, wire.state(member.backend, member.name, "ready")])
        late = await self._await_up(config, (member,))
        if late is not None:
            known = sums.find(await self._servers(), member.backend, member.name)
            await self._order(wire.out(member.backend, member.name, known) if known else [])
            raise late
        await self._await({member.backend})
        if seen is None or seen.judged is None:
            self._proving[member.backend, member.name] = time.monotonic()
        else:
            await self._order(_settled(_usual(config, member), member.backend, member.name))

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
        await self._await({member.backend for member in enter})
        orders = [text for m in enter for text in _settled(_usual(config, m), m.backend, m.name)]
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

    async def awaits(self, begin: Collection[str], end: Collection[str]) -> None:
        """Kept in a file for the next worker, and for an edge that is started while nobody is
        there. A worker of an older text has no such list, and is told in vain."""
        path = self.run / awaiting.MAP
        self._put(path, awaiting.text(self._awaited().union(begin).difference(end)))
        orders = [wire.add_map(str(path), name, "1") for name in begin]
        orders += [wire.delete_map(str(path), name) for name in end]
        await self._answer(orders)

    async def _await(self, backends: set[str]) -> None:
        """For those that have somebody in it now, and had not before."""
        if new := backends - self._awaited():
            await self.awaits(new, ())

    def _awaited(self) -> set[str]:
        path = self.run / awaiting.MAP
        return awaiting.entries(path.read_text()) if path.exists() else set()

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
        patience = min(patience, ENTER_SECONDS)
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
            f"edge: {member.backend}/{member.name} at {member.address} "
            f"{taken if tripped else late} ({last or 'no answer to its check'})",
            command="enter",
            answer=last,
        )

    def _limits(self, digest: str) -> Mapping[str, int]:
        """Requests at a time that a server of each backend gets for good; 0: any number."""
        if self._lasting[0] != digest:
            backends = files.known(self.home, digest).backends
            lasting = {one.name: queueing.at_most(one.queue, 0) for one in backends}
            self._lasting = (digest, lasting)
        return self._lasting[1]

    async def _settle(self, present: Sequence[wire.Seen], digest: str) -> None:
        """The end of probation; and what a controller that died in ``enter`` left undone."""
        orders = []
        lasting: Mapping[str, int] = {}
        with contextlib.suppress(errors.EdgeRefused):  # without a record it stays as it is
            lasting = self._limits(digest)
        now = time.monotonic()
        for seen in present:
            server = seen.server
            if seen.floor == "ready" and seen.judged != "ready":
                orders.append(wire.state(conf.floor(server.backend), server.name, "maint"))
            if seen.judged != "ready" or not (seen.checked and server.up):
                continue
            since = self._proving.get((server.backend, server.name), -PROOF_SECONDS)
            proven = server.served > judging.ERROR_LIMIT or now - since >= PROOF_SECONDS
            usual = lasting.get(server.backend, seen.limit)
            if proven and (seen.limit not in (0, usual) or seen.floor == "maint"):
                orders += _settled(usual, server.backend, server.name)
                self._proving.pop((server.backend, server.name), None)
        if orders:
            await self._order(orders)


def _settled(usual: int, backend: str, name: str) -> list[str]:
    """It is in: as many requests as ever, and the floor may count on it."""
    return [
        wire.limit(backend, name, usual or judging.ANY),
        wire.state(conf.floor(backend), name, "ready"),
    ]


def _usual(config: conf.Config, member: base.Member) -> int:
    return queueing.at_most(sums.backend(config, member.backend).queue, 0)
