"""A replica that turns bad while it runs leaves rotation, and returns when it heals.

User code cannot be made bad, so this is done to probe services on a scratch stack: one at a time is
told, on its own address, to answer 500 from now on, under little and under more traffic; and
one to say that it is not ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from gapless import errors as faults
from gapless.drills import base, generator, mix, scratch, traffic
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import Replica, State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import asking
from gapless.model.process import Address, ReplicaId

NAME = "errors"
PROMISE = "a replica that turns bad leaves rotation and returns when it heals"
QUIET = 10.0
BUSY = 100.0
"""Requests/s over three replicas."""
CASES: tuple[tuple[str, str, float], ...] = (
    ("5xx, quiet", "bad", QUIET),
    ("5xx, busy", "bad", BUSY),
    ("not ready", "unready", BUSY),
)
"""What it is called, how it turns, requests/s."""
BAD_ANSWERS = 20
"""So many may reach clients before it is out."""
PATIENCE = 10.0
"""Seconds in which it has to leave, and to return."""
AWAY = 2.0
"""Strict: seconds in which it is out, from its first bad answer at the latest."""
POLL = 0.01


@dataclass(frozen=True, slots=True)
class Turn:
    """One case. Seconds since it turned, and since it healed; None: it did not come in time.

    ``failed``: by kind. ``again``: it answered clients after its return. ``others``: replicas that
    left rotation though nobody had turned them.
    """

    case: str
    requests: int
    failed: Mapping[str, int]
    away: float | None
    back: float | None
    again: bool = True
    others: tuple[str, ...] = ()

    def told(self) -> str:
        """One line for people."""
        away = "never" if self.away is None else f"after {self.away:.2f} s"
        back = "never" if self.back is None else f"{self.back:.2f} s after it had healed"
        bad = sum(self.failed.values())
        return f"{self.case}: out {away}, {bad} of {self.requests:,} answers bad; back {back}"


@dataclass(frozen=True, slots=True)
class Table:
    traffic: Traffic
    turns: tuple[Turn, ...]


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons = []
    for case, how, _ in CASES:
        found = [one for one in table.turns if one.case == case]
        reasons += [] if found else [f"{case}: not tried"]
        for turn in found:
            reasons += [f"{case}: {reason}" for reason in _judge_one(turn, how, strict)]
    if table.traffic.unknown:
        reasons.append(f"{table.traffic.unknown} requests have an unknown outcome")
    return tuple(reasons)


def _judge_one(turn: Turn, how: str, strict: bool) -> Reasons:
    allowed = BAD_ANSWERS if how == "bad" else 0
    bad = turn.failed.get("5xx", 0)
    rest = sum(turn.failed.values()) - bad
    reasons = [] if turn.requests else ["not one request was sent"]
    if turn.away is None:
        reasons.append("it stayed in rotation")
    if turn.back is None or not turn.again:
        reasons.append("it healed and did not return")
    if bad > allowed:
        reasons.append(f"{bad} bad answers reached clients, {allowed} allowed")
    if how == "bad" and not bad:
        reasons.append("it gave no bad answer, so nothing was put to the test")
    if rest:
        reasons.append(f"{rest} of {turn.requests:,} requests failed")
    if turn.others:
        reasons.append(f"others left rotation: {', '.join(turn.others)}")
    if strict and turn.away is not None and turn.away >= AWAY:
        reasons.append(f"{turn.away:.2f} s in rotation, {AWAY:g} s allowed")
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    return "a scratch stack of probe services, on this machine's runtime and edge"


def run(stage: Stage) -> Outcome:
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"user code cannot be made bad: a scratch stack {name} of probe services is used")
    folder = stage.paths.state / "drill"
    ground = scratch.Ground.of(stage.target.stack)
    settings = scratch.Settings(start="20s", every="1s", ground=ground)
    with scratch.stack(name, folder, stage.say, settings, base.Options()) as probes:
        return attack(probes, stage.options.strict)


def attack(probes: scratch.Scratch, strict: bool = False) -> Outcome:
    """Each case in turn, each under a load of its own."""
    began = time.monotonic()
    whole: traffic.Measurement | None = None
    turns = []
    for number, (case, how, rate) in enumerate(CASES):
        state = probes.settle()
        serving = state.serving("web")
        chosen = mix.choose(probes.target, state, probes.options)
        stream = specs.Stream(name="GET /", path="/", rate=rate, clients=32)
        spec = chosen.spec((stream,), traffic.LONGEST)
        with generator.Load(spec) as load:
            load.until(requests=5, seconds=20.0)
            load.mark(case)
            times = asyncio.run(_Turning(probes, serving[number % len(serving)]).go(how))
            load.mark("after")
            measured = load.finish(spec.timeout + 5.0)
        count = measured.total(case)
        turns.append(Turn(case, count.requests, count.kinds, *times))
        probes.say(turns[-1].told())
        if whole is None:
            whole = traffic.Measurement(measured, 0)
        else:
            whole.measured.merge(measured)
    assert whole is not None  # noqa: S101  # there are cases
    whole.seconds = time.monotonic() - began
    table = Table(whole.traffic(), tuple(turns))
    detail = {
        **whole.detail(),
        "stack": probes.paths.stack,
        "told": [one.told() for one in turns],
        "turns": [asdict(one) for one in turns],
    }
    return Outcome(NAME, judge(table, strict), table.traffic, detail)


class _Turning:
    """One replica that is told to turn, and to heal, and what the edge does about it."""

    def __init__(self, probes: scratch.Scratch, replica: Replica) -> None:
        self.edge = asking.Asking(probes.paths.run, probes.paths.stack)
        self.replica = replica
        self.name = ReplicaId.parse(replica.id).server
        self.others: set[str] = set()

    async def go(self, how: str) -> tuple[float | None, float | None, bool, tuple[str, ...]]:
        """When it was out, when it was back, whether it served then, and who else was out."""
        tell(self.replica, how)
        try:
            away = await self._until(inside=False)
        finally:
            tell(self.replica, "good")
        back = None if away is None else await self._until(inside=True)
        again = back is not None and await self._serves()
        return away, back, again, tuple(sorted(self.others))

    async def _until(self, *, inside: bool) -> float | None:
        began = time.monotonic()
        while (at := time.monotonic() - began) < PATIENCE:
            with contextlib.suppress(faults.EdgeRefused):
                servers = await self.edge.seen()
                out = {name for name, one in servers.items() if not one.takes_work}
                self.others |= out - {self.name}
                if (self.name not in out) == inside:
                    return at
            await asyncio.sleep(POLL)
        return None

    async def _serves(self) -> bool:
        before = (await self.edge.seen())[self.name]
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            now = (await self.edge.seen())[self.name]
            if now.served > before.served:
                return now.bad == before.bad
            await asyncio.sleep(POLL)
        return False


def tell(replica: Replica, how: str) -> None:
    """Have a probe turn, on its own address: the edge would ask any of them. Raises WorkFailed."""
    address = Address.parse(replica.address or "")
    connection = http.client.HTTPConnection(address.host or "localhost", address.port or 80)
    try:
        if address.socket:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(10.0)
            connection.sock.connect(address.socket)
        connection.request("POST", f"/turn?{how}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise faults.WorkFailed(f"{replica.id}: cannot be told to turn {how}: {error}") from None
    finally:
        connection.close()
    if status != 200:
        raise faults.WorkFailed(f"{replica.id}: told to turn {how}, it answers {status}")
