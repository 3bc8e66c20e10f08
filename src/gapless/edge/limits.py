"""How much of the edge one client gets: requests by rate, connections, and all of them together.

Pure. A rate is counted where a request is let through and nowhere else, so that one who asks for
five times as much goes on getting what is allowed; a count of all that was asked for would end at
nothing let through at all. The count is HAProxy's own, over two halves of a sliding window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gapless.edge import hostile, refusals, spelling, words
from gapless.model.edge import EdgeTable

ADDRESS = "src,ipmask(32,64)"
"""Who a client is by address: one household or server has 2^64 of IPv6."""
KEPT = 102_400
"""Clients that each limit remembers; beyond that the one not seen for longest is forgotten."""
EACH = 500
"""Bytes that one of them takes at most."""
FORGET = 10.0
"""Seconds at least for which a client is remembered."""
STICK_COUNTERS = 3
"""As many things can HAProxy follow of one request unless it is told another number."""
SPARE = 25
"""Connections that are kept free for telling clients that there are no more; and one in twenty
where that is less."""
LOGINS = "_logins"
GUESSES = 10
GUESS_WINDOW = 60.0
"""So many wrong passwords one address may send in so many seconds."""
PEERS = "_self"
SOCKET = "edge-peers.sock"


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` requests in ``window`` seconds for each ``key``; see ``model.limits``."""

    count: int
    window: float
    path: str = "/"
    method: str | None = None
    key: str = "address"
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """``connections``: of one address at a time; None: any number. ``logins``: whether somebody
    may guess passwords (``edge.private``)."""

    rates: tuple[Rate, ...] = ()
    connections: int | None = None
    logins: bool = False

    @property
    def tables(self) -> int:
        """How many things are followed of one request."""
        return len(self.rates) + (self.connections is not None) + self.logins

    @property
    def handed_on(self) -> bool:
        """Whether counts outlive a worker."""
        return bool(self.rates) or self.logins

    @property
    def by_path(self) -> bool:
        """Whether some limit is about a path."""
        return any(rate.path.rstrip("/") for rate in self.rates)


NONE = Limits()


def of_table(table: EdgeTable) -> Limits:
    """What the stack file asks for."""
    rates = tuple(
        Rate(one.count, one.window, one.path, one.method, one.key, one.allow)
        for one in table.rate_limit
    )
    return Limits(rates, table.connections)


def for_global(limits: Limits, owner: str, *, alone: bool = False) -> list[str]:
    """Lines of the section ``global``; ``owner``: of what workers meet at, as ``bind`` has it.

    ``alone``: no worker hands anything to the next one.
    """
    lines = []
    if limits.tables > STICK_COUNTERS:
        lines.append(f"tune.stick-counters {limits.tables}")
    if limits.handed_on and not alone:
        lines += [f"localpeer {PEERS}", f"unix-bind mode 600{owner}"]
    return lines


def sections(limits: Limits, socket: str | None) -> list[list[str]]:
    """A table for each limit, and what hands them to the next worker at a reload.

    ``socket``: where workers meet, quoted; None: nowhere.
    """
    found = []
    peers = "" if socket is None else f" peers {PEERS}"
    if limits.handed_on and socket is not None:
        # Not as a bind and a server: HAProxy 2.8 then does not find the way to a Unix socket.
        found.append([f"peers {PEERS}", f"peer {PEERS} {socket}"])
    for number, rate in enumerate(limits.rates, 1):
        kind = "ipv6" if rate.key == "address" else "binary len 20"
        found.append(
            [f"backend {_table(number)}", _counts(kind, _window(rate), rate.window, peers)]
        )
    if limits.logins:
        found.append([f"backend {LOGINS}", _counts("ipv6", GUESS_WINDOW, GUESS_WINDOW, peers)])
    if limits.connections is not None:
        # Of connections nothing is handed on: each worker has its own.
        table = f"stick-table type ipv6 size {KEPT} expire 1m store conn_cur"
        found.append(["backend _connections", table])
    return found


def _counts(kind: str, window: float, whole: float, peers: str) -> str:
    """A table that counts in windows, and forgets after twice the ``whole`` of one."""
    expire = words.milliseconds(max(FORGET, 2 * whole))
    store = f"gpc0,gpc0_rate({words.milliseconds(window)})"
    return f"stick-table type {kind} size {KEPT} expire {expire} store {store}{peers}"


def for_frontend(limits: Limits, maxconn: int, trusted: Sequence[str] = ()) -> list[str]:
    """Lines of the public frontend: refusals first, then what is let through counts.

    ``trusted``: proxies, whose connections are not one client's.
    """
    lines = _connections(limits, trusted)
    lines += _full(maxconn)
    counted = list(enumerate(limits.rates, 1))
    for number, rate in counted:
        lines += _follow(limits, number, rate)
    for number, rate in counted:
        lines += _refuse(limits, number, rate)
    # What one limit refuses must not count for another.
    lines += [f"http-request sc-inc-gpc0({_slot(limits, number)})" for number, _ in counted]
    for number, rate in counted:
        lines += _tell(limits, number, rate)
    return lines


def full(maxconn: int) -> list[str]:
    """The acl ``full``: whether the edge is at the end of its connections. ``maxconn`` 0: it takes
    what HAProxy's default is, and does not know."""
    if not maxconn:
        return []
    most = max(1, maxconn - max(1, min(SPARE, maxconn // 20)))
    return [f"acl full fe_conn,div({most + 1}) -m bool"]


def _full(maxconn: int) -> list[str]:
    """At the end of its connections the edge says so."""
    if not full(maxconn):
        return []
    return refusals.refuse(
        503,
        "Too many connections, try again in a moment",
        f"{hostile.UNUSUAL} full",
        {"Retry-After": str(refusals.SOON), "Connection": "close"},
    )


def _table(number: int) -> str:
    return f"_rate-{number}"


def _slot(limits: Limits, number: int) -> int:
    """Which of HAProxy's counters follows a rate; connections are followed by the first."""
    return number - 1 + (limits.connections is not None)


def login_slot(limits: Limits) -> int:
    """Which of HAProxy's counters follows wrong passwords: the last one."""
    return limits.tables - 1


def _window(rate: Rate) -> float:
    """A window that holds one request alone is half as long.

    After one in a window HAProxy says "one" for the whole of the next window, so that one comes
    through in each second window.
    """
    return rate.window / 2 if rate.count == 1 else rate.window


def _connections(limits: Limits, trusted: Sequence[str]) -> list[str]:
    """Who has too many is told so; who goes on regardless gets no more words."""
    most = limits.connections
    if most is None:
        return []
    but = " unless proxy" if trusted else ""
    return [
        *words.networks("proxy", trusted),
        f"tcp-request session track-sc0 {words.quote(ADDRESS)} table _connections{but}",
        f"tcp-request session reject if {{ sc_conn_cur(0) gt {2 * most} }}",
        *refusals.refuse(
            429,
            "Too many connections from your address",
            f"{{ sc_conn_cur(0) gt {most} }}",
            {"Retry-After": str(refusals.SOON), "Connection": "close"},
        ),
    ]


def _follow(limits: Limits, number: int, rate: Rate) -> list[str]:
    tests = []
    lines = []
    if rate.path.rstrip("/"):
        name = f"rate-{number}-path"
        lines += spelling.below(name, rate.path)
        tests.append(name)
    if rate.method is not None:
        tests.append(f"{{ method {words.word(rate.method)} }}")
    if rate.allow:
        lines += words.networks(f"rate-{number}-allow", rate.allow)
        tests.append(f"!rate-{number}-allow")
    track = f"http-request track-sc{_slot(limits, number)}"
    table = f"table {_table(number)}"
    if rate.key == "address":
        return [*lines, f"{track} {words.quote(ADDRESS)} {table}{_if(tests)}"]
    kind, _, name = rate.key.partition(":")
    # What tells clients apart may be a secret: only its digest is kept.
    sent = f"{'req.fhdr' if kind == 'header' else 'req.cook'}({words.identifier(name)})"
    given = f"{{ {sent} -m found }}"
    return [
        *lines,
        f"{track} {words.quote(f'{sent},sha1')} {table}{_if([*tests, given])}",
        f"{track} {words.quote(f'{ADDRESS},sha1')} {table}{_if([*tests, f'!{given}'])}",
    ]


def _if(tests: Sequence[str]) -> str:
    return f" if {' '.join(tests)}" if tests else ""


def _refuse(limits: Limits, number: int, rate: Rate) -> list[str]:
    seconds = math.ceil(rate.window)
    return refusals.refuse(
        429,
        "Too many requests",
        f"{{ sc_gpc0_rate({_slot(limits, number)}) ge {rate.count} }}",
        {
            "Retry-After": str(seconds),
            "RateLimit-Policy": _policy(number, rate),
            "RateLimit": f'"{number}";r=0;t={seconds}',
        },
    )


def _tell(limits: Limits, number: int, rate: Rate) -> list[str]:
    """What is left, on answers to requests that were let through."""
    slot = _slot(limits, number)
    seconds = math.ceil(rate.window)
    left = f"%[sc_gpc0_rate({slot}),neg,add({rate.count})]"
    policy = words.quote(_policy(number, rate))
    said = words.quote(f'"{number}";r={left};t={seconds}')
    none = words.quote(f'"{number}";r=0;t={seconds}')
    followed = f"{{ sc_tracked({slot}) }}"
    within = f"{{ sc_gpc0_rate({slot}) le {rate.count} }}"
    return [
        f"http-response add-header RateLimit-Policy {policy} if {followed}",
        f"http-response add-header RateLimit {said} if {followed} {within}",
        f"http-response add-header RateLimit {none} if {followed} !{within}",
    ]


def _policy(number: int, rate: Rate) -> str:
    return f'"{number}";q={rate.count};w={max(1, math.ceil(rate.window))}'
