"""How much of nginx one client gets. Pure.

Its bucket leaks where the edge looks at a window: as many at once, and as many in the long run.
"""

from __future__ import annotations

import math
import re

from gapless import errors
from gapless.edge.limits import Limits, Rate
from gapless.targets import nginx_words as words

ZONE = "16m"
"""Of shared memory for each limit: some 100,000 clients; beyond that the oldest is forgotten."""


def maps(stack: str, limits: Limits) -> list[str]:
    """For ``http``: for each limit who a client is, "" for whom it does not hold."""
    lines = []
    for number, rate in enumerate(limits.rates, 1):
        client, free = f"${words.name(stack, 'client', str(number))}", _free(stack, number)
        lines += [
            f"map {_sent(rate)} {client} {{",
            '    "" $binary_remote_addr;',
            f"    default {_sent(rate)};",
            "}",
            f"geo {free} {{",
            "    default 0;",
            *(f"    {words.network(network)} 1;" for network in rate.allow),
            "}",
            f'map "{free}:$request_method:$uri" ${_zone(stack, number)} {{',
            '    default "";',
            f'    "{_pattern(rate)}" {client};',
            "}",
            f"limit_req_zone ${_zone(stack, number)} zone={_zone(stack, number)}:{ZONE}"
            f" rate={_speed(rate)};",
        ]
    if limits.connections is not None:
        lines.append(f"limit_conn_zone $binary_remote_addr zone={_held(stack)}:{ZONE};")
    return lines


def server(stack: str, limits: Limits) -> list[str]:
    """For a server."""
    lines = [
        # One of them comes at once in any case.
        f"limit_req zone={_zone(stack, number)} burst={rate.count - 1} nodelay;"
        if rate.count > 1
        else f"limit_req zone={_zone(stack, number)};"
        for number, rate in enumerate(limits.rates, 1)
    ]
    if limits.connections is not None:
        lines.append(f"limit_conn {_held(stack)} {int(limits.connections)};")
    return [*lines, "limit_req_status 429;", "limit_conn_status 429;"] if lines else []


def patience(limits: Limits) -> int:
    """Seconds that a client is told to wait."""
    return max([1, *(math.ceil(rate.window) for rate in limits.rates)])


def _sent(rate: Rate) -> str:
    """The variable that tells clients apart; whoever sends none counts by address."""
    kind, _, name = rate.key.partition(":")
    if kind == "address":
        return "$binary_remote_addr"
    if kind == "header":
        return f"$http_{words.name(words.header(name).lower())}"
    if "-" in name:
        raise errors.UsageError(f"nginx: has no variable for a cookie called {name!r}")
    return f"$cookie_{words.name(name)}"


def _pattern(rate: Rate) -> str:
    stem = rate.path.rstrip("/")
    words.plain(stem.replace("$", ""))
    if rate.method is not None and not re.fullmatch("[A-Z]+", rate.method):
        raise errors.UsageError(f"nginx: not a possible method: {rate.method!r}")
    below = f"{re.escape(stem)}(?:[/;]|$)" if stem else ""
    return f"~^0:{rate.method or '[^:]*'}:{below}"


def _speed(rate: Rate) -> str:
    """Whole numbers a second, else a minute, rounded down. Raises UsageError below one a minute."""
    second = rate.count / rate.window
    if second >= 1 and second == int(second):
        return f"{int(second)}r/s"
    minute = math.floor(second * 60 + 1e-9)
    if minute < 1:
        raise errors.UsageError(
            "nginx: a rate of less than one request a minute cannot be said",
            hint='allow more, say rate_limit = "1/m"',
        )
    return f"{minute}r/m"


def _zone(stack: str, number: int) -> str:
    return words.name(stack, "rate", str(number))


def _free(stack: str, number: int) -> str:
    return f"${words.name(stack, 'free', str(number))}"


def _held(stack: str) -> str:
    return words.name(stack, "connections")
