"""A client beyond its limit gets what is allowed and no more; nobody else notices.

Two addresses of this machine ask for the same path at once. One asks for five times what its
limit allows, the other one for half of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from urllib.parse import unquote

from gapless import errors
from gapless.drills import base, mix, wire
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.model.limits import RateLimit

NAME = "rate-limit"
PROMISE = "who asks for more than the limit gets 429 for the rest, and others notice nothing"
EAGER = "127.0.0.2"
CALM = "127.0.0.3"
"""Not 127.0.0.1: that one may well be allowed everything, for the other drills."""
EXCESS = 5.0
"""The eager one asks for so many times what is allowed, the calm one for ``SHARE`` of it."""
SHARE = 0.5
FASTEST = 600.0
"""Requests/s up to which a limit can be overdone from here."""
LONGEST = 5.0
"""Seconds that a limit's window may take, so that several fit into a drill."""
SECONDS = 10.0
SLOT = 0.25
"""Seconds in which the eager one asks for more than is allowed, or nothing follows from it."""
TOLERANCE = 0.05
CONNECTIONS = 32
"""Of each client at most."""
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What is to hold for one address at one path: ``count`` requests in each ``window``."""

    path: str
    rate: float
    count: int
    window: float


@dataclass(slots=True)
class Client:
    """What one address saw. ``bins``: requests sent in each ``SLOT`` since it began.

    ``unsaid``: refusals that did not say what to do: without Retry-After or RateLimit fields.
    """

    admitted: int = 0
    refused: int = 0
    unsaid: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    bins: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return self.admitted + self.refused + self.failed.total()


@dataclass(frozen=True, slots=True)
class Table:
    limit: Limit
    eager: Client
    calm: Client


def judge(table: Table, strict: bool = False) -> Reasons:
    limit, eager, calm = table.limit, table.eager, table.calm
    reasons = [*_failures("beyond the limit", eager), *_failures("below the limit", calm)]
    if calm.sent == 0:
        reasons.append("the second client sent nothing")
    if calm.refused:
        reasons.append(f"the second client was refused {calm.refused:,} of {calm.sent:,} requests")
    least, most = bounds(limit, eager)
    if eager.sent <= most:
        reasons.append(f"only {eager.sent:,} requests were sent, which is not beyond the limit")
    said = f"{eager.admitted:,} of {eager.sent:,} requests came through"
    if eager.admitted > most:
        reasons.append(f"{said}, {most:,} are allowed in {eager.seconds:.1f} s")
    if eager.admitted < least:
        reasons.append(f"{said}, {least:,} should have")
    if eager.unsaid:
        reasons.append(f"{eager.unsaid:,} refusals did not say when to come back")
    return tuple(reasons)


def bounds(limit: Limit, eager: Client) -> tuple[int, int]:
    """Fewest and most that should have come through, by what was sent and for how long.

    Where the client itself stood still, its next two windows say nothing: what it sends then in
    one burst may be more than is allowed.
    """
    slots = int(eager.seconds / SLOT)
    steady, run = 0.0, 0
    for slot in range(slots + 1):
        if slot < slots and eager.bins[slot] >= limit.rate * SLOT:
            run += 1
            continue
        steady += run * SLOT if run == slots else max(0.0, run * SLOT - 2 * limit.window)
        run = 0
    least = limit.rate * steady - max(TOLERANCE * limit.rate * steady, 2.0)
    whole = limit.rate * eager.seconds
    return max(0, math.floor(least)), math.ceil(whole + max(TOLERANCE * whole, 2.0))


def _failures(which: str, client: Client) -> list[str]:
    if not client.failed:
        return []
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(client.failed.items()))
    return [f"{client.failed.total():,} requests of the client {which} failed ({kinds})"]


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    limit = find(target, mix.choose(target, state, base.Options()).get)
    return f"{limit.count:,} requests in {limit.window:g} s on {limit.path}"


def find(target: Target, paths: Iterable[str]) -> Limit:
    """The tightest limit on one of these GET paths. Raises MissingSubject."""
    limits = target.stack.edge.rate_limit
    if not limits:
        raise errors.MissingSubject("no rate limit is set", hint='[edge] rate_limit = "100/s"')
    for path in paths:
        holding = [one for one in limits if _holds(one, path)]
        if not holding:
            continue
        tightest = min(holding, key=lambda one: one.per_second)
        if any(one.window > LONGEST for one in holding) or tightest.per_second > FASTEST:
            continue
        return Limit(path, tightest.per_second, tightest.count, tightest.window)
    raise errors.MissingSubject(
        f"no limit for addresses of at most {FASTEST:g}/s, and within {LONGEST:g} s, is on a path"
        " that drills may GET",
        hint="[drill] get names such paths",
    )


def _holds(limit: RateLimit, path: str) -> bool:
    """Whether a GET for the path counts for it; who sends no key counts by address."""
    stem = limit.path.rstrip("/")
    plain = unquote(path.partition("?")[0])
    networks = [ipaddress.ip_network(one, strict=False) for one in limit.allow]
    ours = [ipaddress.ip_address(one) for one in (EAGER, CALM)]
    return (
        limit.method in (None, "GET")
        and (plain == stem or plain.startswith(f"{stem}/"))
        and not any(one in network for one in ours for network in networks)
    )


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    limit = find(stage.target, chosen.get)
    stage.told(before, "limits", lambda stack: stack.edge.rate_limit)
    if ":" in specs.own_address(chosen.url)[0]:
        raise errors.MissingSubject(
            "the edge listens on IPv6 alone, and only of IPv4 has this machine two addresses",
            hint='[edge] listen = "127.0.0.1:8080"',
        )
    seconds = stage.options.seconds or max(SECONDS, 2 * limit.window)
    time.sleep(2 * limit.window)  # what came before counts no more
    table = asyncio.run(attack(limit, chosen.url, chosen.host, seconds))
    return concluded(table, stage.options.strict)


def concluded(table: Table, strict: bool = False) -> Outcome:
    """The verdict over what both clients saw."""
    eager, calm = table.eager, table.calm
    kinds = eager.failed + calm.failed + Counter({"429": calm.refused})
    traffic = Traffic(
        requests=eager.sent + calm.sent,
        failed=kinds.total(),
        kinds={kind: number for kind, number in kinds.items() if number},
        seconds=eager.seconds,
    )
    least, most = bounds(table.limit, eager)
    limit = table.limit
    detail = {
        "said": [
            f"{limit.count:,} in {limit.window:g} s allowed on {limit.path}",
            f"one address asked for {eager.sent:,} in {eager.seconds:.1f} s: {eager.admitted:,}"
            f" came through ({least:,} to {most:,} should), {eager.refused:,} got 429",
            f"another one asked for {calm.sent:,}: {calm.refused:,} got 429,"
            f" {calm.failed.total():,} failed",
        ],
        "limit": asdict(limit),
        "asked": eager.sent,
        "admitted": eager.admitted,
        "allowed": [least, most],
        "refused": eager.refused,
        "second_client": {"sent": calm.sent, "refused": calm.refused},
    }
    return Outcome(NAME, judge(table, strict), traffic, detail)


async def attack(limit: Limit, url: str, host: str | None, seconds: float) -> Table:
    """Both clients at once, for so many seconds. ``host``: who is asked for, None: the address."""
    eager, calm = Client(), Client()
    await asyncio.gather(
        _Asker(EAGER, url, limit.path, host, eager).go(EXCESS * limit.rate, seconds),
        _Asker(CALM, url, limit.path, host, calm).go(SHARE * limit.rate, seconds),
    )
    return Table(limit, eager, calm)


class _Asker:
    """Sends one request over and over from one address, at a rate: open loop."""

    def __init__(self, source: str, url: str, path: str, host: str | None, client: Client) -> None:
        self.source = source
        self.address = specs.own_address(url)
        self.tls = specs.client_context(url)
        self.host = host
        self.request = wire.request("GET", path, host or "{}:{}".format(*self.address))
        self.client = client
        self._turn = 0

    async def go(self, rate: float, seconds: float) -> None:
        began = time.monotonic()
        count = max(1, min(CONNECTIONS, math.ceil(rate / 10)))
        await asyncio.gather(*(self._work(began, rate, seconds) for _ in range(count)))
        self.client.seconds = time.monotonic() - began

    async def _work(self, began: float, rate: float, seconds: float) -> None:
        connection: wire.Connection | None = None
        try:
            while (at := self._turn / rate) < seconds:
                self._turn += 1
                wait = began + at - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif wait < -1.0:
                    self._turn = math.ceil((time.monotonic() - began) * rate)  # no burst after it
                self.client.bins[int((time.monotonic() - began) / SLOT)] += 1
                connection = await self._ask(connection)
        finally:
            if connection is not None:
                connection.close()

    async def _ask(self, connection: wire.Connection | None) -> wire.Connection | None:
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is None or not connection.open:
                    connection = await wire.Connection.to(
                        *self.address, self.tls, self.host, self.source
                    )
                self._count(await connection.exchange(self.request))
        except wire.Failure as failure:
            self.client.failed[failure.kind] += 1
        except TimeoutError:
            self.client.failed["timeout"] += 1
            if connection is not None:
                connection.close()
        return connection

    def _count(self, answer: wire.Answer) -> None:
        if answer.status == 429:
            self.client.refused += 1
            self.client.unsaid += not _says(answer.headers)
        elif answer.status < 400:
            self.client.admitted += 1
        else:
            self.client.failed[f"{answer.status // 100}xx"] += 1


def _says(headers: dict[str, str]) -> bool:
    with contextlib.suppress(KeyError, ValueError):
        return int(headers["retry-after"]) > 0 and {"ratelimit", "ratelimit-policy"} <= set(headers)
    return False
