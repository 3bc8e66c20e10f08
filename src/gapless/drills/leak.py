"""Replicas that grow too large, or have answered enough, are renewed: each alone, at no cost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapless.drills import base, generator, mix, ports, probe_app, scratch, traffic, verdict
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "leak"
PROMISE = "a replica over its limit, or due, is renewed at no cost, and it alone"
ROUNDS = 50
RATE = 100.0
"""Requests/s over all streams."""
EACH = 30.0
"""Seconds given for each renewal, and as many again at first."""
POLL = 0.2
HISTORY = 10_000

MEMORY, REQUESTS = "memory", "requests"
CAUSES: Mapping[str, str] = {MEMORY: "over its memory limit", REQUESTS: "has answered"}
DIED = "ended:"
"""What the cause of a start says when the one before had died by itself."""


@dataclass(frozen=True, slots=True)
class Leaky:
    """Probe services of which those with odd ordinals leak ``leak`` bytes a request."""

    replicas: int = 4
    leak: int = 160 * 1024
    memory: str = "48M"
    requests: int = 500
    ground: scratch.Ground = scratch.MACHINE

    def write(self, folder: Path, name: str) -> None:
        """See ``scratch.Source``."""
        shutil.copyfile(probe_app.__file__, folder / "probe_app.py")
        ground = self.ground
        text = STACK.format(
            name=name,
            run=ground.run("probe_app.py", "--socket", "${socket}"),
            start=ground.start("20s"),
            edge=ground.front(),
            port=ports.reserve(),
            own=self,
        )
        (folder / scratch.FILE).write_text(text, encoding="utf-8")


STACK = """\
gapless = 1
name = "{name}"

[service.web]
{run}env = {{ PROBE_LEAK = "{own.leak}" }}
replicas = {own.replicas}
ready = {{ path = "/ready", every = "500ms" }}
start = "{start}"
watch = "500ms"
drain = "5s"
limits = {{ memory = "{own.memory}" }}
recycle = {{ requests = {own.requests} }}

[edge]
listen = "127.0.0.1:{port}"
{edge}
[drill]
get = ["/"]
post = ["/echo"]
slow = "/slow?s=1"
"""


@dataclass(frozen=True, slots=True)
class Renewal:
    """One replica that left the edge because it was ill or due. ``first``: its successor was in."""

    id: str
    cause: str
    first: bool

    @property
    def leaks(self) -> bool:
        """Whether it was one of those that leak: those with odd ordinals."""
        return int(self.id.partition("@")[0].rpartition(".")[2]) % 2 == 1


@dataclass(frozen=True, slots=True)
class Table:
    """``wanted``: renewals asked for. ``least``: fewest that were ready at any look.

    ``died``: replicas that ended by themselves.
    """

    traffic: Traffic
    wanted: int
    renewals: tuple[Renewal, ...]
    died: tuple[str, ...] = ()
    desired: int = 0
    least: int = 0


def judge(table: Table, strict: bool = False) -> Reasons:
    counts = {kind: [r for r in table.renewals if r.cause == kind] for kind in CAUSES}
    reasons = list(base.traffic_reasons(table.traffic, 1, strict=False))
    if len(table.renewals) < table.wanted:
        reasons.append(f"only {len(table.renewals)} of {table.wanted} renewals came")
    if not counts[MEMORY]:
        reasons.append("no replica was renewed for its memory")
    if not counts[REQUESTS]:
        reasons.append("no replica was renewed for the requests that it had answered")
    reasons += verdict.nothing("gone before its successor served", unready(table.renewals))
    sound = [r.id for r in counts[MEMORY] if not r.leaks]
    reasons += verdict.nothing("renewed for its memory, though it does not leak", sound)
    reasons += verdict.nothing("died instead of being renewed", table.died)
    if table.least < table.desired:
        reasons.append(f"only {table.least} of {table.desired} were ready at some time")
    return tuple(reasons)


def unready(renewals: Iterable[Renewal]) -> list[str]:
    """Those that left while nobody had taken their place."""
    return [one.id for one in renewals if not one.first]


_STEP = re.compile(r"^(?P<slot>\S+)@r(?P<number>\S+) (?P<what>start|enter edge|leave edge)")


def read(history: Iterable[Mapping[str, Any]]) -> tuple[tuple[Renewal, ...], tuple[str, ...]]:
    """Renewals, and who died, out of the journal (oldest first). Pure."""
    inside: dict[str, set[str]] = {}
    renewals, died = [], []
    for event in history:
        step = _STEP.match(str(event["what"]))
        if step is None or event["outcome"] != "done":
            continue
        slot, number, cause = step["slot"], step["number"], str(event["cause"] or "")
        members = inside.setdefault(slot, set())
        if step["what"] == "enter edge":
            members.add(number)
        elif step["what"] == "leave edge":
            members.discard(number)
            kind = next((kind for kind, words in CAUSES.items() if words in cause), None)
            if kind is not None:
                renewals.append(Renewal(f"{slot}@r{number}", kind, bool(members)))
        elif DIED in cause:
            died.append(cause)
    return tuple(renewals), tuple(died)


def subject(target: Target, state: State) -> str:
    return "a scratch stack of probe services that leak, on this machine's runtime and edge"


def run(stage: Stage) -> Outcome:
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"user code cannot be made to leak: a scratch stack {name} of probes is used")
    folder = stage.paths.state / "drill"
    given = stage.options
    options = base.Options(strict=given.strict, rounds=given.rounds, seconds=given.seconds)
    leaky = Leaky(ground=scratch.Ground.of(stage.target.stack))
    with scratch.stack(name, folder, stage.say, leaky, options) as probes:
        return attack(probes)


def attack(probes: scratch.Scratch) -> Outcome:
    """Ask the leaking replicas until enough of them were renewed."""
    began = time.monotonic()
    wanted = probes.options.rounds or ROUNDS
    chosen = mix.choose(probes.target, probes.settle(), probes.options)
    streams = chosen.closed()
    rates = {stream.name: RATE / len(streams) for stream in streams}
    spec = chosen.spec((*chosen.open(rates), *chosen.slowly()), traffic.LONGEST)
    with generator.Load(spec) as load:
        load.until(requests=10, seconds=20.0)
        deadline = began + (probes.options.seconds or EACH * (wanted + 2))
        seen = _watch(probes, load, wanted, deadline)
        measured = load.finish(spec.timeout + 5.0)
    renewals, died = read(probes.client.get(f"/v1/history?limit={HISTORY}"))
    whole = traffic.Measurement(measured, len(renewals))
    whole.seconds = time.monotonic() - began
    table = Table(whole.traffic(), wanted, renewals, died, seen.desired, seen.least)
    counts = {kind: sum(r.cause == kind for r in renewals) for kind in CAUSES}
    told = [
        f"{len(renewals)} renewals: {counts[MEMORY]} over the memory limit, {counts[REQUESTS]} for "
        f"the requests answered; at least {seen.least} of {seen.desired} ready at any time"
    ]
    detail = {**whole.detail(), "renewals": counts, "least_ready": seen.least, "told": told}
    return Outcome(NAME, judge(table, probes.options.strict), table.traffic, detail)


@dataclass(slots=True)
class _Seen:
    desired: int = 0
    least: int = field(default=1_000_000)


def _watch(probes: scratch.Scratch, load: generator.Load, wanted: int, deadline: float) -> _Seen:
    """Look until so many renewals of both kinds are done, a request has failed, or time is up."""
    seen = _Seen()
    told = 0
    while time.monotonic() < deadline:
        web = probes.look().services["web"]
        seen.desired, seen.least = web.desired, min(seen.least, web.ready)
        renewals = read(probes.client.get(f"/v1/history?limit={HISTORY}"))[0]
        done = len(renewals)
        if done >= told + 10:
            told = done - done % 10
            probes.say(f"{done} renewals")
        if load.failed or (done >= wanted and {one.cause for one in renewals} == set(CAUSES)):
            break
        time.sleep(POLL)
    return seen
