"""Workers follow their queue, and none of them costs a task: leaving, replaced or killed.

On a scratch stack of the same Celery and the same kind of store as the user's workers have: no
strange task gets into a real queue. Every task writes down in the store that it starts and ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gapless import errors
from gapless.drills import base, celery_kit, diary, scratch, verdict, workers
from gapless.drills.base import Outcome, Target
from gapless.drills.diary import Diary
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.drills.workers import Fleet, Workers
from gapless.engine import demand
from gapless.model.service import Service

NAME = "backlog"
PROMISE = "workers follow their queue, and none of them costs a task"
TASKS = 1_000
SHORT = 0.2
"""Seconds that most tasks take."""
PATIENCE = 60.0
"""Seconds in which something has to happen that is waited for."""
STALL = 15.0
"""Seconds without any entry after which nothing more is expected."""
BOOT = 60.0
"""Seconds in which workers that are up have taken their first tasks."""
FRESH = 3 * demand.EVERY
"""Seconds after which the controller has measured once more."""
VISIBILITY = 8.0
"""Seconds after which the tasks of a killed worker are given to another."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Tasks that wait for each other. ``reported``: the backlog that the controller measured
    while all of them were in hand and the queue itself was empty."""

    wanted: int
    by_worker: Mapping[str, int] = field(default_factory=dict)
    workers: int = 2
    reported: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that were sent and what became of them. ``laden``: those that a leaving worker ended
    after it had been told to go."""

    sent: int
    lost: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    laden: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Following:
    """How many workers there were: ``most`` at once, ``left`` by scaling down, ``after``."""

    batch: Batch
    floor: int = 2
    most: int = 0
    left: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    """``in_hand``: tasks of the killed worker; ``strange``: repeated ones that it never had."""

    batch: Batch
    in_hand: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The four things that are tried; None: not tried."""

    meeting: Meeting | None = None
    following: Following | None = None
    deploy: Batch | None = None
    kill: Kill | None = None


def judge(table: Table) -> Reasons:
    reasons: list[str] = []
    tried = {
        "tasks at once": table.meeting,
        "following the queue": table.following,
        "a deploy": table.deploy,
        "a killed worker": table.kill,
    }
    reasons += [f"{what}: not tried" for what, found in tried.items() if found is None]
    if table.meeting is not None:
        reasons += _judge_meeting(table.meeting)
    if table.following is not None:
        reasons += _judge_following(table.following)
    if table.deploy is not None:
        reasons += _judge_leaving("deploying", table.deploy)
    if table.kill is not None:
        reasons += _judge_kill(table.kill)
    return tuple(reasons)


def _judge_meeting(meeting: Meeting) -> Reasons:
    reasons = []
    together = sum(meeting.by_worker.values())
    if together < meeting.wanted:
        reasons.append(f"at most {together} tasks ran at once, {meeting.wanted} wanted")
    if len(meeting.by_worker) != meeting.workers:
        reasons.append(f"on {len(meeting.by_worker)} workers instead of {meeting.workers}")
    if meeting.reported != meeting.wanted:
        reasons.append(
            f"with {meeting.wanted} tasks in hand the backlog was {meeting.reported}: "
            "what is not acknowledged does not count"
        )
    return tuple(reasons)


def _judge_following(following: Following) -> Reasons:
    reasons = list(_judge_leaving("scaling down", following.batch))
    if following.most <= following.floor:
        reasons.append(
            f"never more than {following.most} workers for {following.batch.sent:,} tasks"
        )
    if following.most > following.floor and not following.left:
        reasons.append(f"none of {following.most} workers left when the queue was short")
    if following.after != following.floor:
        reasons.append(f"{following.after} workers in the end instead of {following.floor}")
    return tuple(reasons)


def _judge_leaving(what: str, batch: Batch) -> Reasons:
    reasons = list(verdict.nothing(f"{what}: tasks lost", _few(batch.lost)))
    reasons += verdict.nothing(f"{what}: tasks run twice", _few(batch.repeated))
    if not batch.laden:
        reasons.append(f"{what}: no worker that left had a task in hand: nothing was proved")
    return tuple(reasons)


def _judge_kill(kill: Kill) -> Reasons:
    reasons = list(verdict.nothing("after kill -9: tasks lost", _few(kill.batch.lost)))
    if not kill.in_hand:
        reasons.append("the killed worker had no task in hand: nothing was proved")
    left_out = set(kill.in_hand) - set(kill.batch.repeated)
    reasons += verdict.nothing("the killed worker's tasks that did not run again", left_out)
    reasons += verdict.nothing("tasks of others ran twice", _few(kill.strange))
    return tuple(reasons)


def _few(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The first of many, and how many there are."""
    return tasks if len(tasks) <= 5 else (*tasks[:4], f"… {len(tasks)} in all")


def subject(target: Target, state: State) -> str:
    name, store = _find(target, state)
    return f"workers like {name}, on a store like {store} (a scratch stack on this machine)"


def _find(target: Target, state: State) -> tuple[str, str]:
    """(worker service, Redis store). Raises MissingSubject."""
    running = {
        name: service
        for name, service in target.stack.services.items()
        if not service.http and name in state.services and state.services[name].desired
    }
    stores = [name for name, table in target.stack.data.items() if table.type == "redis"]
    for name, service in running.items():
        if service.scale is not None and service.scale.store in stores:
            return name, service.scale.store
    celery = [name for name, service in running.items() if _is_worker(service)]
    if celery and stores:
        return celery[0], stores[0]
    if not stores:
        raise errors.MissingSubject(
            "no store of type redis holds a queue here", hint='[data.NAME] type = "redis"'
        )
    raise errors.MissingSubject(
        "no worker service runs in this stack",
        hint=f'scale = {{ max = 4, queue = "{stores[0]}:NAME", backlog = 100 }} makes one',
    )


def _is_worker(service: Service) -> bool:
    return any("celery" in word for word in service.run[:3]) and "worker" in service.run


def run(stage: Stage) -> Outcome:
    state = stage.look()
    name, store = _find(stage.target, state)
    table = stage.target.stack.data[store]
    kit = celery_kit.find(
        stage.target.stack.services[name],
        lambda argv: workers.one_off(stage, name, argv),
        workers.image(stage, state, name),
    )
    tasks = stage.options.requests or TASKS
    # Few enough for each that all are needed, and so many that those which meet need no more.
    fleet = Fleet(kit, backlog=max(16, tasks // 10), version=table.version, settings=table.settings)
    scratched = scratch.name_for(stage.paths.stack)
    stage.say(f"Celery {kit.version} of {name}; its queues are left alone: a scratch {scratched}")
    options = base.Options(strict=stage.options.strict)
    folder = stage.paths.state / "drill"
    with scratch.stack(scratched, folder, stage.say, fleet, options) as there:
        crew = Workers(there, fleet)
        try:
            return try_all(crew, tasks)
        finally:
            # A warm stop waits for its tasks: none of them is to wait at a gate.
            with contextlib.suppress(errors.GaplessError):
                crew.let_go(MET)


MET = ("meet", "first", "last", "deploy")
"""Runs whose tasks wait at a gate."""


def try_all(crew: Workers, tasks: int) -> Outcome:
    """All four, one after the other."""
    began = time.monotonic()
    table = Table(meet(crew), follow(crew, tasks), deploy(crew), kill(crew))
    return outcome(table, time.monotonic() - began)


def outcome(table: Table, seconds: float) -> Outcome:
    """Tasks are the requests here, and workers that left are the handovers."""
    done = [table.deploy] if table.deploy else []
    done += [one.batch for one in (table.following, table.kill) if one is not None]
    lost = sum(len(batch.lost) for batch in done)
    met = table.meeting.wanted if table.meeting else 0
    traffic = Traffic(
        requests=sum(batch.sent for batch in done) + met,
        failed=lost,
        kinds={"lost": lost} if lost else {},
        handovers=(table.following.left if table.following else 0),
        seconds=seconds,
    )
    return Outcome(NAME, judge(table), traffic, {"said": lines(table)})


def lines(table: Table) -> list[str]:
    """What was seen, for people."""
    told = []
    if meeting := table.meeting:
        by = " + ".join(str(count) for count in meeting.by_worker.values())
        told.append(f"at once: {by} tasks; backlog then: {meeting.reported}")
    if following := table.following:
        batch = following.batch
        told.append(
            f"{batch.sent:,} tasks in {batch.seconds:.0f} s: workers {following.floor} to "
            f"{following.most} and back to {following.after}; {_fate(batch)}"
        )
    if table.deploy:
        told.append(f"{table.deploy.sent:,} tasks during a deploy: {_fate(table.deploy)}")
    if kill := table.kill:
        told.append(
            f"kill -9 with {len(kill.in_hand)} tasks in hand: {len(kill.batch.repeated)} ran "
            f"again, {len(kill.batch.lost)} lost of {kill.batch.sent}"
        )
    return told


def _fate(batch: Batch) -> str:
    return (
        f"{len(batch.lost)} lost, {len(batch.repeated)} run twice, "
        f"{batch.laden} ended by workers on their way out"
    )


# What is tried


def meet(crew: Workers) -> Meeting:
    """As many tasks as there are hands, none of which ends before all have begun."""
    fleet = crew.fleet
    wanted = fleet.replicas * fleet.concurrency
    crew.send("meet", "meet", wanted, PATIENCE)
    workers.until(lambda: crew.met("meet"), BOOT)
    workers.until(lambda: crew.reported() == wanted, STALL)
    time.sleep(FRESH)  # what was measured before they were taken tells nothing
    reported = crew.reported()
    crew.let_go(["meet"])
    found = crew.finish("meet", PATIENCE, STALL)
    crew.there.say(f"{sum(found.most_at_once().values())} tasks at once, backlog {reported}")
    return Meeting(wanted, found.most_at_once(), fleet.replicas, reported)


def follow(crew: Workers, tasks: int) -> Following:
    """A long queue, whose first tasks wait for as many hands as there can be, and whose last ones
    wait until a worker is leaving with one of them in hand. Those before it may be gone with
    nothing: the tasks in between are short, and a busy machine looks seldom."""
    fleet = crew.fleet
    began = time.monotonic()
    hands = fleet.most * fleet.concurrency
    parts = {"first": hands, "many": max(0, tasks - 2 * hands), "last": hands}
    watch = Watch(crew, *parts)
    crew.send("first", "meet", hands, PATIENCE * 2)
    crew.send("many", "work", parts["many"], SHORT)
    crew.send("last", "meet", hands, PATIENCE * 2)
    workers.until(lambda: watch.look() and crew.met("first"), PATIENCE)
    crew.let_go(["first"])
    workers.until(lambda: watch.look() and watch.laden_with("last"), PATIENCE)
    crew.there.say(f"{watch.most} workers at most, {len(watch.told)} leaving")
    crew.let_go(["last"])
    crew.finish("last", PATIENCE, STALL, watch.look)
    after = crew.there.settle()
    watch.look()
    found = Diary(tuple(entry for run in parts for entry in crew.diary(run).entries))
    batch = Batch(
        sum(parts.values()),
        found.lost(task for run, count in parts.items() for task in diary.tasks(run, count)),
        found.repeated(),
        watch.laden(),
        round(time.monotonic() - began, 1),
    )
    ready = after.services[workers.SERVICE].ready
    return Following(batch, fleet.replicas, watch.most, watch.left, ready)


class Watch:
    """Who was there, who left, and how far the diaries were when each was told to."""

    def __init__(self, crew: Workers, *runs: str) -> None:
        self.crew = crew
        self.runs = runs
        self.most = 0
        self.seen: set[str] = set()
        self.there: set[str] = set()
        self.told: dict[str, dict[str, int]] = {}
        """Worker to the lengths of the diaries when it was first seen to be leaving."""

    def look(self) -> bool:
        """One look; True."""
        lengths = {run: self.crew.length(run) for run in self.runs}
        found = self.crew.replicas()
        self.most = max(self.most, sum(one.state == "ready" for one in found))
        self.there = {one.id for one in found}
        self.seen |= self.there
        for one in found:
            if one.state == "draining":
                self.told.setdefault(one.id, lengths)
        return True

    @property
    def left(self) -> int:
        """Workers that were there and are not."""
        return len(self.seen - self.there)

    def laden_with(self, run: str) -> bool:
        """Whether a worker that was told to go has a task of this run in hand."""
        return bool(self.told) and self.crew.diary(run).at_work(self.told) > 0

    def laden(self) -> int:
        """Tasks that workers ended after they had been told to go."""
        diaries = {run: self.crew.diary(run) for run in self.runs}
        return sum(
            diaries[run].ended_after({worker}, length)
            for worker, lengths in self.told.items()
            for run, length in lengths.items()
        )


def deploy(crew: Workers) -> Batch:
    """Workers are replaced while every hand is full, of tasks that end once all have been told."""
    fleet = crew.fleet
    count = 8 * fleet.replicas * fleet.concurrency
    old = {one.id for one in crew.replicas()}
    crew.send("deploy", "meet", count, PATIENCE * 2)
    hands = fleet.replicas * fleet.concurrency
    workers.until(lambda: crew.diary("deploy").at_work(old) >= hands, PATIENCE)
    watch = Watch(crew, "deploy")
    crew.deploy(watch.look, force=True)
    workers.until(lambda: watch.look() and old & watch.there <= watch.told.keys(), PATIENCE)
    crew.let_go(["deploy"])
    workers.until(lambda: watch.look() and not old & watch.there, PATIENCE)
    found = crew.finish("deploy", PATIENCE, STALL)
    crew.there.settle()
    return Batch(count, found.lost(diary.tasks("deploy", count)), found.repeated(), watch.laden())


def kill(crew: Workers) -> Kill:
    """kill -9 of a worker with all hands full, its tasks acknowledged late."""
    fleet = crew.fleet
    count = 2 * fleet.replicas * fleet.concurrency
    crew.deploy(bool, visibility=VISIBILITY)
    crew.there.settle()
    crew.send("kill", "work", count, 1.0)
    victim = crew.replicas()[0]
    workers.until(lambda: len(crew.diary("kill").in_hand(victim.id)) == fleet.concurrency, PATIENCE)
    crew.kill(victim)
    in_hand = crew.diary("kill").in_hand(victim.id)
    crew.there.say(f"killed {victim.id} with {len(in_hand)} tasks in hand")
    found = crew.finish("kill", PATIENCE, STALL + VISIBILITY)
    crew.there.settle()
    batch = Batch(count, found.lost(diary.tasks("kill", count)), found.repeated())
    strange = set(batch.repeated) - found.touched_by(victim.id)
    return Kill(batch, tuple(sorted(in_hand)), tuple(sorted(strange)))
