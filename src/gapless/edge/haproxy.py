"""HAProxy as the edge: written down, started by the runtime, steered through its sockets.

What has to be known lies in files: the configuration that the running edge calls itself after
(``edge-<digest>.json``) tells another client, in another process, what it needs. What is
remembered beside that (probation, runs of bad answers) only begins anew when it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gapless import errors, observed
from gapless.edge import (
    awaiting,
    base,
    binary,
    breaker,
    files,
    hold,
    keeper,
    limits,
    programs,
    rotation,
    securing,
    static,
    succession,
    sums,
    takeover,
    talk,
    wire,
)
from gapless.edge import config as conf
from gapless.model.desired import Hold
from gapless.model.packed import Packed
from gapless.model.process import Process

HEIR_SECONDS = 25.0
"""How long another program may take until it serves."""
MAPS = (conf.HOLD_MAP, awaiting.MAP, conf.FILES_MAP)
"""What is looked at of an edge's memory: no entry of one looks like one of another."""
PROGRAM_SECONDS = 5.0
"""For so long a program that was found is taken for the one that is there."""


@dataclass(frozen=True, slots=True)
class _About:
    """What its configuration says of a running edge; nothing where it cannot be read."""

    public: tuple[str, ...] = ()
    form: observed.EdgeForm = field(default_factory=observed.EdgeForm)


@dataclass(frozen=True, slots=True)
class _Change:
    """Another configuration, in force on disk; who served ``before``, and had ``counted``."""

    config: conf.Config
    source: programs.Programs
    program: Path
    before: wire.Workers
    counted: Mapping[str, base.Counters]


class HAProxyEdge(rotation.Rotation, securing.Securing):
    """``edge.base.Edge`` by HAProxy. ``home`` keeps its configuration, ``run`` its sockets."""

    def __init__(
        self,
        home: Path,
        run: Path,
        stack: str,
        binary: str | None = None,
        *,
        keep: bool = False,
        packed: Packed | None = None,
    ) -> None:
        """``keep``: hold its listening sockets too, for the one after it. ``packed``: where it can
        run in a container."""
        super().__init__(home, run, stack)
        self._packed = packed
        self._program = binary
        self._breaker = breaker.Breaker()
        self._keeper = keeper.Keeper() if keep else None
        self._seen: tuple[str | None, float, str] | None = None
        """Which program was asked for, when it was looked for, and what was found."""
        self._is: tuple[str, _About] = ("", _About())
        """What runs, by the configuration of that digest: see ``_about``."""
        self._calm: wire.Workers | None = None
        """A worker without any other beside it, as the master told."""

    # -- what it is started with ------------------------------------------------------------

    async def process(
        self,
        config: conf.Config,
        members: tuple[base.Member, ...] = (),
        giver: Path | None = None,
    ) -> Process:
        """The program to start. The configuration is written and checked by HAProxy itself.

        ``members`` are in rotation from its first moment; ``giver``: see ``base.Edge``. What this
        controller holds, and what it is given, is passed on. Raises EdgeRefused with HAProxy's own
        line, EnvironmentFault when an address is taken or no HAProxy is suitable, UsageError for
        values that cannot be written safely.
        """
        self._move(Path(config.run_dir))
        files.prepare(self.home, self.run, config)
        source = self._source(config)
        program = await source.take()
        inherits: tuple[str, ...] = ()
        if not files.answers(self._master):
            kept = () if self._keeper is None else self._keeper.passes_on()
            inherits = succession.inherits(config, source, self.run, kept, giver)
            files.write(self.run / conf.STATE_FILE, files.NO_STATE, config.reader)
            self._base.unlink(missing_ok=True)
        draft = files.draft(self.home, self.run, config, sums.first(config, members))
        if not (config.image and files.enforced(self.home, config)):
            # What has died is to be back at once, and its like was checked.
            await source.check(program, draft)
        files.enforce(self.home, config)
        return source.process(program, self._argv(*inherits))

    def _move(self, run: Path) -> None:
        """From now on its sockets are there; who was elsewhere is dead."""
        if run == self.run:
            return
        for path in (self._master, self._stats):
            path.unlink(missing_ok=True)
        if self.run.name == conf.FOLDER:
            shutil.rmtree(self.run, ignore_errors=True)
        self.run = run

    def _source(self, config: conf.Config) -> programs.Programs:
        if not config.image:
            return programs.OfMachine(self.home, self.run, config.binary or self._program)
        if self._packed is None:
            raise errors.EnvironmentFault(
                "edge: its image needs containers", hint="gapless down, then up --target docker"
            )
        return programs.OfImage(self._packed, config.image, self.home, self.run, uid=config.reader)

    def program(self, wanted: str | None) -> str:
        """Looked for anew every few seconds; where none is to be found, what runs will do."""
        now = time.monotonic()
        if self._seen is None or self._seen[0] != wanted or now - self._seen[1] > PROGRAM_SECONDS:
            self._seen = (wanted, now, self._look_for_program(wanted))
        return self._seen[2]

    def _look_for_program(self, wanted: str | None) -> str:
        try:
            return binary.identity(binary.find(wanted or self._program))
        except errors.EnvironmentFault:
            taken = binary.taken(self.home)
            return "" if taken is None else binary.identity(taken)

    def let_go(self) -> None:
        """It is to stop, and nobody comes after it: nothing is held open for it."""
        if self._keeper is not None:
            self._keeper.drop()
            self._keeper.wanted = False

    # -- looking ----------------------------------------------------------------------------

    async def look(self) -> observed.Edge:
        """One exchange with the worker, one with each old worker, and one with the master unless
        the worker is the one it named last, alone.
        """
        calm = self._calm if self._master.exists() else None
        try:
            workers = calm or await self._workers()
        except talk.SilentError as silent:
            if self._keeper is not None:
                self._keeper.alone()
            return observed.Edge(state="dead" if silent.was else "absent")
        starting = observed.Edge(state="starting", pid=workers.master)
        if workers.current is None:
            return starting
        acl = str(self.run / conf.MAINTENANCE_LIST)
        try:
            maps = [wire.map_look(str(self.run / name)) for name in MAPS]
            answer = await self._ask([wire.INFO, wire.switch_look(acl), *maps, wire.SERVERS])
        except talk.SilentError:
            if calm is None:
                return starting
            self._calm = None
            return await self.look()
        info = self._info(answer)
        self._calm = workers if info.pid == workers.current and not workers.old else None
        if calm is not None and self._calm is None:
            return await self.look()
        await self._keep(workers.current)
        present = wire.servers(answer)
        await self._settle(present, info.digest)
        found = {seen.server.name: seen.server for seen in await self._break(present)}
        for pid in workers.old:
            for seen in await self._old_servers(pid):
                found[seen.server.name] = sums.with_old(found.get(seen.server.name), seen.server)
        about = self._about(info.digest)
        return observed.Edge(
            state="running",
            pid=workers.master,
            config=info.digest,
            public=about.public,
            form=about.form,
            maintenance=wire.is_on(answer),
            held_until=hold.until(answer, time.time()),
            awaited=awaiting.told(answer),
            files=static.told(answer),
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

    # -- the whole --------------------------------------------------------------------------

    async def maintenance(self, on: bool) -> None:
        """For new requests from now on; kept in a file for the next worker."""
        path = self.run / conf.MAINTENANCE_LIST
        self._put(path, "on\n" if on else "")
        await self._order(wire.switch(str(path), on))

    async def hold(self, wanted: Hold | None) -> None:
        """For new requests from now on; kept in a file for the next worker.

        Old workers are only told to let go: what they still get they pass on to the present one.
        """
        path = self.run / conf.HOLD_MAP
        self._put(path, hold.text(wanted))
        entry = None if wanted is None else hold.entry(wanted)
        await self._order(wire.only_entry(str(path), entry))
        for pid in (await self._known_workers()).old:
            await self._through_master(pid, *wire.only_entry(str(path), None))

    async def serve(self, digest: str) -> None:
        """For new requests from now on; kept in a file for the next worker."""
        path = self.run / conf.FILES_MAP
        self._put(path, static.entry(digest))
        await self._order(wire.only_entry(str(path), digest or None))

    async def reload(
        self, config: conf.Config, members: tuple[base.Member, ...], giver: Path | None = None
    ) -> None:
        """Another worker with the new configuration; the old one finishes what it has.

        Members that are in rotation stay in it, the others stay out. The old configuration goes
        on when HAProxy refuses the new one (EdgeRefused).
        """
        change = await self._prepare(config, members)
        files.hand_over(self.run / limits.SOCKET, config.becomes)
        taken: tuple[keeper.Kept, ...] = ()
        if giver is not None:
            taken = await asyncio.to_thread(succession.taken, config, self.run, giver)
        with takeover.taking(self.home, self.run, change.program, taken):
            answer = await talk.exchange(self._master, "reload\n")
        if "Success=0" in answer:
            raise talk.refused("reload", " ".join(answer.split()))
        await self._succeeds(change, talk.ANSWER_SECONDS)

    async def heir(self, config: conf.Config, members: tuple[base.Member, ...]) -> base.Heir:
        """Another program, which is given the sockets of the one that serves."""
        change = await self._prepare(config, members)
        argv = await asyncio.to_thread(
            succession.takes_over, config, change.source, self.run, change.before.master
        )
        process = change.source.process(change.program, self._argv(*argv))
        return base.Heir(process, functools.partial(self._succeeds, change, HEIR_SECONDS))

    async def _prepare(self, config: conf.Config, members: tuple[base.Member, ...]) -> _Change:
        """Write down what the next worker begins with, and what there was before it."""
        if Path(config.run_dir) != self.run:
            raise errors.EdgeRefused(
                "edge: between the machine and a container it cannot pass while it runs",
                hint="gapless down, then gapless up",
                command="reload",
                answer="",
            )
        files.prepare(self.home, self.run, config)
        before = await self._known_workers()
        known = await self._servers()
        states = await self._answer(["show servers state"])
        servers = sums.members(config, members, known)
        source = self._source(config)
        program = await source.take()
        files.write(self.run / conf.STATE_FILE, states, config.reader)
        await source.check(program, files.draft(self.home, self.run, config, servers))
        files.enforce(self.home, config)
        if not config.image:
            binary.point(self.home, program)
        return _Change(config, source, program, before, await self.counters())

    async def _succeeds(self, change: _Change, patience: float) -> None:
        """Returns once the next worker serves, and the one before passes on what it still gets."""
        digest = conf.digest(change.config)
        await self._await_worker(change.before, digest, patience)
        counted = await self._retire(change.before.current, change.counted)
        files.write(self._base, sums.to_json(counted))
        files.prune(self.home, digest)

    def _argv(self, *more: str) -> tuple[str, ...]:
        return ("-W", "-S", f"{self._master},mode,600", "-f", self._text, *more)

    # -- inside -----------------------------------------------------------------------------

    def _about(self, digest: str) -> _About:
        """Looked up once for each configuration."""
        if self._is[0] != digest:
            found = _About()
            with contextlib.suppress(errors.EdgeRefused):
                config = files.known(self.home, digest)
                found = _About(config.public, succession.form(config))
            self._is = digest, found
        return self._is[1]

    @property
    def _text(self) -> str:
        return str(self.home / files.TEXT)

    @property
    def _base(self) -> Path:
        return self.home / files.COUNTED

    async def _keep(self, worker: int) -> None:
        if self._keeper is None or not self._keeper.wanted:
            return
        self._keeper.serves()
        if self._keeper.worker != worker:
            await asyncio.to_thread(self._keeper.take, worker, self._stats)

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

    async def _await_worker(self, before: wire.Workers, digest: str, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                workers = await self._workers()
                if workers.current not in (None, before.current):
                    info = self._info(await self._ask([wire.INFO]))
                    if info.digest == digest and info.pid == workers.current:
                        return
            except talk.SilentError:
                pass  # the master is between two lives
            await asyncio.sleep(rotation.POLL_SECONDS)
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
