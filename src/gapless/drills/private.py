"""Who is not let in sees no private page, in whichever way it asks, and is soon asked to stop.

It knows no password and changes nothing: each private place is asked for from an address of this
machine that may not see it, without a login, in every spelling; then passwords are guessed, from
an address that nothing else uses.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import quote

from gapless import errors
from gapless.drills import base, mix
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import limits
from gapless.model import private
from gapless.model import stack as stacks

NAME = "private"
PROMISE = "who is not let in sees no private page, however it is spelt; guesses are bounded"
STRANGERS = tuple(f"127.0.0.{last}" for last in range(4, 24))
"""Addresses of ours that ask; the first one that a page is not shown to."""
GUESSER = "127.0.0.24"
TIMEOUT = 30.0
REFUSED = frozenset({400, 401, 403, 421, 429})
DEEPER = "/gapless-drill"


@dataclass(frozen=True, slots=True)
class Page:
    """What is private. ``spelt``: however it is spelt; a service is so at its route."""

    name: str
    path: str
    host: str | None
    table: private.Private
    spelt: bool


@dataclass(frozen=True, slots=True)
class Table:
    """``open``: what was answered as if nothing were private: page, way, status.

    ``unasked``: logins asked for without saying so. ``guesses``: statuses of wrong passwords, in
    order; None: no page asks for one.
    """

    asked: int
    open: tuple[tuple[str, str, int], ...] = ()
    unasked: tuple[str, ...] = ()
    guesses: tuple[int, ...] | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons = [f"{page}: {way} was answered {status}" for page, way, status in table.open]
    reasons += [f"{page}: 401 does not say how to log in" for page in table.unasked]
    if table.asked == 0:
        reasons.append("nothing was asked")
    if table.guesses is not None:
        let_in = [status for status in table.guesses if status not in (401, 403, 429)]
        if let_in:
            reasons.append(f"a wrong password was answered {let_in[0]}")
        if table.guesses[-1:] != (429,) and 403 not in table.guesses:
            reasons.append(f"{len(table.guesses)} wrong passwords in a row, and no 429")
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    found = [page.name for page in pages(target) if stranger(page.table) is not None]
    if not found:
        raise errors.MissingSubject(
            "nothing of this stack is private, or this machine's own addresses may see all of it",
            hint='[edge] private = { "/admin" = "ADMIN_PASSWORD" }',
        )
    return ", ".join(found)


def pages(target: Target) -> Iterator[Page]:
    """All that is private in a stack."""
    for path, table in target.stack.edge.private.items():
        if table is not None:
            yield Page(path, path, target.host, table, spelt=True)
    for name, service in target.stack.services.items():
        if service.private is not None and service.route is not None:
            route = service.route
            host = None if route.host is None else route.host.replace("*", "gapless-drill")
            yield Page(name, route.path, host or target.host, service.private, spelt=False)


def _guarded(stack: stacks.Stack) -> object:
    """What a stack says about who may see what, and where that is."""
    services = stack.services.items()
    return (
        stack.edge.private,
        {name: (one.private, one.route) for name, one in services if one.private is not None},
    )


def stranger(table: private.Private) -> str | None:
    """An address of ours that may not see it without more; None: all may."""
    allowed = [ipaddress.ip_network(one, strict=False) for one in table.allow]
    for source in STRANGERS:
        if table.login or not any(ipaddress.ip_address(source) in one for one in allowed):
            return source
    return None


def ways(page: Page, open_again: Sequence[str] = ()) -> list[str]:
    """Paths that lead there. ``open_again``: places that everybody may see."""
    stem = page.path.rstrip("/")
    found = [stem or "/", f"{stem}/", f"{stem}{DEEPER}", f"{stem}{DEEPER}?a=b"]
    if page.spelt and stem:
        first = stem[1:2]
        found += [
            stem.swapcase(),
            f"/{stem}",
            f"/.{stem}",
            f"/.//.{stem}/",
            f"/%{ord(first):02x}{stem[2:]}",
            f"/{quote(first)}{stem[2:]}%2fx",
            f"{stem};v=1",
            f"{stem};v=1{DEEPER}",
            f"/;v=1{stem}",
            f"{stem}?x={stem}",
        ]
    plain = [place.rstrip("/").lower() for place in open_again]
    return [
        way
        for way in dict.fromkeys(found)
        if not any(f"{way.lower()}/".startswith(f"{place}/") for place in plain)
    ]


def run(stage: Stage) -> Outcome:
    state = stage.settle()
    subject(stage.target, state)
    stage.told(state, "private pages", _guarded)
    url = mix.edge_url(state)
    if ":" in specs.own_address(url)[0]:
        raise errors.MissingSubject(
            "the edge listens on IPv6 alone, and only of IPv4 has this machine several addresses",
            hint='[edge] listen = "127.0.0.1:8080"',
        )
    began = time.monotonic()
    table = ask_all(stage.target, url)
    return concluded(table, time.monotonic() - began, stage.options.strict)


def ask_all(target: Target, url: str) -> Table:
    """Every page in every way, then guesses at one of those that ask for a login."""
    places = target.stack.edge.private
    found = tuple(pages(target))
    opened, unasked, asked = [], [], 0
    for page in found:
        source = stranger(page.table)
        if source is None:
            continue
        deeper = [path for path, one in places.items() if one is None and page.spelt]
        for way in ways(page, deeper):
            status, headers = ask(url, way, page.host, source)
            asked += 1
            if status not in REFUSED and status // 100 != 3:
                opened.append((page.name, way, status))
            if status == 401 and not headers.get("www-authenticate", "").startswith("Basic "):
                unasked.append(page.name)
    guesses = None
    for page in found:
        if page.table.login:
            guesses = tuple(guess(url, page))
            break
    total = asked + len(guesses or ())
    return Table(total, tuple(opened), tuple(dict.fromkeys(unasked)), guesses)


def guess(url: str, page: Page) -> Iterator[int]:
    """One more than an address has; what was guessed a minute ago may count as well."""
    user = next(iter(page.table.login))
    for number in range(limits.GUESSES + 1):
        word = base64.b64encode(f"{user}:no password {number}".encode()).decode()
        yield ask(url, page.path, page.host, GUESSER, {"Authorization": f"Basic {word}"})[0]


def ask(
    url: str, path: str, host: str | None, source: str, more: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str]]:
    """Status and headers (lower case) of one GET. Raises WorkFailed without an answer."""
    connection = specs.one_connection(url, TIMEOUT, source)
    try:
        connection.request(
            "GET", path, headers={**({"Host": host} if host else {}), **(more or {})}
        )
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        raise errors.WorkFailed(f"GET {path}: no answer ({error})") from None
    finally:
        connection.close()


def concluded(table: Table, seconds: float, strict: bool = False) -> Outcome:
    """The verdict over what strangers were answered."""
    kinds = Counter(f"{status // 100}xx" for _, _, status in table.open)
    traffic = Traffic(table.asked, len(table.open), kinds=dict(kinds), seconds=seconds)
    said = [f"{table.asked} requests of strangers: {len(table.open)} were let in"]
    if table.guesses is not None:
        counts = Counter(table.guesses)
        told = ", ".join(f"{number} were answered {status}" for status, number in counts.items())
        said.append(f"{len(table.guesses)} wrong passwords: {told}")
    return Outcome(NAME, judge(table, strict), traffic, {"said": said, **asdict(table)})
