"""A replica that is killed costs no request that can be repeated, and is replaced at once.

On the stack's own routes failures are sorted by whether another replica could have helped. How
often a request was *done* only an application can tell, so that is counted by a probe service.
Its replicas are killed all at once, too: what comes while nobody is there waits for the next ones.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from gapless import errors
from gapless.drills import base, blow, generator, mix, scratch, toll, traffic, verdict
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.blow import Blow
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.toll import Toll
from gapless.drills.verdict import Reasons, Traffic

NAME = "crash"
PROMISE = "a killed replica costs no request that is safe to repeat, and is replaced"
ROUNDS = 10
AGAIN = 3
"""Kills of probes that record what they do."""
AWAY = 1.0
"""Strict: seconds in which it is out of rotation."""
OVER_BOOT = 1.0
"""Strict: seconds that full strength may take more than the successor's boot."""
CLIENTS = 12


@dataclass(frozen=True, slots=True)
class Once:
    """Requests that must not be done twice: sent, failed, found on record, found there twice."""

    requests: int
    failed: int
    done: int
    twice: int

    def told(self) -> str:
        """One line for people."""
        return (
            f"probes: {self.requests:,} POSTs, {self.failed} of them lost in flight, "
            f"{self.twice} done twice"
        )


@dataclass(frozen=True, slots=True)
class Herd:
    """What it cost that all replicas were killed at once."""

    requests: int
    toll: Toll
    blow: Blow

    def told(self) -> str:
        """Two lines for people."""
        return f"all at once: {self.blow.told()}\nof {self.requests:,} requests {self.toll.told()}"


@dataclass(frozen=True, slots=True)
class Table:
    """``wanted``: how many blows were to fall."""

    traffic: Traffic
    toll: Toll
    blows: tuple[Blow, ...]
    wanted: int
    once: Once | None
    herd: Herd | None = None
    edge_before: int | None = None
    edge_after: int | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    return (
        *under_load(table.traffic),
        *toll.judge(table.toll),
        *replaced(table.blows, table.wanted),
        *_once(table.once),
        *_herd(table.herd),
        *verdict.equal("the edge's pid", table.edge_before, table.edge_after),
        *(_times(table.blows) if strict else ()),
    )


def under_load(found: Traffic) -> Reasons:
    """There was a load, its end is known, and sockets that were cut found a new replica."""
    reasons = [] if found.requests else ["not one request was sent"]
    if found.unknown:
        reasons.append(f"{found.unknown:,} requests have an unknown outcome: the drill was cut")
    if found.sockets.refused:
        reasons.append(f"{found.sockets.refused} times a socket could not connect")
    return tuple(reasons)


def replaced(blows: tuple[Blow, ...], wanted: int) -> Reasons:
    """Each blow had its effect, and each place was filled, in this order."""
    reasons = [] if len(blows) == wanted else [f"only {len(blows)} of {wanted} blows fell"]
    for one in blows:
        if one.gone is None:
            reasons.append(f"{one.victim}: its process has not ended")
        if one.away is None:
            reasons.append(f"{one.victim}: stayed in rotation")
        if one.overlap:
            reasons.append(f"{one.victim}: was in rotation beside its successor")
        if one.full is None:
            reasons.append(f"{one.victim}: its place was not filled")
    return tuple(reasons)


def _once(once: Once | None) -> Reasons:
    if once is None:
        return ("how often a request was done was not tried",)
    reasons = []
    if once.twice:
        reasons.append(f"{once.twice} requests that must not be repeated were done twice")
    if not once.done:
        reasons.append("the probes recorded nothing")
    if not once.failed and not once.twice:
        reasons.append("nothing was in flight on a probe that was killed")
    if once.done < once.requests - once.failed:
        reasons.append(f"{once.requests - once.failed} were answered, {once.done} recorded")
    return tuple(reasons)


def _herd(herd: Herd | None) -> Reasons:
    if herd is None:
        return ("that all die at once was not tried",)
    found = (*toll.judge(herd.toll), *replaced((herd.blow,), 1))
    return tuple(f"all at once: {reason}" for reason in found)


def _times(blows: tuple[Blow, ...]) -> Reasons:
    reasons = []
    for one in blows:
        if one.away is not None and one.away >= AWAY:
            reasons.append(f"{one.victim}: {one.away:.2f} s in rotation, {AWAY:g} s allowed")
        if one.full is None:
            continue
        if one.boot is None:
            reasons.append(f"{one.victim}: its successor's boot was not measured")
        elif one.full >= one.boot + OVER_BOOT:
            reasons.append(
                f"{one.victim}: full strength after {one.full:.2f} s, boot {one.boot:.2f} s: "
                f"more than {OVER_BOOT:g} s over it"
            )
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    name = several(target, state)
    return f"{state.services[name].desired} replicas of {name}, and a scratch stack of probes"


def several(target: Target, state: State) -> str:
    """The first published service, if another replica can help. Raises MissingSubject."""
    name = base.published(target, state)
    if state.services[name].desired < 2:
        raise errors.MissingSubject(
            f"{name} runs as a single replica: nobody is there to take over",
            hint=f"gapless scale {name}=2, or replicas = 2 in the file",
        )
    return name


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    name = several(stage.target, before)
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    rounds = stage.options.rounds or ROUNDS
    blows: list[Blow] = []

    def all_blows(_: int) -> int:
        return volley(stage, name, rounds, kill, blows)

    whole = traffic.under_load(stage, chosen, 1, all_blows)
    after = stage.look()
    found = whole.traffic()
    cost = toll.sort(found.failed, whole.measured.failures, blows)
    lost = (*toll.judge(cost), *replaced(tuple(blows), rounds))
    once, herd = (None, None) if lost else probed(stage, min(rounds, AGAIN))
    table = Table(
        found,
        cost,
        tuple(blows),
        rounds,
        once,
        herd,
        before.edge_pid,
        after.edge_pid,
    )
    told = [*(one.told() for one in blows), table.toll.told()]
    told += [line for part in (once, herd) if part for line in part.told().splitlines()]
    detail = {
        **whole.detail(),
        "told": told,
        "toll": table.toll.as_json(),
        "blows": [one.as_json() for one in blows],
        "once": asdict(once) if once else None,
        "all_at_once": asdict(herd) if herd else None,
    }
    return Outcome(NAME, judge(table, stage.options.strict), found, detail)


Strike = Callable[[Stage, blow.Grip], Blow]


def volley(stage: Stage, service: str, rounds: int, strike: Strike, blows: list[Blow]) -> int:
    """One blow after the other, each at a stack at rest, at another replica in turn.

    It ends with the first place that is not filled: the next blow could end the service.
    """
    for number in range(rounds):
        serving = stage.settle().serving(service)
        victim = serving[number % len(serving)]
        with blow.Grip(victim) as grip:
            blows.append(strike(stage, grip))
        stage.say(blows[-1].told())
        if blows[-1].full is None:
            break
    return sum(one.full is not None for one in blows)


def kill(stage: Stage, grip: blow.Grip) -> Blow:
    """kill -9."""
    return blow.strike(stage, [grip], signal.SIGKILL)


def probed(stage: Stage, rounds: int) -> tuple[Once, Herd]:
    """What only probe services can tell, or should be put through."""
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"how often a request was done: a scratch stack {name} of probe services counts")
    folder = stage.paths.state / "drill"
    ground = scratch.Ground.of(stage.target.stack)
    settings = scratch.Settings(ledger=True, start="20s", ground=ground)
    with scratch.stack(name, folder, stage.say, settings, base.Options()) as probes:
        return twice(probes, rounds), together(probes)


def twice(probes: scratch.Scratch, rounds: int) -> Once:
    """Kill probes while they do what must not be done twice, and count how often they did it."""
    post = specs.Stream(name="POST", path="/once?s=0.1", method="POST", clients=CLIENTS)
    chosen = mix.choose(probes.target, probes.look(), probes.options)
    spec = chosen.spec((post,), traffic.LONGEST)
    with generator.Load(spec) as load:
        load.until(requests=3 * CLIENTS, seconds=20.0)
        volley(probes, "web", rounds, kill, [])
        count = load.finish(spec.timeout + 5.0).total()
    record = Counter(probes.ledger())
    return Once(count.requests, count.failed, len(record), sum(n > 1 for n in record.values()))


def together(probes: scratch.Scratch) -> Herd:
    """Kill all probes at once, while others ask for them."""
    probes.say("all of them at once: requests wait for the next ones")
    serving = probes.settle().serving("web")
    chosen = mix.choose(probes.target, probes.look(), probes.options)
    spec = chosen.spec(chosen.closed(), traffic.LONGEST)
    with generator.Load(spec) as load, contextlib.ExitStack() as held:
        load.until(requests=10 * CLIENTS, seconds=20.0)
        grips = [held.enter_context(blow.Grip(one)) for one in serving]
        fell = blow.strike(probes, grips, signal.SIGKILL)
        load.until(requests=load.requests + 10 * CLIENTS, seconds=20.0)
        measured = load.finish(spec.timeout + 5.0)
    whole = measured.total()
    return Herd(whole.requests, toll.sort(whole.failed, measured.failures, [fell]), fell)
