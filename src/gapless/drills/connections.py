"""Long connections: held, spoken through, and sent away a few at a time by a deploy.

On the stack's own WebSocket or Socket.IO route, where the file names one, and always on a scratch
stack of the probe service (three replicas that share a room through a Redis channel), because what
a room is only its application knows.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from gapless.core import capacity
from gapless.drills import base, caller, crowd, hall, holding, holds, mix, rollback, scratch
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import SETTLE, Stage
from gapless.drills.state import State
from gapless.drills.verdict import Traffic
from gapless.engine import situation
from gapless.model.service import Service

NAME = "connections"
PROMISE = "long connections are held, and a deploy sends their clients away a few at a time"
OWN = 300
"""Clients of the stack's own route: what three replicas are sized for."""
OWN_PACE = 100.0
"""So many of them come in a second: the route is not ours."""
ROOMS = (300, 1000)
"""Members of the room when texts are sent."""
TEXTS = 60
HOLD = 30.0
"""Seconds for which all are held: longer than servers wait between two pings (10-25 s)."""
SPARE = 50
"""Connections at the edge that are left to others than the crowd."""
COME = 60.0
"""Seconds in which all have come, or come back, beyond the time that the pace takes."""


def subject(target: Target, state: State) -> str:
    probe = "the probe service"
    if (route := _route(target)) is None:
        return f"{probe} alone: [drill] names no websocket or socketio"
    return f"{route[1]} of {base.published(target, state)}, and {probe}"


def _route(target: Target) -> tuple[caller.Kind, str] | None:
    table = target.stack.drill
    if table.websocket is not None:
        return "websocket", table.websocket
    return None if table.socketio is None else ("socketio", table.socketio)


def run(stage: Stage) -> Outcome:
    began = time.monotonic()
    parts = []
    if (route := _route(stage.target)) is not None:
        parts.append(own(stage, *route))
    most = at_most(stage)
    name, folder = scratch.name_for(stage.paths.stack), stage.paths.state / "drill"
    source = hall.Source(most, ground=scratch.Ground.of(stage.target.stack))
    stage.say(f"scratch stack {name}: the probe service, {hall.REPLICAS} replicas, a room")
    with scratch.stack(name, folder, stage.say, source, stage.options) as probes:
        parts.append(rooms(probes, most))
    traffic = Traffic(
        handovers=sum(part.moves.handovers for part in parts), seconds=time.monotonic() - began
    )
    detail = {
        "parts": [asdict(part) for part in parts],
        "said": [line for part in parts for line in holds.lines(part)],
    }
    return Outcome(
        NAME, holds.judge(holds.Table(tuple(parts)), stage.options.strict), traffic, detail
    )


def at_most(stage: Stage) -> int:
    """As many connections as are asked for, and as the edge of the probe service may hold: with
    the file's own bound, and without what an edge sets aside for files, of which it has none.
    """
    limits = replace(situation.limits(stage.target.stack), aside=0)
    possible = capacity.at_edge(limits) - SPARE
    return min(stage.options.clients or possible, possible)


def own(stage: Stage, kind: caller.Kind, path: str) -> holds.Part:
    """Clients of the stack's own route, held, and through a deploy of what runs."""
    before = stage.settle()
    name = base.published(stage.target, before)
    count = min(OWN, stage.options.clients or OWN)
    stage.later("release", lambda: rollback.back(stage, before))
    gathering = crowd.Gathering(
        url=mix.edge_url(before), host=stage.target.host, kind=kind, pace=OWN_PACE
    )
    with holding.Holding(gathering) as clients:
        stage.say(f"{name}: {count} connections to {path}, held for {HOLD:g} s")
        clients.grow(count, path)
        arrived = _gathered(clients, count, OWN_PACE)
        clients.mark("held")
        time.sleep(HOLD)
        handovers = _deploy(stage, clients, arrived, stage.target.stack.services[name])
        whole = clients.finish()
    moves = holds.moved(whole, handovers, stage.target.stack.services[name])
    return replace(holds.part(name, count, arrived, whole, moves), seconds=HOLD)


def rooms(probes: scratch.Scratch, most: int) -> holds.Part:
    """Texts to rooms on the probe service; then as many connections as there may be."""
    state = probes.settle()
    service = probes.target.stack.services["web"]
    gathering = crowd.Gathering(url=mix.edge_url(state))
    empty = _memory(probes)
    come = 0
    with holding.Holding(gathering) as clients:
        for talk, size in enumerate(sorted({min(size, most) for size in ROOMS}), 1):
            clients.grow(size - come, "/ws?room", room=True)
            come = size
            _gathered(clients, come, gathering.pace)
            probes.say(f"{come:,} connections in a room across {hall.REPLICAS} replicas")
            _speak(clients, talk)
        clients.grow(most - come, "/ws")
        arrived = _gathered(clients, most, gathering.pace)
        probes.say(f"{arrived:,} connections, held for {HOLD:g} s")
        clients.mark("held")
        time.sleep(HOLD)
        # Only now: what is shown is sampled every few seconds.
        kib = holds.each(empty, _memory(probes), arrived)
        probes.say(f"deploy; {arrived:,} sockets at {service.goodbye:g}/s")
        handovers = _deploy(probes, clients, arrived, service)
        whole = clients.finish()
    moves = holds.moved(whole, handovers, service)
    part = holds.part("probe service", most, arrived, whole, moves)
    return replace(part, seconds=HOLD, speeches=holds.speeches(whole), kib=kib)


def _speak(clients: holding.Holding, talk: int) -> None:
    """All texts of a talk (from 1), and a while for the last of them to be heard."""
    clients.send(TEXTS)
    clients.until(lambda line: line["talks"] >= talk and not line["sending"], 120.0)
    clients.until(lambda line: line["heard"] >= line["expected"], 10.0)


def _gathered(clients: holding.Holding, count: int, pace: float) -> int:
    """Wait for all of them; how many there are."""
    seen = [0]

    def here(line: holding.Line) -> bool:
        seen[0] = int(line["open"])
        return seen[0] >= count

    clients.until(here, count / pace + COME)
    return seen[0]


def _deploy(stage: Stage, clients: holding.Holding, count: int, service: Service) -> int:
    """What runs, once more; until old replicas are gone and clients are back. Handovers."""
    old = stage.look()
    clients.mark("deploy")
    begun = time.monotonic()
    end = stage.must("/v1/deploy", services=[], force=True, drill=True)
    sockets = (end.result.get("detail") or {}).get("sockets") or {}
    draining = int(sockets.get("draining", 0))
    stage.say(f"deployed after {time.monotonic() - begun:.1f} s, {draining:,} sockets draining")
    new = stage.settle(SETTLE + service.drain)
    stage.say(f"drained after {time.monotonic() - begun:.1f} s")
    _gathered(clients, count, crowd.PACE)
    return states.handovers(old, new)


def _memory(stage: Stage) -> dict[str, int]:
    """Bytes of the edge, and of all replicas together. Raises NoController."""
    rows = stage.client.get("/v1/top")["rows"]
    found = {"edge": 0, "replicas": 0}
    for row in rows:
        if row["id"] == "edge":
            found["edge"] += int(row["memory"] or 0)
        elif row["service"] in stage.target.stack.services:
            found["replicas"] += int(row["memory"] or 0)
    return found
