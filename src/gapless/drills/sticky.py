"""A client stays with its replica, whatever cookies others send."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gapless import errors
from gapless.drills import base, figures, generator, mix, traffic, verdict
from gapless.drills import spec as specs
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "sticky"
PROMISE = "clients stay with their replica, also behind one address"
CLIENTS = 300
RATE = 400.0
FORGED = (
    "s1",
    "web.1",
    "deadbeef" * 4,
    "0",
    "x" * 2048,
    "../../etc/passwd",
    '"quoted',
    "a=b&c=d",
    "%00%0d%0a",
)
"""Cookies that no edge ever gave: names of servers, lengths, characters that mean something."""
STEADY = 3.0


@dataclass(frozen=True, slots=True)
class Table:
    """``cookies``: what the 300 clients held. ``harmed``: failed requests with forged or stale
    cookies. ``touched``: replicas that ran before and are not the same process after."""

    traffic: Traffic
    cookies: figures.Cookies
    harmed: int
    forged_sent: int
    stale_sent: int
    edge_before: int | None = None
    edge_after: int | None = None
    touched: tuple[str, ...] = field(default=())
    clients: int = CLIENTS
    replicas: int = 0


def judge(table: Table, strict: bool = False) -> Reasons:
    cookies = table.cookies
    reasons = list(base.traffic_reasons(table.traffic, 1, strict=False))
    if cookies.clients < table.clients:
        reasons.append(f"only {cookies.clients} of {table.clients} clients came to their turn")
    if cookies.without:
        reasons.append(f"{cookies.without} clients got no affinity cookie")
    if cookies.moved:
        reasons.append(f"{cookies.moved} times a client was moved to another replica")
    if len(cookies.by) != table.replicas:
        reasons.append(f"clients on {len(cookies.by)} of {table.replicas} replicas")
    reasons += verdict.even("clients by replica", cookies.by.values())
    if table.harmed:
        reasons.append(f"{table.harmed} requests with forged or stale cookies failed")
    if not table.forged_sent or not table.stale_sent:
        reasons.append("no forged or no stale cookie was sent")
    reasons += verdict.equal("the edge's pid", table.edge_before, table.edge_after)
    reasons += verdict.nothing("replicas that ran were touched", table.touched)
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    name = _service(target, state)
    return f"{state.services[name].desired} replicas of {name}"


def _service(target: Target, state: State) -> str:
    name = base.published(target, state)
    if target.stack.services[name].sticky is None:
        raise errors.MissingSubject(
            f"{name} is not sticky", hint=f'[service.{name}] sticky = "cookie"'
        )
    if state.services[name].desired < 2:
        raise errors.MissingSubject(
            f"{name} has one replica: there is nowhere to move to", hint=f"gapless scale {name}=3"
        )
    return name


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    name = _service(stage.target, before)
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    cookie, known = fresh_cookies(chosen, 60)
    low = before.services[name].desired
    stage.later("replicas", lambda: _back(stage, before, name))

    began = time.monotonic()
    path = chosen.get[0]
    faithful = specs.Stream(
        name="faithful", path=path, clients=CLIENTS, rate=RATE, keep_alive=False, cookie=cookie
    )
    forged = specs.Stream(
        name="forged", path=path, clients=len(FORGED), rate=100, cookie=cookie, forged=FORGED
    )
    spec = chosen.spec((faithful, forged), traffic.LONGEST)
    with generator.Load(spec) as load:
        load.until(requests=round(2 * CLIENTS), seconds=60.0)
        stage.must("/v1/scale", counts={name: low + 1})
        up = stage.settle()
        stage.say(f"{CLIENTS} clients, scaled up to {up.services[name].ready}")
        later = load.requests + CLIENTS * 2
        load.until(requests=later, seconds=60.0)
        measured = load.finish(spec.timeout + 5.0)
    _, all_values = fresh_cookies(chosen, 60 * 2)
    stale = tuple(sorted(all_values - known))
    _back(stage, before, name)
    stage.forget("replicas")
    second = _stale_run(chosen, path, cookie, stale)
    measured.merge(second)
    after = stage.settle()

    whole = traffic.Measurement(measured, 1)
    whole.seconds = time.monotonic() - began
    table = Table(
        traffic=whole.traffic(),
        cookies=measured.cookies["faithful"],
        harmed=_sum(measured, "forged").failed + _sum(measured, "stale").failed,
        forged_sent=_sum(measured, "forged").requests,
        stale_sent=_sum(measured, "stale").requests,
        edge_before=before.edge_pid,
        edge_after=after.edge_pid,
        touched=states.lost(before, after),
        replicas=low,
    )
    detail = {**whole.detail(), "clients_by_replica": dict(table.cookies.by)}
    return Outcome(NAME, judge(table), table.traffic, detail)


def _stale_run(chosen: mix.Mix, path: str, cookie: str, stale: tuple[str, ...]) -> figures.Measured:
    """Cookies of a replica that is gone; nothing is sent when none was seen."""
    if not stale:
        return figures.Measured()
    stream = specs.Stream(
        name="stale", path=path, clients=4, rate=100, cookie=cookie, forged=stale, keep_alive=False
    )
    return generator.measure(chosen.spec((stream,), STEADY))


def _sum(measured: figures.Measured, stream: str) -> figures.Count:
    whole = figures.Count()
    for streams in measured.phases.values():
        if stream in streams:
            whole.add(streams[stream])
    return whole


def _back(stage: Stage, before: State, name: str) -> None:
    from gapless.drills import scale

    scale.back(stage, before, name)


def fresh_cookies(chosen: mix.Mix, tries: int) -> tuple[str, set[str]]:
    """Name of the edge's cookie, and all values that new clients are given.

    The edge's cookie is the one that every new client gets and a returning one does not.
    Raises MissingSubject when there is no such cookie.
    """
    seen: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for _ in range(tries):
        for key, value in _cookies(chosen, {}).items():
            seen.setdefault(key, set()).add(value)
            counts[key] = counts.get(key, 0) + 1
    for name, values in seen.items():
        value = next(iter(values))
        same_for_all = counts[name] == tries and len(values) < tries / 2
        if same_for_all and name not in _cookies(chosen, {name: value}):
            return name, values
    raise errors.MissingSubject(
        "no affinity cookie comes from the edge", hint='[service.NAME] sticky = "cookie"'
    )


def _cookies(chosen: mix.Mix, send: Mapping[str, str]) -> dict[str, str]:
    connection = chosen.connection()
    headers = chosen.headers
    if send:
        headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in send.items())
    try:
        connection.request("GET", chosen.get[0], headers=headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise errors.WorkFailed(f"{chosen.get[0]}: no answer from the edge ({error})") from None
    finally:
        connection.close()
    pairs = [
        line.partition(";")[0].partition("=") for line in answer.headers.get_all("set-cookie", [])
    ]
    return {key.strip(): value for key, _, value in pairs}
