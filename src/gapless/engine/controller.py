"""The loop: look, decide, act, look again. One per stack and machine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from gapless import errors
from gapless.core import jobruns, plan, record, stores
from gapless.core import replica as states
from gapless.core.reconcile import reconcile
from gapless.core.world import World
from gapless.edge import config as edge_config
from gapless.edge import staticconf
from gapless.engine import clock, durable, ends, logfiles, status, usage
from gapless.engine.demand import Demand
from gapless.engine.events import Event, Events
from gapless.engine.execute import Executor
from gapless.engine.observe import Observer
from gapless.engine.prober import LiveProber, Prober
from gapless.engine.site import Site
from gapless.engine.situation import Situation
from gapless.engine.stores import StoreWatch
from gapless.engine.vitals import Sampler
from gapless.model.desired import Desired
from gapless.model.stack import Stack
from gapless.observed import Observed

BLIND_ROUNDS = 4
"""Looks that must fail in a row before whoever waits is told."""
AFTER_STEPS = 0.02
"""Seconds until the next look after steps: a step that must be asked again must not spin."""
BUSY = 0.1
"""Seconds between looks while something is awaited."""
IDLE = 1.0
"""Seconds between looks while nothing is; events wake it earlier."""
IDLE_SHARE = 0.003
"""Of a core that such looks may take: dozens of replicas are looked at more rarely."""
IDLE_LONGEST = 2.0
"""Seconds, however many they are."""
AFTER_FAULT = 1.0
"""Seconds until the next round after a step has failed."""
LOG_LIMIT = 20 * 1024 * 1024
"""Bytes of a log file before it is rotated."""
LOGS_KEPT = 3
"""Rotated parts kept of each log."""
LAST_LINES = 8
"""Log lines shown of what ended a rollout."""
STEPS_AT_ONCE = 16
"""More would only wait for each other: for the edge, the disk, the cpus."""
STEP_LIMIT = 30.0
"""Seconds that a step may take."""
CREATE_LIMIT = 600.0
"""Seconds that making a store may take."""
STORE_LINES = 50
"""Log lines searched for the reason of a store's end."""
FLOOD = 2.0
"""Seconds between looks whether a program floods its log."""
HOUSEKEEPING = 30.0
"""Seconds between rounds of log rotation and journal trimming."""


class Controller:
    """Holds the record and drives the world towards it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.events = Events()
        self._wake = asyncio.Event()
        self._round_done = asyncio.Event()
        self.culprit = ""
        """The replica or job that ended the last rollout; "" when none did."""
        self.culprit_log: list[str] = []
        """Its last lines."""
        self.culprit_hint: str | None = None
        """What to do about it, where the fault itself said so."""
        self._hints: dict[str, str | None] = {}
        self.prober = Prober(self.wake)
        self.live = LiveProber(self.wake)
        self.stores = StoreWatch(self.wake, self._why_ended)
        self.vitals = Sampler(site.runtime, lambda: usage.living(self), self.wake)
        self.observer = Observer(site, self.prober, self.live, self.stores, self.vitals)
        self.executor = Executor(site, self.observer, self.note)
        self.situation = Situation(site)
        site.certificates.wake, site.certificates.note = self.wake, self.note
        self.demand = Demand(site)
        site.front.wake = self.wake
        self.desired = durable.load_desired(site.paths.record)
        self.observed = Observed()
        self.world: World | None = None
        self.rounds = 0
        self.stopping = False
        self.still_ours: Callable[[], bool] = lambda: True
        """Whether nobody else can be the stack's controller; asked before anything is done."""
        self._over = False
        self._blind = 0
        self.blind: errors.GaplessError | None = None
        """Why nothing can be seen, and so nothing done; None while all is well."""
        self._faults: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._progress: Event = {}
        self._step_number = 0
        self._turns = asyncio.Semaphore(STEPS_AT_ONCE)

    @property
    def in_force(self) -> Stack:
        """The stack that is up; whoever asks has seen that one is."""
        assert self.desired.stack is not None  # noqa: S101  # see above
        return self.site.stack(self.desired.stack)

    # -- the record ---------------------------------------------------------------------------

    def want(self, desired: Desired) -> None:
        """Make a new wish durable, then act on it. Faults of earlier ones are forgotten."""
        self._faults = {}
        self._keep(desired)

    def _keep(self, desired: Desired) -> None:
        if desired != self.desired:
            durable.save_desired(self.site.paths.record, desired)
            self.desired = desired
        self.wake()

    def adopt(self) -> None:
        """Take up what an earlier controller left."""
        before = self.desired
        self.want(
            record.interrupted(before, "the controller died before every service had switched")
        )
        if self.desired.rollout is not None:
            rollout = self.desired.rollout
            word = "undone" if rollout.phase == "undoing" else "finished"
            self.note(f"{rollout.kind} {rollout.id} was interrupted and is {word}")

    async def round_done(self) -> None:
        """Wait for the end of the round under way, or of the next one.

        Raises NoController when there will be none, and the fault when nothing can be seen:
        whoever waits must not wait for ever.
        """
        await self._round_done.wait()
        if self._over:
            raise errors.NoController(
                f"{self.site.paths.stack}: the controller ends before this is done",
                hint="gapless up -d",
            )
        if self.blind is not None:
            raise self.blind

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    # -- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until ``stopping`` is set. Errors of a round are told and the next round tries again."""
        with contextlib.suppress(errors.GaplessError, OSError):
            for text in await self.site.renew_ports():
                self.note(text)
        helpers = [
            asyncio.create_task(self._wake_on_ends()),
            asyncio.create_task(self._housekeeping()),
            asyncio.create_task(self.vitals.run()),
        ]
        try:
            while not self.stopping:
                self._wake.clear()
                delay = await self._round()
                self._round_done.set()
                self._round_done = asyncio.Event()
                # Not wait_for: up to Python 3.11 it loses a cancellation that meets the wake-up.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
        finally:
            self._over = True
            self._round_done.set()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self.prober.close()
            await self.demand.close()
            await self.live.close()
            await self.stores.close()
            self.site.front.close()
            await self.site.certificates.close()
            self.site.edge.let_go()
            for store in self.site.stores.values():
                await store.close()

    async def _round(self) -> float:
        """One look, one decision, its steps. Returns how long to wait at most (seconds)."""
        begun = time.thread_time()
        try:
            observed = await self.observer.look(self.desired)
            self.observed = replace(observed, faults=dict(self._faults))
            world = self.situation.world(self.desired, self.observed)
            self.observed = replace(self.observed, loads=self.demand.refresh(world))
            self.world = replace(world, observed=self.observed)
            decision = reconcile(self.world)
        except (errors.GaplessError, OSError) as error:
            fault = _as_fault(error, "looking")
            self._blind += 1
            if self._blind >= BLIND_ROUNDS:
                self.blind = fault
            self._tell_once("look", fault.message)
            return AFTER_FAULT
        self._blind, self.blind = 0, None
        self.rounds += 1
        self._tell_progress()
        ends.tell(self)
        self.executor.show(self.observed)
        await self._call_forward()
        failed = await self._act(decision.steps)
        if failed:
            return AFTER_FAULT
        if decision.steps:
            return AFTER_STEPS
        if decision.waits or observed.edge.uneasy:
            return BUSY
        took = time.thread_time() - begun
        return min(IDLE_LONGEST, max(IDLE, took / IDLE_SHARE))

    async def _call_forward(self) -> None:
        """What has booted gives way no longer: from now on it has clients of its own."""
        for found in self.observed.replicas:
            marks = self.site.notebook.of(str(found.id))
            if not marks.background or not found.alive:
                continue
            if not states.boots(found, self.site.table(found.id), clock.now()):
                await self.site.runtime.background(str(found.id), False)
                marks.background = False

    async def _act(self, steps: tuple[plan.Step, ...]) -> bool:
        """Perform all; True when one failed."""
        if not steps:
            return False
        if not self.still_ours():
            self._tell_once("lock", "the lock file has been replaced: this controller does no more")
            self.stopping = True
            return False
        self.executor.config = self._edge_config()
        self.executor.files = self._files()
        rollout = self.desired.rollout
        self.executor.gentle = rollout is not None and bool(rollout.base)
        outcomes = await asyncio.gather(*(self._perform(step) for step in steps))
        return not all(outcomes)

    async def _perform(self, step: plan.Step) -> bool:
        self._step_number += 1
        number = self._step_number
        try:
            if isinstance(step, record.Undo):
                self._blame(step)
            if isinstance(step, record.Rescale):
                self._rescale(step)
            elif isinstance(step, record.Recorded):
                self._keep(record.apply(self.desired, step))
            else:
                await self._bounded(step)
        except (errors.GaplessError, OSError) as error:
            self._failed(step, number, _as_fault(error, step.text))
            return False
        self._faults.pop(step.subject, None)
        self._tell(step, number, "done", "")
        return True

    def _rescale(self, step: record.Rescale) -> None:
        if self.desired.rollout is not None or self.world is None:
            return  # begun since this was decided, and it holds the count
        count = self.world.count(step.name, self.desired.vector.get(step.name))
        self._keep(record.apply(self.desired, step))
        self.demand.changed(step.name, step.count - count)

    async def _bounded(self, step: plan.Step) -> None:
        """A step that hangs is a fault like any other: the loop never waits for one for ever."""
        limit = CREATE_LIMIT if isinstance(step, stores.CreateData) else STEP_LIMIT
        try:
            async with self._turns, asyncio.timeout(limit):
                await self.executor.perform(step, self.observed)
        except TimeoutError:
            raise errors.WorkFailed(f"{step.text}: no end within {limit:g} s") from None

    def _failed(self, step: plan.Step, number: int, error: errors.GaplessError) -> None:
        if isinstance(step, jobruns.RunDue):
            # It is not begun again and again: the next time it is due is soon enough.
            lost = jobruns.NoteRun(step.job, step.due, "failed", self.mask(error.message))
            self._keep(record.apply(self.desired, lost))
        if isinstance(step, jobruns.Timed):
            self._tell(step, number, "failed", error.message)
            return
        self._faults[step.subject] = error.message
        self._hints[step.subject] = error.hint
        if isinstance(step, plan.StartReplica):
            self.observer.note_fault(step.id, error.message)
        self._tell(step, number, "failed", error.message)

    def _blame(self, step: record.Undo) -> None:
        """Keep the culprit's last lines: it may be cleared away before anybody asks."""
        self.culprit, self.culprit_log = step.culprit, []
        self.culprit_hint = self._hints.get(step.culprit)
        self._faults = {}
        id = step.culprit
        if self.desired.rollout is not None and "@" not in id and id:
            id = f"{id}@r{self.desired.rollout.stack}.{self.desired.rollout.id}"
        if id and id != "edge":
            self.culprit_log = [
                self.mask(line) for line in logfiles.read(self.site.runtime.log(id), LAST_LINES)[0]
            ]
        for line in self.culprit_log:
            self.events.publish({"event": "note", "text": f"{step.culprit} | {line}"})

    def _why_ended(self, store: str) -> str:
        """The line of a store's log that tells why it ended; "" when none does."""
        lines, _ = logfiles.read(self.site.runtime.log(f"data.{store}"), STORE_LINES)
        return self.mask(self.site.stores[store].explain("\n".join(lines)))

    def mask(self, text: str) -> str:
        """The text without any secret's value."""
        return self.site.secrets.masker()(text)

    def _edge_config(self) -> edge_config.Config:
        assert self.world is not None  # noqa: S101  # set at the start of each round
        # Of the world that was decided on: the record may have changed since.
        return self.situation.wanted_edge(self.world)

    def _files(self) -> staticconf.Files:
        assert self.world is not None  # noqa: S101  # as above
        situations = self.situation.files(self.world.desired, self.world.stacks)
        return situations[self.world.edge_situation]

    # -- telling ------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A line for people, in streams and in the journal."""
        self.site.journal.add(text, outcome="note")
        self.events.publish({"event": "note", "text": text})

    def _tell(self, step: plan.Step, number: int, state: str, error: str) -> None:
        # Neither housekeeping nor what happens several times a second is news.
        silent = isinstance(step, plan.Forget | jobruns.ForgetRun | plan.ShutSockets)
        silent |= isinstance(step, jobruns.NoteRun) and step.state == "running"
        if not silent or error:
            self.site.journal.add(step.text, cause=step.cause, outcome=error or state)
            self.events.publish(
                {
                    "event": "step",
                    "n": number,
                    "text": step.text,
                    "cause": step.cause,
                    "state": state,
                    "error": error,
                }
            )

    def _tell_progress(self) -> None:
        """How far it is, whenever that has changed and somebody listens."""
        if not self.events.heard:
            return
        phase = self.desired.rollout.phase if self.desired.rollout else None
        progress = {"event": "progress", "phase": phase, "services": status.summary(self)}
        if progress != self._progress:
            self._progress = progress
            self.events.publish(progress)

    def _tell_once(self, subject: str, message: str) -> None:
        if self._told.get(subject) != message:
            self._told[subject] = message
            self.note(message)

    # -- helpers ------------------------------------------------------------------------------

    async def _wake_on_ends(self) -> None:
        async for _ in self.site.runtime.ended():
            self.wake()

    async def _housekeeping(self) -> None:
        while True:
            await self._rotate_logs()
            for _ in range(round(HOUSEKEEPING / FLOOD)):
                await asyncio.sleep(FLOOD)
                flooded = getattr(self.site.runtime, "flooded", None)
                if flooded is not None and flooded(LOG_LIMIT):
                    await self._rotate_logs()
            self.site.journal.trim()
            await self.clear_jobs()

    async def _rotate_logs(self) -> None:
        rotate = getattr(self.site.runtime, "rotate", None)
        if rotate is not None:
            with contextlib.suppress(errors.GaplessError, OSError):
                await asyncio.to_thread(rotate, LOG_LIMIT, LOGS_KEPT)

    async def clear_jobs(self) -> None:
        """Drop the records of jobs whose rollout is over; their logs stay."""
        rollout = self.desired.rollout
        current = str(rollout.id) if rollout else ""
        for found in await self.site.runtime.look():
            over = found.labels.get("kind") == "job" and not found.alive
            number = found.labels.get("rollout", "")
            if "due" in found.labels or number.startswith("-"):
                continue  # a schedule's goes once it is noted, a one-off's with who waits for it
            if over and number != current:
                await self.site.runtime.forget(found.id)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do and nothing is awaited."""
        if self.world is None or self.desired != self.world.desired:
            return False
        decision = reconcile(replace(self.world, now=clock.now()))
        return not decision.steps and not decision.waits


def _as_fault(error: errors.GaplessError | OSError, what: str) -> errors.GaplessError:
    """A machine that refuses (disk full, no more files) fails a step; it does not end the loop."""
    if isinstance(error, errors.GaplessError):
        return error
    place = f"{error.filename}: " if error.filename else ""
    return errors.EnvironmentFault(f"{what}: {place}{error.strerror or error}")
