"""The edge takes over from itself: no request fails, and no long connection is cut.

On the stack itself the edge is restarted by hand. On a scratch stack of probes it is given another
program and another route, with WebSockets held through both. Clients with idle connections wait
through each of these, and ask on them afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from gapless import errors
from gapless.drills import (
    base,
    editions,
    figures,
    generator,
    mix,
    scratch,
    traffic,
    verdict,
    waiters,
)
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import asking

NAME = "edge-reload"
PROMISE = "the load balancer reloads, and is upgraded, without a failed request"
ROUNDS = 5
REQUESTS = 300
"""Sent between two reloads, at least."""
SOCKETS = 20
POLL = 0.02
PATIENCE = 30.0
"""Seconds in which another program must have taken over."""
MORE = "more"
"""A service that waits, and gets a route: no other one need be touched."""
ROUTE = """
[service.more]
{run}route = "/more"
ready = "/ready"
start = "{start}"
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One stack. ``taken``: times that a new worker took over; ``wanted``: how often it should.

    ``kinds``: failed requests. ``program``: what became of another program; "": nothing is wrong.
    """

    name: str
    requests: int
    failed: int
    unknown: int
    taken: int
    wanted: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    sockets: figures.Sockets = field(default_factory=figures.Sockets)
    waited: waiters.Waited = field(default_factory=waiters.Waited)
    program: str = ""
    route: str = ""
    pid_before: int | None = None
    pid_after: int | None = None

    def told(self) -> str:
        """One line for people."""
        return (
            f"{self.name}: {self.taken} times another worker took over, {self.failed} of "
            f"{self.requests:,} requests failed, {self.waited.cut} of {self.waited.clients} idle "
            f"connections cut, {self.sockets.dropped} of {self.sockets.clients} sockets dropped"
        )


@dataclass(frozen=True, slots=True)
class Table:
    parts: tuple[Part, ...]


def judge(table: Table, strict: bool = False) -> Reasons:
    """``strict`` asks for nothing more: no time is promised here."""
    return tuple(f"{part.name}: {one}" for part in table.parts for one in _judge(part))


def _judge(part: Part) -> Reasons:
    counted = Traffic(
        requests=part.requests,
        failed=part.failed,
        unknown=part.unknown,
        kinds=part.kinds,
        sockets=part.sockets,
    )
    reasons = [*verdict.lossless(counted), *verdict.sockets_told(counted)]
    if part.taken < part.wanted:
        reasons.append(f"another worker took over {part.taken} times, {part.wanted} were wanted")
    if part.waited.cut:
        cut = f"{part.waited.cut} of {part.waited.clients}"
        reasons.append(f"{cut} clients found the connection cut on which they had waited")
    if part.wanted and not part.waited.clients:
        reasons.append("no client waited on a kept connection, so none could be cut")
    reasons += [one for one in (part.program, part.route) if one]
    reasons += verdict.equal("the edge's pid", part.pid_before, part.pid_after)
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    return f"the edge before {base.published(target, state)}, and a scratch stack of probes"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    began = time.monotonic()
    parts = [own(stage, chosen)]
    stage.say(parts[-1].told())
    name, folder = scratch.name_for(stage.paths.stack), stage.paths.state / "drill"
    stage.say(f"another program, another route: a scratch stack {name} of probe services")
    # Beside the folder: what lies in it would be part of the release.
    beside = stage.paths.state / "drill-engines"
    ground = scratch.Ground.of(stage.target.stack)
    with editions.two(ground.edge, name, beside) as both:
        settings = scratch.Settings(
            start="20s",
            watch="500ms",
            drain="3s",
            edge=f"{both.lines}{idle(ground)}",
            ground=replace(ground, edge=""),
        )
        with scratch.stack(name, folder, stage.say, settings, base.Options()) as probes:
            parts.append(elsewhere(probes, both, ground))
    stage.say(parts[-1].told())
    found = Traffic(
        requests=sum(part.requests for part in parts),
        failed=sum(part.failed for part in parts),
        unknown=sum(part.unknown for part in parts),
        handovers=sum(part.taken for part in parts),
        seconds=time.monotonic() - began,
        sockets=parts[0].sockets,
    )
    detail = {"parts": [asdict(part) for part in parts]}
    return Outcome(NAME, judge(Table(tuple(parts)), stage.options.strict), found, detail)


# -- the stack itself ---------------------------------------------------------------------------


def own(stage: Stage, chosen: mix.Mix) -> Part:
    """Restarts by hand, one after the other, under load."""
    rounds = stage.options.rounds or ROUNDS
    before = stage.look()
    edge = asking.Asking(stage.paths.run, stage.paths.stack)
    streams = (*chosen.closed(), *chosen.slowly())
    spec = chosen.spec(streams, traffic.LONGEST, sockets=chosen.sockets())
    workers = [worker(edge)]
    asked = []

    def restart() -> bool:
        with waiters.waiting(chosen) as idle:
            stage.must("/v1/restart", services=["edge"])
            workers.append(worker(edge))
            asked.append(idle.ask())
        return True

    measured = traffic.between(spec, rounds, stage.options.requests or REQUESTS, restart)
    waited = sum(asked, start=waiters.Waited())
    after = stage.settle()
    pids = (before.edge_pid, after.edge_pid)
    part = _part("the stack", measured, len(set(workers)) - 1, rounds, pids)
    return replace(part, waited=waited)


def worker(edge: asking.Asking) -> int:
    """The pid of the present worker. Raises EdgeRefused."""
    return asyncio.run(edge.pids())[1]


def _part(
    name: str,
    measured: figures.Measured,
    taken: int,
    wanted: int,
    pids: tuple[int | None, int | None],
) -> Part:
    whole = measured.total()
    return Part(
        name=name,
        requests=whole.requests,
        failed=whole.failed,
        unknown=whole.unknown,
        taken=taken,
        wanted=wanted,
        kinds=whole.kinds,
        sockets=measured.sockets,
        pid_before=pids[0],
        pid_after=pids[1],
    )


# -- another program, another route -------------------------------------------------------------


def elsewhere(probes: scratch.Scratch, both: editions.Editions, ground: scratch.Ground) -> Part:
    """Another program, then another route, with WebSockets held through both."""
    before = probes.settle()
    chosen = mix.choose(probes.target, before, probes.options)
    crowd = specs.Sockets(kind="websocket", path="/ws", clients=SOCKETS)
    streams = (*chosen.closed(), *chosen.slowly())
    spec = chosen.spec(streams, traffic.LONGEST, sockets=(crowd,))
    edge = asking.Asking(probes.paths.run, probes.paths.stack)
    workers = [worker(edge)]
    with generator.Load(spec) as load:
        load.until(requests=100, sockets=SOCKETS, seconds=20.0)
        with waiters.waiting(chosen) as idle:
            both.change(probes, MORE)
            program = upgraded(edge, workers[0], both)
            workers.append(worker(edge))
            waited = idle.ask()
        load.until(requests=load.requests + 100, seconds=20.0)
        with waiters.waiting(chosen) as idle:
            between = before if both.stays else probes.settle()
            route = widened(probes, chosen, ground)
            workers.append(worker(edge))
            waited += idle.ask()
        load.until(requests=load.requests + 100, seconds=20.0)
        measured = load.finish(spec.timeout + 5.0)
    pids = (between.edge_pid, probes.settle().edge_pid)
    part = _part("probes", measured, len(set(workers)) - 1, 2, pids)
    return replace(part, waited=waited, program=program, route=route)


def upgraded(edge: asking.Asking, worker_before: int, both: editions.Editions) -> str:
    """Wait until a worker of the second edition has taken over; what is wrong, or ""."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(errors.EdgeRefused, OSError):
            master, now, *_ = asyncio.run(edge.pids())
            if now != worker_before and both.is_second(master):
                return ""
        time.sleep(POLL)
    return "another program has not taken over"


def idle(ground: scratch.Ground) -> str:
    """The table of the service that waits."""
    return f"\n[service.{MORE}]\n" + ground.run("-c", "import signal; signal.pause()")


def widened(probes: scratch.Scratch, chosen: mix.Mix, ground: scratch.Ground) -> str:
    """Give the service that waits a route of its own; what is wrong with that route, or ""."""
    run = ground.run("probe_app.py", "--socket", "${socket}")
    file = probes.target.file
    text = file.read_text("utf-8").replace(idle(ground), "")
    text = text.replace("[service.web]", '[service.web]\nroute = "/"')
    file.write_text(text + ROUTE.format(run=run, start=ground.start("20s")), encoding="utf-8")
    probes.must("/v1/deploy", services=[MORE])
    try:
        _, headers, _ = mix.ask(chosen, "/more")
    except (OSError, http.client.HTTPException) as error:
        return f"the new route does not answer ({error})"
    served = headers.get("x-served-by", "nobody")
    return "" if served.startswith("more.") else f"the new route leads to {served}"
