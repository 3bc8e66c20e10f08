"""Replicas follow a step of the load up and back down, and nothing fails; on probe services.

Calm, a steep step up in open loop, and calm again. Nobody may leave at once: a lower count has to
have been enough for a whole window, so that a short lull costs no boot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gapless.drills import base, figures, generator, mix, scratch, spec, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "spike"
PROMISE = "replicas follow the load up and back down, and nothing fails"
FLOOR, MOST = 2, 6
RPS = 40
"""Requests/s that one replica is to have."""
LOW, HIGH = 40.0, 180.0
"""Requests/s while calm: enough for one replica; and of the spike: four and a half replicas."""
EXPECTED = 5
REQUESTS = 1_500
WINDOW = 8.0
"""Seconds that fewer must have been enough; five minutes where the file says nothing."""
EARLY = WINDOW - 3.0
"""Seconds from the end of the spike in which it is too early to leave."""
CALM, HOLD = 4.0, 4.0
FOLLOW = 60.0
"""Seconds after which replicas that have not followed will not."""
WITHIN = 5.0
"""Strict: seconds to follow in, besides the time a replica takes to boot."""


@dataclass(frozen=True, slots=True)
class Table:
    """``calm`` and ``highest``: most replicas wanted before the spike, and ever. ``peak``: most
    that were ready under it. ``held``: fewest wanted as long as it was too early to leave.
    ``final``: wanted and ready at the end. Times in seconds; None: it did not come to that."""

    traffic: Traffic
    wanted: int
    calm: int
    peak: int
    held: int
    highest: int
    final: tuple[int, int]
    touched: tuple[str, ...] = ()
    followed: float | None = None
    boot: float = 0.0
    fell: float | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons = [*base.traffic_reasons(table.traffic, table.wanted, strict)]
    if table.calm != FLOOR:
        reasons.append(f"{table.calm} replicas before the spike instead of {FLOOR}")
    if table.peak < EXPECTED:
        reasons.append(f"{table.peak} replicas ready under the spike, {EXPECTED} expected")
    elif table.held < EXPECTED:
        reasons.append(f"{table.held} replicas wanted before fewer were enough for a window")
    if table.highest > MOST:
        reasons.append(f"{table.highest} replicas wanted, {MOST} allowed")
    if table.final != (FLOOR, FLOOR):
        wanted, ready = table.final
        reasons.append(f"{wanted} wanted and {ready} ready after the spike instead of {FLOOR}")
    reasons += verdict.nothing("replicas from before were touched", table.touched)
    if strict and table.followed is not None and table.followed > table.boot + WITHIN:
        reasons.append(
            f"replicas followed in {table.followed:.1f} s: boot takes {table.boot:.1f} s, "
            f"and {WITHIN:g} s are allowed"
        )
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    return "a scratch stack of probe services, on this machine's runtime and edge"


def run(stage: Stage) -> Outcome:
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"windows are shortened: a scratch stack {name} of probe services is used")
    folder = stage.paths.state / "drill"
    options = base.Options(strict=stage.options.strict)
    source = settings(scratch.Ground.of(stage.target.stack))
    with scratch.stack(name, folder, stage.say, source, options) as probes:
        return attack(probes, stage.options.requests or REQUESTS)


def settings(ground: scratch.Ground) -> scratch.Settings:
    """A probe service that follows its requests/s."""
    scale = f'{{ max = {MOST}, rps = {RPS}, down_after = "{WINDOW:g}s" }}'
    return scratch.Settings(replicas=FLOOR, scale=scale, ground=ground)


@dataclass(slots=True)
class Watch:
    """Looks at a service again and again; remembers what it saw."""

    stage: Stage
    counts: list[int] = field(default_factory=list)
    """Wanted replicas, look by look."""
    ready: int = 0
    """Ready ones at the last look."""
    spiked: float = 0.0
    """When the spike ended, on the monotonic clock."""
    boots: dict[str, float] = field(default_factory=dict)
    """Replica to the seconds from its start until it was seen ready."""

    def until(self, done: Callable[[], bool], seconds: float) -> float | None:
        """Look until ``done``; the seconds it took, or None when the time is up."""
        began = time.monotonic()
        while True:
            state = self.stage.look()
            service = state.services["web"]
            self.counts.append(service.desired)
            self.ready = service.ready
            for one in state.serving("web"):
                if one.started_at is not None:
                    self.boots.setdefault(one.id, time.time() - one.started_at)
            if done():
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                return None
            time.sleep(0.1)

    def wait(self, seconds: float) -> tuple[int, int]:
        """Look for so long; the fewest and most replicas that were wanted meanwhile."""
        first = len(self.counts)
        self.until(lambda: False, seconds)
        return min(self.counts[first:]), max(self.counts[first:])


def attack(probes: scratch.Scratch, wanted: int) -> Outcome:
    """The course of the load, and what became of the replicas."""
    began = time.monotonic()
    before = probes.look()
    chosen = mix.choose(probes.target, before, probes.options)
    watch = Watch(probes)
    with generator.Load(_at(chosen, LOW, slow=True)) as low:
        low.until(requests=1, seconds=20.0)
        low.mark("before")
        _, calm = watch.wait(CALM)
        low.mark("during")
        followed, peak, whole = _spike(probes, chosen, watch, wanted - low.requests)
        low.mark("after")
        held, _ = watch.wait(EARLY - (time.monotonic() - watch.spiked))
        left = watch.until(lambda: watch.counts[-1] < EXPECTED, WINDOW + FOLLOW)
        fell = None if left is None else time.monotonic() - watch.spiked
        watch.until(lambda: watch.counts[-1] <= FLOOR, WINDOW + FOLLOW)
        after = probes.settle()
        whole.merge(low.finish(30.0))
    gone = states.lost(before, after)
    measurement = traffic.Measurement(
        whole, max(0, max(watch.counts) - after.services["web"].ready)
    )
    measurement.seconds = time.monotonic() - began
    boot = max([s for id, s in watch.boots.items() if id not in _ids(before)], default=0.0)
    final = after.services["web"]
    table = Table(
        measurement.traffic(),
        wanted,
        calm,
        peak,
        held,
        max(watch.counts),
        (final.desired, final.ready),
        gone,
        followed,
        boot,
        fell,
    )
    _tell(probes, table)
    detail = {
        "stack": probes.paths.stack,
        "replicas": {"calm": calm, "peak": peak, "final": final.ready},
        "followed_s": _rounded(followed),
        "boot_s": _rounded(boot),
        "fell_s": _rounded(fell),
        "window_s": WINDOW,
    }
    reasons = judge(table, probes.options.strict)
    return Outcome(NAME, reasons, table.traffic, {**measurement.detail(), **detail})


def _at(chosen: mix.Mix, rate: float, *, slow: bool = False) -> spec.Spec:
    """All streams of the mixture together at so many requests/s, in open loop.

    ``slow``: with those beside them that always have a request in flight.
    """
    names = [stream.name for stream in chosen.closed()]
    streams = chosen.open(dict.fromkeys(names, rate / len(names)))
    more = chosen.slowly() if slow else ()
    return chosen.spec((*streams, *more), traffic.LONGEST)


def _spike(
    probes: Stage, chosen: mix.Mix, watch: Watch, missing: int
) -> tuple[float | None, int, figures.Measured]:
    """The step up: seconds until replicas followed, how many were ready, what was measured."""
    with generator.Load(_at(chosen, HIGH - LOW)) as high:
        high.until(requests=1, seconds=20.0)
        followed = watch.until(lambda: watch.ready >= EXPECTED, FOLLOW)
        probes.say(f"the load is {HIGH:g} requests/s: {watch.ready} replicas ready")
        peak = watch.ready
        if followed is not None:
            watch.wait(max(HOLD, (missing - high.requests) / HIGH))
        watch.spiked = time.monotonic()
        return followed, peak, high.finish(30.0)


def _ids(state: State) -> set[str]:
    return {one.id for one in state.replicas}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _tell(probes: Stage, table: Table) -> None:
    if table.followed is not None:
        probes.say(
            f"{table.peak} replicas followed in {table.followed:.1f} s (boot {table.boot:.1f} s)"
        )
    if table.fell is not None:
        probes.say(f"the first left {table.fell:.1f} s after the load fell; window {WINDOW:g} s")
