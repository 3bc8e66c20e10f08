"""What the commands ask for: each leaves a record and waits for the loop to bring it about.

Every operation returns the ``result`` of its end event or raises GaplessError. Only one that
changes something runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless import errors
from gapless.core import goodbye, sizing
from gapless.engine import clock, machine, origin, preflight, rollouts, situation, status, wishes
from gapless.engine.controller import Controller
from gapless.engine.folder import Folder
from gapless.engine.releases.store import DRILL
from gapless.model.desired import Rollout
from gapless.model.stack import Stack

GIVE_UP_AFTER = 3
"""Failed starts of one slot in a row after which waiting for readiness is given up."""

Body = Mapping[str, Any]


class Operations:
    """The changing commands of one controller."""

    def __init__(self, controller: Controller, file: Path, overlay: str | None) -> None:
        self.c = controller
        self.site = controller.site
        self.folder = Folder(controller, file, overlay)
        self._busy: str | None = None
        self._task: asyncio.Task[Any] | None = None
        """Whoever does what is under way."""
        self._going_down = False
        self.handed_over = False
        """Whether this controller ends because another one is to take its place."""
        self.useless = False
        """Whether the first ``up`` came to nothing."""

    @property
    def nothing_to_keep(self) -> bool:
        """Whether nothing runs, is wanted, or is being done."""
        return self._busy is None and status.nothing_runs(self.c)

    @contextlib.asynccontextmanager
    async def changing(self, what: str) -> AsyncIterator[None]:
        """One change at a time. Raises Refused: another is under way, or ``down`` ended it."""
        self._not_going_down(what)
        under_way = self._busy or (
            f"{self.c.desired.rollout.kind} {self.c.desired.rollout.id}"
            if self.c.desired.rollout
            else None
        )
        if under_way is not None:
            raise errors.Refused(
                f"{what}: {under_way} is under way",
                hint="gapless ps shows it; gapless abort undoes a rollout",
            )
        self._busy, self._task = what, asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if not self._going_down or self._task is None:
                raise
            self._task.uncancel()
            raise errors.Refused(f"{what}: gapless down ended it") from None
        finally:
            self._busy = self._task = None

    def _not_going_down(self, what: str) -> None:
        if self._going_down or self.c.stopping:
            raise errors.Refused(
                f"{what}: down is under way", hint="gapless up -d starts the stack again after it"
            )

    # -- up and down ------------------------------------------------------------------------------

    async def up(self, body: Body) -> dict[str, Any]:
        """Start what is desired; the first time that is a release of the present file.

        A change under way is joined: ``up`` after a crash waits for the undoing of a deploy.
        """
        if self.c.desired.vector and not self._elsewhere(body):
            return await self._up_again(body)
        async with self.changing("up"):
            try:
                await self._first_up(body)
            except errors.GaplessError:
                # Nothing runs, so nothing is to be kept: not even a controller.
                runs = self.c.desired.vector and self.c.desired.running
                if not runs and not self.c.stopping:
                    self.c.want(wishes.down(self.c.desired))
                    self.useless = True
                raise
            return self._serving()

    async def _first_up(self, body: Body) -> None:
        loaded = self.folder.load(body)
        preflight.fits(loaded.stack)
        origin.check(self.site.paths, loaded.stack)
        preflight.certificates(self.folder.file.absolute().parent, loaded.stack)
        preflight.mounted(self.folder.file.absolute().parent, loaded.stack)
        preflight.address_free(self.site, self.c.observed.edge, loaded.stack, None)
        release = await self.folder.build(loaded, body)
        # Not before: a file that cannot be built leaves the release in force as it is.
        self.c.want(wishes.anew(self.c.desired))
        rollout = rollouts.deploy(
            self.c.desired, release.number, loaded.stack, (), kind="up", park=True
        )
        await self._roll(rollout, body)

    def _elsewhere(self, body: Body) -> bool:
        """Whether all is down, and the file has the edge where it cannot pass while it runs: a
        deploy would be refused, so it is now or never."""
        self._not_going_down("up")
        if self.c.desired.running:
            return False
        before = self._stack()
        try:
            stack = self.folder.load(body).stack
        except errors.GaplessError:
            return False  # said by ``_note_changes``
        if not preflight.edge_moves(before, stack):
            return False
        preflight.data_unchanged(before.data, stack)
        return True

    async def _up_again(self, body: Body) -> dict[str, Any]:
        self._not_going_down("up")
        desired = self.c.desired
        stack = self._stack()
        self.folder.capture(stack, body)
        if not desired.running:
            preflight.address_free(self.site, self.c.observed.edge, stack, stack)
            self.c.site.journal.add("up", actor=_actor(body))
            self.c.want(replace(desired, running=True, stopped=()))
        await self._note_changes(body)
        await self._ready(tuple(desired.vector))
        return self._serving()

    async def down(self, body: Body) -> dict[str, Any]:
        """Stop everything and end the controller; the caller removes data where asked to.

        A change under way is ended by it, for it would start again what is to stop.
        """
        self.c.want(wishes.down(self.c.desired))
        self._going_down = True
        self.site.journal.add("down", actor=_actor(body))
        if self._task is not None:
            self._task.cancel()
        try:
            await self._until(lambda: status.nothing_runs(self.c))
        except errors.GaplessError as fault:
            self._going_down = False
            if not (isinstance(fault, errors.NoController) and status.nothing_runs(self.c)):
                raise  # another one has not brought it about either
        with contextlib.suppress(errors.GaplessError):
            await self.c.clear_jobs()
        self.c.stopping = True
        self.c.wake()
        return {"stopped": True}

    async def handover(self, body: Body) -> dict[str, Any]:
        """End and leave everything running, for another controller to adopt it.

        Raises Refused while something is changed: that would be undone.
        """
        async with self.changing("handover"):
            self.site.journal.add("handover", cause=str(body.get("to") or ""), actor=_actor(body))
            self.handed_over = self.c.stopping = True
            self.c.wake()
            return {"handed_over": True}

    # -- releases ---------------------------------------------------------------------------------

    async def build(self, body: Body) -> dict[str, Any]:
        """Make a release without deploying it."""
        async with self.changing("build"):
            loaded = self.folder.load(body)
            release = await self.folder.build(loaded, body)
            return {"release": release.number}

    async def deploy(self, body: Body) -> dict[str, Any]:
        """Make a release and roll it out."""
        async with self.changing("deploy"):
            self._needs_running("deploy")
            loaded = self.folder.load(body)
            services = tuple(body.get("services") or ())
            preflight.known(loaded.stack, services)
            preflight.fits(loaded.stack)
            preflight.data_unchanged(self._stack().data, loaded.stack)
            preflight.edge_stays(self._stack(), loaded.stack)
            origin.check(self.site.paths, loaded.stack)
            preflight.certificates(self.folder.file.absolute().parent, loaded.stack)
            preflight.mounted(self.folder.file.absolute().parent, loaded.stack)
            preflight.address_free(self.site, self.c.observed.edge, loaded.stack, self._stack())
            if not body.get("force"):
                preflight.dependencies_up(self.c.desired, self.c.observed, self._stack())
                if await self.folder.unchanged(loaded):
                    number = self.c.desired.stack
                    return {"unchanged": True, "message": f"r{number} is what the folder holds"}
            release = await self.folder.built(loaded) or await self.folder.build(loaded, body)
            rollout = rollouts.deploy(
                self.c.desired,
                release.number,
                loaded.stack,
                services,
                kind="deploy",
                park=sizing.room_to_park(loaded.stack, machine.now(), self.c.desired.auto),
                surge_all=bool(body.get("surge_all")),
            )
            return await self._roll(replace(rollout, rehearsal=bool(body.get("drill"))), body)

    async def rollback(self, body: Body) -> dict[str, Any]:
        """Back to the previous release vector, or to a named release."""
        async with self.changing("rollback"):
            self._needs_running("rollback")
            wanted = body.get("release")
            stack = (
                None if wanted is None else self.site.stack(preflight.kept(self.site, int(wanted)))
            )
            rollout = rollouts.rollback(
                self.c.desired, self.site.stack, None if wanted is None else int(wanted), stack
            )
            origin.check(self.site.paths, self.site.stack(rollout.stack))
            preflight.edge_stays(self._stack(), self.site.stack(rollout.stack))
            preflight.reversible(self.site, self.c.desired, rollout, bool(body.get("yes")))
            self.c.note("no release jobs run in a rollback")
            left = self.site.releases.get(self.c.desired.stack or 0)
            return await self._roll(replace(rollout, rehearsal=left.note == DRILL), body)

    async def restart(self, body: Body) -> dict[str, Any]:
        """Replace replicas by new ones of the same release, as gaplessly as a deploy."""
        async with self.changing("restart"):
            self._needs_running("restart")
            stack = self._stack()
            services = tuple(body.get("services") or ())
            if services == ("edge",):
                return await self._restart_edge(body)
            preflight.known(stack, services)
            park = sizing.room_to_park(stack, machine.now(), self.c.desired.auto)
            rollout = rollouts.restart(self.c.desired, stack, services, park=park)
            return await self._roll(rollout, body)

    async def _restart_edge(self, body: Body) -> dict[str, Any]:
        """A new worker takes over from the one that runs, which ends what it has."""
        self.site.journal.add("restart edge", actor=_actor(body))
        epoch = self.c.desired.edge_epoch + 1
        self.c.want(wishes.edge_restarted(self.c.desired, self._stack()))

        def done() -> bool:
            world = self.c.world
            over = world is not None and world.desired.edge_epoch == epoch and world.edge_ready
            return over or "edge" in self.c.observed.faults

        await self._until(done)
        if fault := self.c.observed.faults.get("edge"):
            raise errors.WorkFailed(f"restart edge: {fault}")
        return self._serving()

    async def prune(self, body: Body) -> dict[str, Any]:
        """Remove what releases have that nothing needs: all but the newest ``keep`` of them."""
        async with self.changing("prune"):
            gone = await self._prune(int(body.get("keep") or 0))
            if self.site.releases.images is not None:
                await self.site.releases.images.release(self.site.releases.kept)
            if gone:
                named = ", ".join(f"r{number}" for number in gone)
                self.site.journal.add("prune", outcome=f"removed {named}", actor=_actor(body))
            return {"removed": list(gone), "kept": sorted(self.site.releases.kept)}

    async def abort(self, body: Body) -> dict[str, Any]:
        """Undo the rollout under way."""
        rollout = self.c.desired.rollout
        if rollout is None:
            raise errors.Refused("abort: no rollout is under way")
        undone = replace(rollout, phase="undoing", reason=f"aborted by {_actor(body)}")
        self.site.journal.add(f"abort {rollout.kind} {rollout.id}", actor=_actor(body))
        self.c.want(replace(self.c.desired, rollout=undone))
        await self._until(lambda: self.c.desired.rollout is None)
        return {"aborted": rollout.id}

    # -- counts and switches ----------------------------------------------------------------------

    async def scale(self, body: Body) -> dict[str, Any]:
        """Set replica counts by hand; they hold until the next deploy. None: the file's again."""
        counts = dict(body["counts"])
        async with self.changing("scale"):
            self._needs_running("scale")
            wish = wishes.scaled(self.c.desired, self._stack(), counts)
            self.site.journal.add(f"scale {counts}", actor=_actor(body))
            self.c.want(wish)
            await self._ready(tuple(counts), exact=True)
            return self._serving()

    async def stop(self, body: Body) -> dict[str, Any]:
        """Stop services by hand; ``start`` brings them back."""
        return await self._stop_or_start(body, stop=True)

    async def start(self, body: Body) -> dict[str, Any]:
        """Bring stopped services back."""
        return await self._stop_or_start(body, stop=False)

    async def _stop_or_start(self, body: Body, *, stop: bool) -> dict[str, Any]:
        verb = "stop" if stop else "start"
        async with self.changing(verb):
            self._needs_running(verb)
            stack = self._stack()
            services = tuple(body.get("services") or stack.services)
            wish = wishes.stopped(self.c.desired, stack, services, stop)
            self.site.journal.add(f"{verb} {', '.join(services)}", actor=_actor(body))
            self.c.want(wish)
            await self._ready(services, exact=True)
            return self._serving()

    async def maintenance(self, body: Body) -> dict[str, Any]:
        """The page and 503 for all but allowed addresses, on or off; or requests held."""
        if "hold" in body:
            return await self._hold(body, float(body["hold"]))
        wanted = bool(body["on"])
        self._needs_running("maintenance")
        wish = wishes.maintained(self.c.desired, self._stack(), wanted)
        self.site.journal.add(f"maintenance {'on' if wanted else 'off'}", actor=_actor(body))
        self.c.want(wish)
        await self._until(
            lambda: (
                self.c.observed.edge.maintenance == wanted
                and self.c.observed.edge.held_until is None
            )
        )
        return {"maintenance": wanted}

    async def proven(self, body: Body) -> dict[str, Any]:
        """A drill tells that it has held: what waits for it comes into force."""
        drill = str(body["drill"])
        self._needs_running("proven")
        wish = wishes.proven(self.c.desired, drill)
        self.site.journal.add(f"drill {drill} held", actor=_actor(body))
        self.c.want(wish)
        await self._until(lambda: self.c.world is not None and self.c.world.edge_ready)
        return {"proven": list(wish.proven)}

    async def renew(self, body: Body) -> dict[str, Any]:
        """Other certificates, now, and shown; all of them, or the named ones.

        With ``again`` those in force are put in force once more, and no authority is troubled.

        Raises UsageError where there are none, WorkFailed with the authority's words.
        """
        self._needs_running("renew")
        names = tuple(body.get("certificates") or self.c.observed.certificates)
        if strange := [name for name in names if name not in self.c.observed.certificates]:
            raise errors.UsageError(f"renew: there is no certificate {strange[0]}")
        if not names:
            raise errors.UsageError("renew: the edge has no certificates")
        self.site.journal.add(f"renew {', '.join(names)}", actor=_actor(body))
        before = dict(self.site.certificates.installed)
        for name in names:
            if body.get("again"):
                self.site.certificates.again(name)
            else:
                self.site.certificates.ask(name)
        again = bool(body.get("again"))
        await self._until(lambda: all(self._renewed(n, before.get(n, 0), again) for n in names))
        return {"renewed": list(names)}

    def _renewed(self, name: str, before: int, again: bool) -> bool:
        now = self.c.observed.certificates.get(name)
        if now is None:
            raise errors.WorkFailed(f"certificate {name}: it is not wanted any more")
        if now.failures is not None and not (now.asked or again):
            raise errors.WorkFailed(now.failures.reason or f"certificate {name}: not renewed")
        newer = self.site.certificates.installed.get(name, 0) > before
        return newer and not now.fresh and now.served == now.serial

    async def _hold(self, body: Body, seconds: float) -> dict[str, Any]:
        """Requests wait at the edge; ``in_flight``: those that were let through before."""
        self._needs_running("maintenance")
        wish = wishes.held(self.c.desired, self._stack(), seconds, clock.now(), clock.wall())
        hold = wish.hold
        assert hold is not None  # noqa: S101  # just made
        self.site.journal.add(f"maintenance hold {seconds:g} s", actor=_actor(body))
        self.c.want(wish)

        def done() -> bool:
            over = clock.wall() >= hold.until or self.c.desired.hold != hold
            return over or self.c.observed.edge.held_until == hold.until

        await self._until(done)
        if self.c.observed.edge.held_until != hold.until:
            raise errors.WorkFailed("maintenance: the edge did not begin to hold requests in time")
        in_flight = sum(server.in_flight for server in self.c.observed.edge.servers.values())
        return {"hold": hold.until, "in_flight": in_flight}

    async def wait(self, body: Body) -> dict[str, Any]:
        """Until everything (or the named services) is ready and nothing rolls."""
        services = tuple(body.get("services") or self.c.desired.vector)
        await self._ready(services, exact=True)
        return self._serving()

    # -- a rollout to its end ---------------------------------------------------------------------

    async def _roll(self, rollout: Rollout, body: Body) -> dict[str, Any]:
        before, sockets = await self._counters(), await self._sockets()
        self.c.observer.clear_failures(set(rollout.target))
        self.site.journal.add(
            f"{rollout.kind} {rollout.id}",
            cause=", ".join(f"{n} to {g}" for n, g in rollout.target.items()),
            outcome="begun",
            actor=_actor(body),
        )
        rollout = replace(rollout, inputs=self.folder.inputs())
        wish = wishes.begun(self.c.desired, rollout, self.site.stack(rollout.stack))
        self.c.want(replace(wish, counter=rollout.id))
        await self._until(lambda: self.c.desired.rollout is None)
        outcome = self.c.desired.outcome
        counted = _difference(before, await self._counters())
        if outcome is None or outcome.id != rollout.id or not outcome.held:
            reason = outcome.reason if outcome and outcome.id == rollout.id else "it was replaced"
            self._failed(rollout, reason, counted)
        if body.get("wait"):
            await self._until(lambda: self.c.idle)
        await self._prune(self._stack().keep)
        return {
            "drill": None,
            "held": True,
            "release": self.c.desired.stack,
            "rollout": rollout.id,
            **counted,
            "detail": {"sockets": await self._moved(sockets)},
        }

    async def _sockets(self) -> int:
        """Long connections at present."""
        with contextlib.suppress(errors.GaplessError):
            return sum((await self.site.edge.sockets()).values())
        return 0

    async def _moved(self, before: int) -> dict[str, Any]:
        """What has become of them: those that are left are with replicas on their way out."""
        leaving = [r for r in self.c.observed.replicas if goodbye.leaves(r)]
        draining = 0
        with contextlib.suppress(errors.GaplessError):
            now = await self.site.edge.sockets() if leaving else {}
            draining = sum(now.get(r.id.server, 0) for r in leaving)
        total = max(before, draining)
        return {"total": total, "moved": total - draining, "draining": draining}

    def _failed(self, rollout: Rollout, reason: str, counted: Mapping[str, Any]) -> None:
        first = not rollout.base
        kept = sum(1 for r in self.c.observed.replicas if r.alive and r.signalled_at is None)
        culprit = self.c.culprit
        hint = self.c.culprit_hint or (f"gapless logs {culprit}" if culprit else "gapless history")
        kind = errors.WorkFailed if first else errors.Refused
        tail = "" if first else f"; kept {kept} old replicas serving"
        raise kind(
            f"{rollout.kind}: {reason}{tail}",
            hint=hint,
            log=self.c.culprit_log,
            result={"held": False, "rollout": rollout.id, **counted},
        )

    async def _counters(self) -> dict[str, int]:
        with contextlib.suppress(errors.GaplessError):
            if (total := (await self.site.edge.counters()).get("")) is not None:
                return {"requests": total.requests, "failed": total.failed}
        return {"requests": 0, "failed": 0}

    async def _prune(self, keep: int) -> Sequence[int]:
        """All releases go that nothing needs but the newest ``keep``; their numbers."""
        protected = self.c.desired.needed
        protected |= {r.generation.release for r in self.c.observed.replicas}
        protected |= {run.release for run in self.c.observed.jobs}
        gone = self.site.releases.surplus(keep, protected)
        if set(gone) & set(self.c.desired.shown):
            self.c.want(wishes.unshown(self.c.desired, gone))
            await self._until(self._files_settled)
        return await asyncio.to_thread(self.site.releases.prune, keep, protected)

    def _files_settled(self) -> bool:
        """Whether the files of exactly those releases are served; or nobody serves any."""
        world = self.c.world
        if world is None or world.desired != self.c.desired:
            return False
        return world.static_ready or world.observed.static.state != "running"

    def _needs_running(self, what: str) -> None:
        if not self.c.desired.running or not self.c.desired.vector:
            raise errors.Refused(f"{what}: the stack is not up", hint="gapless up -d")

    def _stack(self) -> Stack:
        assert self.c.desired.stack is not None  # noqa: S101  # callers have checked that it is up
        return self.site.stack(self.c.desired.stack)

    async def _note_changes(self, body: Body) -> None:
        try:
            if not await self.folder.unchanged(self.folder.load(body)):
                self.c.note(
                    f"the folder differs from r{self.c.desired.stack}: gapless deploy rolls it out"
                )
        except errors.GaplessError as fault:
            self.c.note(
                f"r{self.c.desired.stack} runs on; the folder cannot be deployed: {fault.message}"
            )

    # -- waiting ----------------------------------------------------------------------------------

    async def _until(self, done: Callable[[], bool]) -> None:
        """Until ``done`` after a round of the loop."""
        self.c.wake()
        await self.c.round_done()
        while not done():
            await self.c.round_done()

    async def _ready(self, services: tuple[str, ...], *, exact: bool = False) -> None:
        """Until each has as many replicas serving as wanted (``exact``: and no others left)."""
        self.c.wake()
        await self.c.round_done()
        while not status.settled(self.c, services, exact=exact):
            preflight.reachable(self.c.observed, services)
            for (name, ordinal), failures in self.c.observed.failures.items():
                if name in services and failures.count >= GIVE_UP_AFTER:
                    raise errors.WorkFailed(
                        f"{name}: replica {ordinal} failed to start {failures.count} times: "
                        f"{failures.reason}",
                        hint=f"gapless logs {name}",
                    )
            await self.c.round_done()

    def _serving(self) -> dict[str, Any]:
        stack = self._stack()
        return {
            "release": self.c.desired.stack,
            "url": situation.public_url(self.site, stack),
            "services": status.summary(self.c),
        }


def _actor(body: Body) -> str:
    return str(body.get("actor") or "operator")


def _difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Counts since ``before``; an edge that restarted in between counts from its own zero."""
    return {name: max(0, after[name] - before.get(name, 0)) for name in after}
