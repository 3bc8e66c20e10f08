"""The front that the stacks of one owner share, as one stack's controller sees and handles it.

It belongs to no stack: its program, record and claims lie in a place of their own. Whichever
controller comes first starts it; it outlives controllers and stacks, and ends with the last claim.
Acts are done under one lock, and each looks again once it has it: two that find the front dead
start one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gapless import errors, observed
from gapless.core import capacity
from gapless.core import front as steps
from gapless.edge import binary, doors, files, front, keeper, takeover, talk
from gapless.edge import config as conf
from gapless.engine import claims, clock, machine, rundir, stateformat
from gapless.engine.paths import Paths
from gapless.model.front import Claim
from gapless.model.process import Process
from gapless.runtimes.machine import accounts, proc
from gapless.runtimes.process import records
from gapless.runtimes.process.runtime import EDGE, ProcessRuntime

ID = "front"
LOST_AFTER = 5.0
"""Seconds after its start from which a front without a socket cannot be steered any more."""
SILENT_AFTER = 30.0
"""Seconds of silence after which a front that runs is given up. It may only be very busy."""
START_SECONDS = 10.0
END_SECONDS = 5.0
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class _Program:
    """The living front. ``run``: where its sockets are, whoever started it."""

    pid: int
    started_at: float
    run: Path


class Front:
    """``wake``: called when the front ends."""

    def __init__(self, paths: Paths, binary: str | None = None) -> None:
        self.stack = paths.stack
        self.paths = claims.beside(paths)
        self.claims = claims.Claims(self.paths.state)
        self.wake: Callable[[], None] = lambda: None
        self._binary = binary
        self._records = records.Records(self.paths.state, front.STACK)
        self._accounts = accounts.Accounts(self.paths.state, front.STACK)
        self._keeper = keeper.Keeper()
        """Each who needs it holds its sockets, so that any of them can start the next."""
        self._watched: tuple[int, int] | None = None
        """pid and pidfd of the one whose end is waited for."""
        self._heard_at = 0.0

    # -- looking ------------------------------------------------------------------------------

    async def look(self) -> observed.Front:
        """State and table. Without a claim of this stack: only whether it runs. Never raises."""
        claim = self.claims.own(self.stack)
        if claim is None:
            self._keeper.drop()
            return observed.Front("absent" if self._program() is None else "running")
        everyone = self.claims.all()
        others = tuple(one.stack for one in everyone if one.stack != self.stack)
        seen = observed.Front(claim=claim, others=others)
        program = self._program()
        if program is None:
            self._keeper.alone()
            was = self._records.load(ID) is not None
            return replace(seen, state="dead" if was else "absent")
        self._watch(program.pid)
        try:
            now = await doors.Doors(program.run).look()
        except (talk.SilentError, errors.EdgeRefused):
            lost = self._lost(program)
            return replace(seen, state="dead" if lost else "starting", pid=program.pid)
        self._heard_at = clock.now()
        await self._keep(now.worker, program.run)
        wanted = front.digest(everyone)
        return replace(
            seen,
            finishing=not claim.addresses and await _finishing(program.run),
            state="running",
            pid=program.pid,
            stale="" if front.current(now.config, wanted) else _why(now.config, wanted),
            entered=now.holds(claim),
        )

    def _lost(self, program: _Program) -> bool:
        """Whether one that runs and says nothing is of no use any more."""
        old = clock.now() - program.started_at > LOST_AFTER
        silent = clock.now() - max(program.started_at, self._heard_at) > SILENT_AFTER
        return silent or (old and not (program.run / conf.MASTER_SOCKET).exists())

    async def _keep(self, worker: int, run: Path) -> None:
        self._keeper.serves()
        if self._keeper.worker != worker:
            await asyncio.to_thread(self._keeper.take, worker, run / conf.STATS_SOCKET)

    def uid(self) -> int | None:
        """Whom its worker becomes, and who alone may connect to the stacks' sockets; None: us."""
        return self._accounts.uid(EDGE)

    def giver(self, addresses: Iterable[str]) -> Path | None:
        """The control socket of a front that has any of these addresses, to take it over from."""
        program = self._program()
        own = self.claims.own(self.stack)
        if program is None or own is None or set(own.addresses).isdisjoint(addresses):
            return None
        return program.run / conf.STATS_SOCKET

    def listens(self, address: str) -> bool:
        """Whether it runs and has that address."""
        return self._program() is not None and address in front.listens(self.claims.all())

    def ours_alone(self, address: str) -> bool:
        """Whether it gives the address up when this stack leaves."""
        others = (claim for claim in self.claims.all() if claim.stack != self.stack)
        return address not in front.listens(others)

    # -- acting -------------------------------------------------------------------------------

    async def perform(self, step: steps.FrontStep) -> None:
        """Do it. Raises Refused (somebody else has the name), EnvironmentFault, EdgeRefused."""
        async with self.claims.alone():
            self.paths.make()
            stateformat.mark(self.paths)
            match step:
                case steps.Join(claim=claim):
                    await self._join(claim)
                case steps.Start():
                    await self._start()
                case steps.Reload():
                    await self._reload()
                case steps.Withdraw():
                    await self._withdraw()
                case steps.Leave():
                    await self._leave()

    async def _join(self, claim: Claim) -> None:
        self.claims.refuse(claim)
        # Before it is durable: from then on the others would stumble over it, too.
        new = [address for address in claim.addresses if not self.listens(address)]
        given = await asyncio.to_thread(_given, [claim], new)
        try:
            for address in new:
                if not keeper.at(given, address):
                    files.check_port(address, self._binary)
        finally:
            keeper.close(given)
        self.claims.take(claim)
        with contextlib.suppress(talk.SilentError):  # not there yet, or dead: that is another step
            if (program := self._program()) is not None:
                running = doors.Doors(program.run)
                everyone = self.claims.all()
                seen = await running.look()
                for gone in front.owners(seen.table) - {one.stack for one in everyone}:
                    await running.drop(gone)  # its state was removed, and nobody took it down
                if front.current(seen.config, front.digest(everyone)):
                    await running.put(claim)

    async def _start(self) -> None:
        program = self._program()
        if program is not None:
            with contextlib.suppress(talk.SilentError, errors.EdgeRefused):
                await doors.Doors(program.run).look()
                return  # somebody else was faster
        runtime = self._runtime()
        try:
            await runtime.look()
            # One that runs all the same is one that nobody can steer. What it leaves may listen.
            await runtime.signal(ID, "KILL")
            await self._gone(END_SECONDS)
            await runtime.look()
            await runtime.forget(ID)
            process = await asyncio.to_thread(self._process)
            found = await runtime.start(process)
        finally:
            runtime.close()
        if found.pid is not None:
            self._watch(found.pid)
        await self._answering()

    async def _answering(self) -> None:
        """Until it takes connections and orders, so that whoever comes next finds it running."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            program = self._program()
            if program is None:
                break
            with contextlib.suppress(talk.SilentError, errors.EdgeRefused):
                await doors.Doors(program.run).look()
                await doors.Doors(program.run).steered()
                return
            await asyncio.sleep(_POLL)
        raise errors.WorkFailed("front: it does not start", hint=f"see {self._runtime().log(ID)}")

    async def _reload(self) -> None:
        program = self._program()
        if program is None:
            return  # it is started by another step
        everyone = self.claims.all()
        running = doors.Doors(program.run)
        wanted = front.digest(everyone)
        with contextlib.suppress(talk.SilentError):
            if front.current((await running.look()).config, wanted):
                return
        program_used = await asyncio.to_thread(self._renew, program.run, everyone)
        taken = await asyncio.to_thread(self._taken, program.run, everyone)
        with takeover.taking(self.paths.state, program.run, program_used, taken):
            await running.reload(wanted)

    async def _withdraw(self) -> None:
        claim = self.claims.own(self.stack)
        if claim is not None:
            self.claims.take(replace(claim, http=(), tls=()))
            await self._reload()

    async def _leave(self) -> None:
        self._keeper.drop()
        left = [claim for claim in self.claims.all() if claim.stack != self.stack]
        program = self._program()
        if left and program is not None:
            with contextlib.suppress(talk.SilentError):
                await doors.Doors(program.run).drop(self.stack)
        elif not left:
            await self._end()
        # Last: who is killed before this finds the claim and leaves again.
        self.claims.give_up(self.stack)
        if left:
            await self._reload()  # an address that was this stack's alone is free

    async def _end(self) -> None:
        runtime = self._runtime()
        try:
            await runtime.look()
            await runtime.signal(ID, "TERM")
            await self._gone(END_SECONDS)
            await runtime.signal(ID, "KILL")
            await self._gone(END_SECONDS)
            await runtime.look()
            await runtime.forget(ID)
        finally:
            runtime.close()
        shutil.rmtree(self.paths.run, ignore_errors=True)

    async def _gone(self, limit: float) -> None:
        deadline = time.monotonic() + limit
        while self._program() is not None and time.monotonic() < deadline:  # noqa: ASYNC110  # a pid
            await asyncio.sleep(_POLL)

    # -- inside -------------------------------------------------------------------------------

    def _runtime(self) -> ProcessRuntime:
        """Anew for each act: another controller may have started another front since."""
        return ProcessRuntime(self.paths.state, self.paths.run, front.STACK)

    def _program(self) -> _Program | None:
        record = self._records.load(ID)
        if record is None or record.boot != proc.boot():
            return None
        stat = proc.stat(record.pid)
        if stat is None or stat.start != record.start or stat.dead:
            return None
        run = Path(record.labels.get("run", str(self.paths.run)))
        return _Program(record.pid, record.start / proc.TICKS, run)

    def _watch(self, pid: int) -> None:
        """Have ``wake`` called when it ends. Where it is our child, it is reaped as well."""
        if self._watched is not None and self._watched[0] == pid:
            return
        self._unwatch()
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            self._watched = (pid, handle)
            asyncio.get_running_loop().add_reader(handle, self._ended)

    def _ended(self) -> None:
        assert self._watched is not None  # noqa: S101  # closed together with the reader
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._watched[1], os.WEXITED | os.WNOHANG)
        self._unwatch()
        self.wake()

    def close(self) -> None:
        """Stop watching, and let go; it goes on."""
        self._keeper.drop()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched[1])
            os.close(self._watched[1])
            self._watched = None

    def _process(self) -> Process:
        """Its program, everything that it reads written and checked. Raises EnvironmentFault."""
        everyone = self.claims.all()
        program = self._take()
        rundir.mark(self.paths)
        inherits = self._inherits(everyone)
        self._write(program, self.paths.run, everyone)
        link = binary.point(self.paths.state, program)
        master = f"{self.paths.run / conf.MASTER_SOCKET},mode,600"
        return Process(
            id=ID,
            argv=(
                str(link),
                "-W",
                "-S",
                master,
                "-f",
                str(self.paths.state / front.TEXT),
                *inherits,
            ),
            cwd=str(self.paths.state),
            labels={"kind": ID, "run": str(self.paths.run)},
        )

    def _inherits(self, everyone: tuple[Claim, ...]) -> tuple[str, ...]:
        """Arguments for one that starts; the addresses that nobody gives it are free."""
        kept = self._keeper.kept
        listens = front.listens(everyone)
        more = _given(everyone, [one for one in listens if not keeper.at(kept, one)])
        heir = self.paths.run / conf.HEIR_SOCKET
        try:
            inherits = keeper.offer(heir, [*kept, *more])
            for address in listens:
                if not (inherits and keeper.at([*kept, *more], address)):
                    files.check_port(address, self._binary)
        finally:
            keeper.close(more)
        return ("-x", str(heir)) if inherits else ()

    def _taken(self, run: Path, everyone: tuple[Claim, ...]) -> tuple[keeper.Kept, ...]:
        """What edges have of the addresses that the running front lacks."""
        listens = front.listens(everyone)
        own = keeper.given(run / conf.STATS_SOCKET, listens)
        try:
            return _given(everyone, [one for one in listens if not keeper.at(own, one)])
        finally:
            keeper.close(own)

    def _renew(self, run: Path, everyone: tuple[Claim, ...]) -> Path:
        """What it reads at a reload, its own program included; the program."""
        program = self._take()
        self._write(program, run, everyone)
        binary.point(self.paths.state, program)
        return program

    def _take(self) -> Path:
        """The HAProxy to use; where none is to be found, the one of the last time."""
        try:
            return binary.take(binary.find(self._binary), self.paths.state)
        except errors.EnvironmentFault:
            if (taken := binary.taken(self.paths.state)) is None:
                raise
            return taken

    def _write(self, program: Path, run: Path, everyone: tuple[Claim, ...]) -> None:
        text = front.text(
            front.Config(
                claims=everyone,
                run_dir=str(run),
                maxconn=capacity.at_edge(machine.limits()),
                threads=min(os.cpu_count() or 1, 4),
                uid=self.uid(),
                ipv6=Path("/proc/net/if_inet6").exists(),
            )
        )
        home = self.paths.state
        files.write(home / front.TABLE, front.lines(front.table(everyone)))
        draft = home / f"{front.TEXT}.new"
        files.write(draft, text)
        files.check(program, draft)
        draft.replace(home / front.TEXT)


def _given(claims: Iterable[Claim], addresses: Sequence[str]) -> tuple[keeper.Kept, ...]:
    """What the edges of these stacks have of these addresses: they keep it until we have it."""
    found: list[keeper.Kept] = []
    for claim in claims if addresses else ():
        run = Path(claim.socket or claim.tls_socket).parent
        found += keeper.given(run / conf.STATS_SOCKET, addresses)
    return tuple(found)


async def _finishing(run: Path) -> bool:
    try:
        return await doors.Doors(run).finishing()
    except errors.EdgeRefused:
        return True  # who knows


def _why(running: str, wanted: str) -> str:
    same = running.partition(".")[2] == wanted.partition(".")[2]
    return "another gapless writes it anew" if same else "its addresses change"
