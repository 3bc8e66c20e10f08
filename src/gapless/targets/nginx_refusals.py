"""What nginx tells those whom it gives to no replica: codes, places, the page. Pure.

``headers``: the lines of ``add_header`` that each place has to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.targets import nginx_limits
from gapless.targets import nginx_words as words
from gapless.targets.balance import Balance

PAGE = "maintenance.html"
SWITCH = "maintenance.on"
"""While a file of that name exists, there is maintenance."""


def places(balance: Balance, headers: Sequence[str]) -> list[str]:
    """The locations of a server that answer so."""
    return [
        *_forbidden(balance, headers),
        *_too_many(balance, headers),
        *_unavailable(balance, headers),
    ]


def closed(balance: Balance) -> list[str]:
    """Of a server: whether the request comes into maintenance."""
    if balance.front:
        return []
    switch = words.quote(f"{balance.at}/{SWITCH}", what="the folder")
    shut = f"set ${words.name(balance.stack, 'maintenance')}"
    return [
        f"{shut} 0;",
        f"if (-f {switch}) {{ {shut} ${words.name(balance.stack, 'closed')}; }}",
    ]


def hold(balance: Balance) -> list[str]:
    """Of a location: nothing else is done in maintenance."""
    if balance.front:
        return []
    return [f"if (${words.name(balance.stack, 'maintenance')}) {{ return 503; }}"]


def errors(balance: Balance) -> list[str]:
    """Of each location: the codes that lead to the places of ``places``."""
    lines = [f"error_page 502 = @{words.name(balance.stack, 'unavailable')};"]
    if guarded(balance):
        lines.append(f"error_page 403 = @{words.name(balance.stack, 'forbidden')};")
    if _limited(balance):
        lines.append(f"error_page 429 = @{words.name(balance.stack, 'limited')};")
    if not balance.front:
        lines.append(f"error_page 503 {_page_path(balance)};")
    return lines


def guarded(balance: Balance) -> bool:
    """Whether any page is not for everybody."""
    guards = [place.guard for place in balance.places] + [pool.guard for pool in balance.pools]
    return any(guard is not None for guard in guards)


def _forbidden(balance: Balance, headers: Sequence[str]) -> list[str]:
    """What is told to whom a page is not shown to, and to pages of strange origins."""
    said = {"forbidden": "Forbidden"} if guarded(balance) else {}
    said |= {"origin": "Origin not allowed"} if balance.cors is not None else {}
    return [
        line
        for name, text in said.items()
        for line in (
            f"location @{words.name(balance.stack, name)} {{",
            "    default_type text/plain;",
            *words.inside(headers),
            "    add_header Cache-Control no-store always;",
            f"    return 403 '{text}';",
            "}",
        )
    ]


def _limited(balance: Balance) -> bool:
    return bool(balance.limits.tables)


def _too_many(balance: Balance, headers: Sequence[str]) -> list[str]:
    """What who asks too much is told."""
    if not _limited(balance):
        return []
    return [
        f"location @{words.name(balance.stack, 'limited')} {{",
        "    default_type text/plain;",
        *words.inside(headers),
        f"    add_header Retry-After {nginx_limits.patience(balance.limits)} always;",
        "    add_header Cache-Control no-store always;",
        "    return 429 'Too many requests';",
        "}",
    ]


def _page_path(balance: Balance) -> str:
    """Where the page is for nginx alone; whoever asks for it from outside finds nothing."""
    return f"/-gapless-{balance.stack}-maintenance"


def nowhere() -> list[str]:
    """Of a path that leads to no service."""
    return ["default_type text/plain;", "return 404 'Not found';"]


def _unavailable(balance: Balance, headers: Sequence[str]) -> list[str]:
    """What nobody took is told to be tried again; what somebody may have taken is not."""
    lines = [
        f"location @{words.name(balance.stack, 'unavailable')} {{",
        "    default_type text/plain;",
        *words.inside(headers),
        f"    add_header Retry-After ${words.name(balance.stack, 'again')} always;",
        "    add_header Cache-Control no-store always;",
        f"    if (${words.name(balance.stack, 'again')}) {{"
        " return 503 'Service unavailable, try again in a moment'; }",
        "    return 502 'No complete answer';",
        "}",
    ]
    if balance.front:
        return lines
    lines += [
        f"location = {_page_path(balance)} {{",
        "    internal;",
        *words.inside(headers),
        "    add_header Retry-After 30 always;",
        "    add_header Cache-Control no-store always;",
    ]
    if balance.page is None:
        lines += [
            "    default_type text/plain;",
            "    return 503 'Down for maintenance, back soon';",
        ]
    else:
        page = words.quote(f"{balance.at}/{PAGE}", what="the folder")
        lines += [
            "    default_type 'text/html; charset=utf-8';",
            "    types { }",
            f"    alias {page};",
        ]
    return [*lines, "}"]
