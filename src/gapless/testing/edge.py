"""An edge without sockets: the same contract as HAProxy's, at once and in memory.

A ``Desk`` is the world: it outlives every ``FakeEdge`` that looks at it, so a second one finds
what the first one did. Tests say what a server is like: ``busy``, ``unready``, ``trip``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gapless import errors, observed
from gapless.edge import base, config, render, sums, wire, words
from gapless.model.desired import Hold
from gapless.model.process import Address, Process

Key = tuple[str, str]
"""Backend and server name."""


@dataclass(slots=True)
class _Server:
    address: Address
    cookie: str | None
    admin: str = "maint"


@dataclass(slots=True)
class Desk:
    """One edge. ``alive`` says whether its program runs; None: from ``process`` to ``stop``.

    ``log`` lists what changed, in order, as ``enter web/web.1:r1``.
    """

    alive: Callable[[], bool] | None = None
    written: config.Config | None = None
    running: config.Config | None = None
    maintenance: bool = False
    hold: Hold | None = None
    files: str = ""
    awaited: frozenset[str] = frozenset()
    pid: int = 1
    servers: dict[Key, _Server] = field(default_factory=dict)
    in_flight: dict[Key, int] = field(default_factory=dict)
    sockets: dict[Key, int] = field(default_factory=dict)
    unready: dict[Key, str] = field(default_factory=dict)
    tripped: set[Key] = field(default_factory=set)
    totals: dict[str, base.Counters] = field(default_factory=dict)
    certified: dict[str, int] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    stopped: bool = False

    def busy(self, backend: str, name: str, requests: int) -> None:
        """So many requests are in flight on it."""
        self.in_flight[(backend, words.identifier(name))] = requests

    def carries(self, backend: str, name: str, sockets: int) -> None:
        """So many tunnels lead to it, and nothing else is in flight."""
        key = (backend, words.identifier(name))
        self.sockets[key] = self.in_flight[key] = sockets

    def check_fails(self, backend: str, name: str, why: str = "L7STS/503") -> None:
        """Its checks fail from now on; ``why`` empty: they pass."""
        key = (backend, words.identifier(name))
        self.unready.pop(key, None)
        if why:
            self.unready[key] = why

    def trip(self, backend: str, name: str) -> None:
        """It gave a run of bad answers."""
        self.tripped.add((backend, words.identifier(name)))

    def stop(self) -> None:
        """The program ends; all that it knew at run time is gone."""
        self.stopped, self.running = True, None
        self.servers.clear()
        self.in_flight.clear()
        self.sockets.clear()
        self.tripped.clear()


class FakeEdge:
    """``edge.base.Edge`` at a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def process(
        self,
        config: config.Config,
        members: tuple[base.Member, ...] = (),
        giver: Path | None = None,
    ) -> Process:
        """Nothing needs to run; ``Desk.alive`` decides when something must."""
        text = _rendered(config)
        self.desk.written, self.desk.stopped = config, False
        for server in sums.first(config, members):
            key = (server.backend, words.identifier(server.name))
            self.desk.servers[key] = _Server(server.address, server.cookie, "ready")
        if self.desk.alive is None:
            self.desk.running = config
        return Process(id="edge", argv=("edge", str(len(text))))

    def program(self, wanted: str | None) -> str:
        """There is one only."""
        return ""

    def let_go(self) -> None:
        """Nothing is held."""

    async def look(self) -> observed.Edge:
        """What the desk says."""
        if not self._up():
            ended = self.desk.stopped or self.desk.running is not None
            if ended:
                self.desk.stop()
            return observed.Edge(state="dead" if ended else "absent")
        running = self._config()
        return observed.Edge(
            state="running",
            pid=self.desk.pid,
            config=config.digest(running),
            public=running.public,
            maintenance=self.desk.maintenance,
            held_until=None if self.desk.hold is None else self.desk.hold.until,
            awaited=self.desk.awaited,
            files=self.desk.files,
            servers={name: self._server((b, name)) for b, name in self.desk.servers},
        )

    async def enter(self, member: base.Member) -> None:
        """At once, or EdgeRefused when its check fails."""
        key = self._introduce(member)
        self._set(key, "ready")
        if why := self.desk.unready.get(key):
            self._set(key, "maint")
            raise _refused("enter", f"{key[0]}/{key[1]} did not come up ({why})")
        await self.awaits([member.backend], ())

    async def leave(self, backend: str, name: str) -> None:
        """At once."""
        self._config()
        key = (backend, words.identifier(name))
        if key in self.desk.servers:
            self._set(key, "maint")

    async def awaits(self, begin: Collection[str], end: Collection[str]) -> None:
        """As said."""
        self._config()
        self.desk.awaited = self.desk.awaited.union(begin).difference(end)

    async def remove(self, backend: str, name: str) -> bool:
        """False while anything is in flight."""
        self._config()
        key = (backend, words.identifier(name))
        if key not in self.desk.servers:
            return True
        if self.desk.servers[key].admin != "maint":
            raise _refused("del server", f"{backend}/{key[1]} is in rotation")
        if self.desk.in_flight.get(key):
            return False
        del self.desk.servers[key]
        self.desk.tripped.discard(key)
        self.desk.log.append(f"remove {backend}/{key[1]}")
        return True

    async def sockets(self) -> Mapping[str, int]:
        """As the desk says."""
        self._config()
        return {name: count for (_, name), count in self.desk.sockets.items() if count}

    async def shut(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """At once."""
        self._config()
        asked = {words.identifier(name): count for name, count in counts.items()}
        for key in list(self.desk.sockets):
            shut = min(self.desk.sockets[key], asked.get(key[1], 0))
            self.desk.sockets[key] -= shut
            self.desk.in_flight[key] -= shut
        return await self.sockets()

    async def flip(
        self, enter: tuple[base.Member, ...], leave: tuple[tuple[str, str], ...]
    ) -> None:
        """In, then out; neither when one does not come up."""
        keys = [self._introduce(member) for member in enter]
        for key in keys:
            if why := self.desk.unready.get(key):
                for each in keys:
                    self._set(each, "maint")
                raise _refused("flip", f"{key[0]}/{key[1]} did not come up ({why})")
        for member in enter:
            await self.enter(member)
        for backend, name in leave:
            await self.leave(backend, name)

    async def maintenance(self, on: bool) -> None:
        """As said."""
        self._config()
        self.desk.maintenance = on

    async def hold(self, wanted: Hold | None) -> None:
        """As said; its time is over when whoever tests says so."""
        self._config()
        self.desk.hold = wanted

    async def serve(self, digest: str) -> None:
        """As said."""
        self._config()
        self.desk.files = digest

    async def reload(
        self, config: config.Config, members: tuple[base.Member, ...], giver: Path | None = None
    ) -> None:
        """Members keep their state; others go, unless they still have work in flight."""
        self._config()
        _rendered(config)
        before = dict(self.desk.servers)
        self.desk.servers.clear()
        known = {backend.name for backend in config.backends}
        self.desk.running = self.desk.written = config
        for member in members:
            if member.backend not in known:
                continue
            key = self._introduce(member)
            if key in before:
                self.desk.servers[key].admin = before[key].admin
        for key, server in before.items():
            if self.desk.in_flight.get(key) and key not in self.desk.servers:
                self.desk.servers[key] = server
                server.admin = "maint"

    async def heir(self, config: config.Config, members: tuple[base.Member, ...]) -> base.Heir:
        """Nothing needs to run here either: it serves when it is asked whether it does."""
        text = _rendered(config)
        process = Process(id="edge", argv=("edge", str(len(text)), "heir"))
        return base.Heir(process, lambda: self.reload(config, members))

    async def certificates(self) -> Mapping[str, int]:
        """How often each was changed."""
        secure = self._config().tls
        names = () if secure is None else secure.certificates
        return {name: self.desk.certified.get(name, 0) for name in names}

    async def certify(self, name: str, pem: str) -> None:
        """At once."""
        if name not in await self.certificates():
            raise _refused("set ssl cert", f"the edge has no certificate {name}")
        if "PRIVATE KEY" not in pem:
            raise base.Unfit("edge: no private key", command="set ssl cert", answer="")
        self.desk.certified[name] = self.desk.certified.get(name, 0) + 1

    async def challenges(self, answers: Mapping[str, str]) -> None:
        """As said."""
        self._config()
        self.desk.answers = dict(answers)

    async def counters(self) -> Mapping[str, base.Counters]:
        """``Desk.totals``, nought where it says nothing."""
        names = ["", *(backend.name for backend in self._config().backends)]
        return {name: self.desk.totals.get(name, base.Counters(0, 0, 0, 0)) for name in names}

    def _up(self) -> bool:
        if self.desk.alive is None:
            return self.desk.running is not None
        if self.desk.alive() and self.desk.running is None and not self.desk.stopped:
            self.desk.running = self.desk.written
        return self.desk.alive() and self.desk.running is not None

    def _config(self) -> config.Config:
        if not self._up() or self.desk.running is None:
            raise _refused("anything", "nobody answers")
        return self.desk.running

    def _introduce(self, member: base.Member) -> Key:
        sums.backend(self._config(), member.backend)
        key = (member.backend, words.identifier(member.name))
        known = self.desk.servers.get(key)
        if known is None or (known.address, known.cookie) != (member.address, member.cookie):
            self.desk.servers[key] = _Server(member.address, member.cookie)
        return key

    def _set(self, key: Key, admin: str) -> None:
        server = self.desk.servers[key]
        if server.admin != admin:
            server.admin = admin
            self.desk.log.append(f"{'enter' if admin == 'ready' else 'leave'} {key[0]}/{key[1]}")

    def _server(self, key: Key) -> observed.EdgeServer:
        server = self.desk.servers[key]
        ready = server.admin == "ready"
        tripped = ready and key in self.desk.tripped
        why = self.desk.unready.get(key, "")
        return observed.EdgeServer(
            name=key[1],
            backend=key[0],
            admin="ready" if ready else "maint",
            up=ready and not tripped and not why,
            in_flight=self.desk.in_flight.get(key, 0),
            tripped=tripped,
            check="a run of bad answers" if tripped else why or ("L7OK/200" if ready else ""),
        )


def _rendered(wanted: config.Config) -> str:
    """What cannot be written safely is refused here too."""
    return render.text(wanted)


def _refused(order: str, answer: str) -> errors.EdgeRefused:
    return errors.EdgeRefused(
        f'edge: refused "{order}": {answer or wire.UNKNOWN_SERVER}', command=order, answer=answer
    )
