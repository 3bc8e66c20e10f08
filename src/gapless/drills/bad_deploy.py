"""A bad version never takes traffic for long, and undoes itself; on a scratch stack of probes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from gapless.drills import base, generator, mix, scratch, traffic, verdict
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "bad-deploy"
PROMISE = "a bad version is undone by itself, with its cause on screen"
FAULTS = ("crash", "never-ready", "bad")
BAD_ANSWERS = 20
"""So many answers of a version that is ready and then answers 5xx may reach clients."""
ABORTED = 4
CAUSES: Mapping[str, tuple[str, ...]] = {
    "crash": ("exit code 3", "made to crash"),
    "never-ready": ("503", "never ready"),
    "bad": ("500", "5xx", "bad answers"),
}
"""What the message has to name, one of them at least."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad deploy. ``failed``: by kind of failure; ``touched``: replicas that served before
    and are not the same process, serving, after it."""

    mode: str
    exit: int
    message: str
    requests: int
    failed: Mapping[str, int]
    touched: tuple[str, ...]
    release_before: int | None = None
    release_after: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """``traffic`` counts all requests; its failures are judged by fault, not as a sum."""

    traffic: Traffic
    faults: tuple[Fault, ...]


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons: list[str] = []
    for mode in FAULTS:
        found = [fault for fault in table.faults if fault.mode == mode]
        reasons += [] if found else [f"{mode}: not tried"]
        for fault in found:
            reasons += _judge_one(fault)
    if table.traffic.unknown:
        reasons.append(f"{table.traffic.unknown} requests have an unknown outcome")
    return tuple(reasons)


def _judge_one(fault: Fault) -> Reasons:
    reasons = []
    if fault.requests == 0:
        reasons.append("not one request was sent")
    if fault.exit != ABORTED:
        reasons.append(f"exit {fault.exit} instead of {ABORTED}")
    if not any(word in fault.message for word in CAUSES[fault.mode]):
        reasons.append(f"the cause is not named: {fault.message!r}")
    bad = fault.failed.get("5xx", 0) if fault.mode == "bad" else 0
    others = sum(fault.failed.values()) - bad
    if bad > BAD_ANSWERS:
        reasons.append(f"{bad} bad answers reached clients, {BAD_ANSWERS} allowed")
    if others:
        reasons.append(f"{others} of {fault.requests:,} requests failed")
    reasons += verdict.nothing("old replicas were touched", fault.touched)
    reasons += verdict.equal("release", fault.release_before, fault.release_after)
    return tuple(f"{fault.mode}: {reason}" for reason in reasons)


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    return "a scratch stack of probe services, on this machine's runtime and edge"


def run(stage: Stage) -> Outcome:
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"user code cannot be made bad: a scratch stack {name} of probe services is used")
    folder = stage.paths.state / "drill"
    options = base.Options(strict=stage.options.strict)
    settings = scratch.Settings(ground=scratch.Ground.of(stage.target.stack))
    with scratch.stack(name, folder, stage.say, settings, options) as probes:
        return attack(probes)


def attack(probes: scratch.Scratch) -> Outcome:
    """Deploy each bad version under load."""
    began = time.monotonic()
    chosen = mix.choose(probes.target, probes.look(), probes.options)
    rates = traffic.capacity(chosen)
    spec = chosen.spec((*chosen.open(rates), *chosen.slowly()), traffic.LONGEST)
    ended = {}
    with generator.Load(spec) as load:
        load.until(requests=10, seconds=20.0)
        for mode in FAULTS:
            before = probes.settle()
            load.mark(mode)
            at = time.monotonic()
            probes.write(mode)
            end = probes.operate("/v1/deploy", services=[])
            after = probes.settle()
            load.mark(f"after {mode}")
            ended[mode] = (end, before, after, time.monotonic() - at)
            probes.say(f"{mode}: exit {end.exit}: {end.message}")
        measured = load.finish(spec.timeout + 5.0)
    faults = []
    for mode, (end, before, after, seconds) in ended.items():
        count = measured.total(mode, f"after {mode}")
        faults.append(
            Fault(
                mode,
                end.exit,
                " · ".join([end.message, *end.log[-3:]]),
                count.requests,
                count.kinds,
                touched(before, after),
                before.release,
                after.release,
                round(seconds, 1),
            )
        )
    whole = traffic.Measurement(measured, len(ended))
    whole.seconds = time.monotonic() - began
    table = Table(whole.traffic(), tuple(faults))
    detail = {"stack": probes.paths.stack, "faults": [asdict(fault) for fault in faults]}
    return Outcome(NAME, judge(table), table.traffic, {**whole.detail(), **detail})


def touched(before: State, after: State) -> tuple[str, ...]:
    """Replicas that served before and do not serve, as the same process, after."""
    return tuple(one.id for one in before.serving() if not one.among(after.serving()))
