"""What the commands ask for: each leaves a record and waits for the loop to bring it about.

Every operation returns the ``result`` of its end event or raises GaplessError. Only one that
changes something runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless import errors
from gapless.core import sizing
from gapless.engine import (
    asked,
    machine,
    origin,
    preflight,
    rollouts,
    status,
    switches,
    waiting,
    wishes,
)
from gapless.engine.controller import Controller
from gapless.engine.folder import Folder
from gapless.engine.releases.store import DRILL
from gapless.engine.rolling import Rolling


class Operations:
    """The changing commands of one controller."""

    def __init__(self, controller: Controller, file: Path, overlay: str | None) -> None:
        self.c = controller
        self.site = controller.site
        self.folder = Folder(controller, file, overlay)
        self.rolling = Rolling(controller, self.folder)
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

    async def up(self, body: asked.Body) -> dict[str, Any]:
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
            return status.serving(self.c)

    async def _first_up(self, body: asked.Body) -> None:
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
        await self.rolling.roll(rollout, body)

    def _elsewhere(self, body: asked.Body) -> bool:
        """Whether all is down, and the file has the edge where it cannot pass while it runs: a
        deploy would be refused, so it is now or never."""
        self._not_going_down("up")
        if self.c.desired.running:
            return False
        before = self.c.in_force
        try:
            stack = self.folder.load(body).stack
        except errors.GaplessError:
            return False  # said by ``_note_changes``
        if not preflight.edge_moves(before, stack):
            return False
        preflight.data_unchanged(before.data, stack)
        return True

    async def _up_again(self, body: asked.Body) -> dict[str, Any]:
        self._not_going_down("up")
        desired = self.c.desired
        stack = self.c.in_force
        self.folder.capture(stack, body)
        if not desired.running:
            preflight.address_free(self.site, self.c.observed.edge, stack, stack)
            self.c.site.journal.add("up", actor=asked.actor(body))
            self.c.want(replace(desired, running=True, stopped=()))
        await self._note_changes(body)
        await waiting.ready(self.c, tuple(desired.vector))
        return status.serving(self.c)

    async def down(self, body: asked.Body) -> dict[str, Any]:
        """Stop everything and end the controller; the caller removes data where asked to.

        A change under way is ended by it, for it would start again what is to stop.
        """
        self.c.want(wishes.down(self.c.desired))
        self._going_down = True
        self.site.journal.add("down", actor=asked.actor(body))
        if self._task is not None:
            self._task.cancel()
        try:
            await waiting.until(self.c, lambda: status.nothing_runs(self.c))
        except errors.GaplessError as fault:
            self._going_down = False
            if not (isinstance(fault, errors.NoController) and status.nothing_runs(self.c)):
                raise  # another one has not brought it about either
        with contextlib.suppress(errors.GaplessError):
            await self.c.clear_jobs()
        self.c.stopping = True
        self.c.wake()
        return {"stopped": True}

    async def handover(self, body: asked.Body) -> dict[str, Any]:
        """End and leave everything running, for another controller to adopt it.

        Raises Refused while something is changed: that would be undone.
        """
        async with self.changing("handover"):
            self.site.journal.add(
                "handover", cause=str(body.get("to") or ""), actor=asked.actor(body)
            )
            self.handed_over = self.c.stopping = True
            self.c.wake()
            return {"handed_over": True}

    # -- releases ---------------------------------------------------------------------------------

    async def build(self, body: asked.Body) -> dict[str, Any]:
        """Make a release without deploying it."""
        async with self.changing("build"):
            loaded = self.folder.load(body)
            release = await self.folder.build(loaded, body)
            return {"release": release.number}

    async def deploy(self, body: asked.Body) -> dict[str, Any]:
        """Make a release and roll it out."""
        async with self.changing("deploy"):
            preflight.running(self.c.desired, "deploy")
            loaded = self.folder.load(body)
            services = tuple(body.get("services") or ())
            preflight.known(loaded.stack, services)
            preflight.fits(loaded.stack)
            preflight.data_unchanged(self.c.in_force.data, loaded.stack)
            preflight.edge_stays(self.c.in_force, loaded.stack)
            origin.check(self.site.paths, loaded.stack)
            preflight.certificates(self.folder.file.absolute().parent, loaded.stack)
            preflight.mounted(self.folder.file.absolute().parent, loaded.stack)
            preflight.address_free(self.site, self.c.observed.edge, loaded.stack, self.c.in_force)
            if not body.get("force"):
                preflight.dependencies_up(self.c.desired, self.c.observed, self.c.in_force)
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
            return await self.rolling.roll(
                replace(rollout, rehearsal=bool(body.get("drill"))), body
            )

    async def rollback(self, body: asked.Body) -> dict[str, Any]:
        """Back to the previous release vector, or to a named release."""
        async with self.changing("rollback"):
            preflight.running(self.c.desired, "rollback")
            wanted = body.get("release")
            stack = (
                None if wanted is None else self.site.stack(preflight.kept(self.site, int(wanted)))
            )
            rollout = rollouts.rollback(
                self.c.desired, self.site.stack, None if wanted is None else int(wanted), stack
            )
            origin.check(self.site.paths, self.site.stack(rollout.stack))
            preflight.edge_stays(self.c.in_force, self.site.stack(rollout.stack))
            preflight.reversible(self.site, self.c.desired, rollout, bool(body.get("yes")))
            self.c.note("no release jobs run in a rollback")
            left = self.site.releases.get(self.c.desired.stack or 0)
            return await self.rolling.roll(replace(rollout, rehearsal=left.note == DRILL), body)

    async def restart(self, body: asked.Body) -> dict[str, Any]:
        """Replace replicas by new ones of the same release, as gaplessly as a deploy."""
        async with self.changing("restart"):
            preflight.running(self.c.desired, "restart")
            stack = self.c.in_force
            services = tuple(body.get("services") or ())
            if services == ("edge",):
                return await switches.restart_edge(self.c, body)
            preflight.known(stack, services)
            park = sizing.room_to_park(stack, machine.now(), self.c.desired.auto)
            rollout = rollouts.restart(self.c.desired, stack, services, park=park)
            return await self.rolling.roll(rollout, body)

    async def prune(self, body: asked.Body) -> dict[str, Any]:
        """Remove what releases have that nothing needs: all but the newest ``keep`` of them."""
        async with self.changing("prune"):
            gone = await self.rolling.prune(int(body.get("keep") or 0))
            if self.site.releases.images is not None:
                await self.site.releases.images.release(self.site.releases.kept)
            if gone:
                named = ", ".join(f"r{number}" for number in gone)
                self.site.journal.add("prune", outcome=f"removed {named}", actor=asked.actor(body))
            return {"removed": list(gone), "kept": sorted(self.site.releases.kept)}

    async def abort(self, body: asked.Body) -> dict[str, Any]:
        """Undo the rollout under way."""
        rollout = self.c.desired.rollout
        if rollout is None:
            raise errors.Refused("abort: no rollout is under way")
        undone = replace(rollout, phase="undoing", reason=f"aborted by {asked.actor(body)}")
        self.site.journal.add(f"abort {rollout.kind} {rollout.id}", actor=asked.actor(body))
        self.c.want(replace(self.c.desired, rollout=undone))
        await waiting.until(self.c, lambda: self.c.desired.rollout is None)
        return {"aborted": rollout.id}

    # -- counts and switches ----------------------------------------------------------------------

    async def scale(self, body: asked.Body) -> dict[str, Any]:
        """Set replica counts by hand; they hold until the next deploy. None: the file's again."""
        counts = dict(body["counts"])
        async with self.changing("scale"):
            preflight.running(self.c.desired, "scale")
            wish = wishes.scaled(self.c.desired, self.c.in_force, counts)
            self.site.journal.add(f"scale {counts}", actor=asked.actor(body))
            self.c.want(wish)
            await waiting.ready(self.c, tuple(counts), exact=True)
            return status.serving(self.c)

    async def stop(self, body: asked.Body) -> dict[str, Any]:
        """Stop services by hand; ``start`` brings them back."""
        return await self._stop_or_start(body, stop=True)

    async def start(self, body: asked.Body) -> dict[str, Any]:
        """Bring stopped services back."""
        return await self._stop_or_start(body, stop=False)

    async def _stop_or_start(self, body: asked.Body, *, stop: bool) -> dict[str, Any]:
        verb = "stop" if stop else "start"
        async with self.changing(verb):
            preflight.running(self.c.desired, verb)
            stack = self.c.in_force
            services = tuple(body.get("services") or stack.services)
            wish = wishes.stopped(self.c.desired, stack, services, stop)
            self.site.journal.add(f"{verb} {', '.join(services)}", actor=asked.actor(body))
            self.c.want(wish)
            await waiting.ready(self.c, services, exact=True)
            return status.serving(self.c)

    async def maintenance(self, body: asked.Body) -> dict[str, Any]:
        """See ``switches.maintenance``."""
        return await switches.maintenance(self.c, body)

    async def proven(self, body: asked.Body) -> dict[str, Any]:
        """See ``switches.proven``."""
        return await switches.proven(self.c, body)

    async def renew(self, body: asked.Body) -> dict[str, Any]:
        """See ``switches.renew``."""
        return await switches.renew(self.c, body)

    async def wait(self, body: asked.Body) -> dict[str, Any]:
        """Until everything (or the named services) is ready and nothing rolls."""
        services = tuple(body.get("services") or self.c.desired.vector)
        await waiting.ready(self.c, services, exact=True)
        return status.serving(self.c)

    async def _note_changes(self, body: asked.Body) -> None:
        try:
            if not await self.folder.unchanged(self.folder.load(body)):
                self.c.note(
                    f"the folder differs from r{self.c.desired.stack}: gapless deploy rolls it out"
                )
        except errors.GaplessError as fault:
            self.c.note(
                f"r{self.c.desired.stack} runs on; the folder cannot be deployed: {fault.message}"
            )
