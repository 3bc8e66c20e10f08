"""The controller may die at any moment: nothing fails, and the next one adopts everything."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gapless import errors
from gapless.drills import base, mix, rollback, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import End, Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "controller"
PROMISE = "the controller can be killed at any moment"
ALONE = 1.0
"""Seconds that the stack is left without a controller."""
GUESS = 12
"""Steps of a deploy when the plan cannot be asked for their number."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and what the next controller made of it.

    ``lost``: replicas that had to survive and are not the same process any more (while idle: all;
    during a deploy only those that no step had replaced, which is judged by ``missing``).
    ``orphans``: programs of the stack that no look accounts for. ``missing``: service to how many
    ready replicas it lacks.
    """

    when: str
    lost: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    doubles: tuple[str, ...] = ()
    missing: Mapping[str, int] | None = None
    edge_before: int | None = None
    edge_after: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """``during``: kills that met a deploy under way. ``broken``: how a deploy failed that nobody
    had killed yet; "": none did."""

    traffic: Traffic
    kills: tuple[Kill, ...]
    during: int = 1
    broken: str = ""


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons: list[str] = list(base.traffic_reasons(table.traffic, 1, strict))
    if not table.kills:
        reasons.append("the controller was never killed")
    if not table.during:
        reasons.append("no kill met a deploy under way")
    if table.broken:
        reasons.append(f"a deploy failed by itself: {table.broken}")
    for kill in table.kills:
        short = [f"{name} (-{number})" for name, number in (kill.missing or {}).items()]
        for what, found in (
            ("lost", kill.lost),
            ("orphans", kill.orphans),
            ("doubles", kill.doubles),
            ("not ready again", short),
        ):
            reasons += verdict.nothing(f"{kill.when}: {what}", found)
        reasons += verdict.equal(f"{kill.when}: edge pid", kill.edge_before, kill.edge_after)
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    return f"the controller, with {state.services[name].desired} replicas of {name} serving"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    strangers = programs(stage) - {one.pid for one in before.replicas}
    kills: list[Kill] = []
    broken: list[str] = []
    stage.later("the controller", lambda: rollback.back(stage, before))

    def all_kills(_: int) -> int:
        kills.append(idle(stage, strangers))
        handed = 0
        for step in points(stage):
            old = stage.look()
            text = interrupted_deploy(stage, step)
            if isinstance(text, End):
                if text.exit != 0:
                    broken.append(text.message)
                handed += states.handovers(old, stage.settle())
                break
            time.sleep(ALONE)
            stage.up()
            new = stage.settle()
            handed += states.handovers(old, new)
            kills.append(checked(f"after step {step} ({text})", stage, old, new, strangers))
            stage.say(f"killed {kills[-1].when}, adopted")
        return handed

    whole = traffic.under_load(stage, chosen, stage.options.requests or 1, all_kills)
    table = Table(whole.traffic(), tuple(kills), len(kills) - 1, "".join(broken))
    detail = {**whole.detail(), "kills": [asdict(kill) for kill in kills]}
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, detail)


def points(stage: Stage) -> list[int]:
    """Steps of a deploy (from 1) after which to kill, evenly over its length."""
    try:
        body = {"what": "deploy", "force": True, "file": str(stage.target.file)}
        plan = stage.client.post("/v1/plan", body)
        steps = len(plan.get("steps") or ()) or GUESS
    except errors.GaplessError:
        steps = GUESS
    wanted = stage.options.points or steps
    if wanted >= steps:
        return list(range(1, steps + 1))
    return sorted({1 + round(n * (steps - 1) / max(1, wanted - 1)) for n in range(wanted)})


def idle(stage: Stage, strangers: set[int | None]) -> Kill:
    """Kill it while it has nothing to do: every single process has to be the same after."""
    old = stage.look()
    kill(stage)
    time.sleep(ALONE)
    stage.up()
    new = stage.settle()
    stage.say("killed while idle, adopted")
    found = checked("while idle", stage, old, new, strangers)
    return Kill(
        found.when,
        states.lost(old, new),
        found.orphans,
        found.doubles,
        found.missing,
        found.edge_before,
        found.edge_after,
    )


def checked(when: str, stage: Stage, old: State, new: State, strangers: set[int | None]) -> Kill:
    """What the world looks like after the next controller has come to rest."""
    known = {one.pid for one in new.replicas}
    missing = {
        name: one.desired - one.ready
        for name, one in new.services.items()
        if one.ready < one.desired
    }
    return Kill(
        when,
        orphans=tuple(f"pid {pid}" for pid in sorted(programs(stage) - known - strangers, key=str)),
        doubles=states.doubles(new),
        missing=missing,
        edge_before=old.edge_pid,
        edge_after=new.edge_pid,
    )


def interrupted_deploy(stage: Stage, step: int) -> str | End:
    """Deploy and kill the controller after so many steps; the step's text.

    An end: the deploy was over before that.
    """
    done = 0
    with contextlib.suppress(errors.NoController):
        for event in stage.begin("/v1/deploy", services=[], force=True, wait=True, drill=True):
            if event.get("event") == "end":
                return End.of(event)
            if event.get("event") == "step":
                done += 1
                if done == step:
                    kill(stage)
                    return str(event.get("text"))
    return f"step {done}"


def kill(stage: Stage) -> None:
    """kill -9, confirmed. Raises WorkFailed when the pid is not a controller's."""
    pid = int(stage.client.get("/v1/ping")["pid"])
    line = Path(f"/proc/{pid}/cmdline").read_bytes()
    if b"gapless" not in line:
        raise errors.WorkFailed(f"pid {pid} is not a controller: it is left alone")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while stage.client.alive():
        if time.monotonic() > deadline:
            raise errors.WorkFailed(f"the controller (pid {pid}) survived SIGKILL")
        time.sleep(0.02)


def programs(stage: Stage) -> set[int | None]:
    """Pids of session leaders that work in this stack's state: replicas, known or not.

    Read from /proc and not from any record of ours: a record is just what could be wrong.
    """
    found: set[int | None] = set()
    home = str(stage.paths.releases)
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            pid = int(place.name)
            if os.getsid(pid) == pid and str((place / "cwd").readlink()).startswith(home):
                found.add(pid)
    return found
