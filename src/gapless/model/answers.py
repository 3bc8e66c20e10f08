"""What the edge does with requests and answers by itself: redirects, headers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gapless.model.units import Model, show

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
"""What answers carry where neither the application nor the file says otherwise."""
REMOVED = ("Server", "X-Powered-By")
"""What tells strangers which programs run here."""
FRAMING = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "host",
        "keep-alive",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say how the answer itself is to be read."""
HOPS = 20
"""Redirects in a row that no sound table makes."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?"
_PATH = r"/(?!/)([A-Za-z0-9._~!$&()+,;=:@%-]+/?)*"
_SOURCE = re.compile(rf"{_PATH}\*?|{_HOST}")
_TARGET = re.compile(rf"{_PATH}\*?|{_HOST}|https?://{_HOST}({_PATH}\*?)?")


class Redirect(Model):
    """Where a request is sent instead."""

    to: str
    """A path, a host, or a URL. After "/*" of the source, "/*" here takes the rest of the path."""
    status: Literal[301, 302, 307, 308] = 308
    """301 and 302 let clients turn a POST into a GET; 301 and 308 are remembered."""


def parse_redirect(value: Any) -> Any:
    """A string is the target. The table is left to the model."""
    return {"to": value} if isinstance(value, str) else value


def parse_network(value: str) -> str:
    """An address or network, as it is written. Raises ValueError."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f'must be an address or network such as "10.0.0.0/8", got {show(value)}'
        ) from None
    return value


def check_headers(headers: dict[str, Any]) -> dict[str, Any]:
    """Names that may be set, values of one line. Raises ValueError."""
    known: dict[str, str] = {}
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not the name of a header')
        if name.lower() in FRAMING:
            raise ValueError(f"{name} says how an answer is to be read: the edge sets it itself")
        if name.lower() in known:
            raise ValueError(f"{name} and {known[name.lower()]} are the same header")
        if value is True:
            raise ValueError(f"{name} must be a text, or false to have no such header")
        if isinstance(value, str) and not (value and value.isprintable() and len(value) <= 4000):
            raise ValueError(f"{name} must be one line of printable characters")
        known[name.lower()] = name
    return headers


def check_redirects(redirects: dict[str, Redirect]) -> dict[str, Redirect]:
    """Sources and targets that fit each other, and no circle. Raises ValueError."""
    for source, redirect in redirects.items():
        if not _SOURCE.fullmatch(source):
            raise ValueError(
                f'"{source}" is neither a path ("/old"), all below one ("/old/*") nor a host'
                ' ("www.example.com")'
            )
        if not _TARGET.fullmatch(redirect.to):
            raise ValueError(
                f'"{source}": must go to a path ("/new"), a host or a URL, got {show(redirect.to)}'
            )
        if redirect.to.endswith("/*") and not source.endswith("/*"):
            raise ValueError(f'"{source}": only what ends in "/*" can go to "{redirect.to}"')
        if source.endswith("/*") and not redirect.to.endswith("/*"):
            raise ValueError(f'"{source}": the rest of the path has no place: end it in "/*"')
        if not source.startswith("/") and re.search(r"[^:/]/[^/]", redirect.to):
            raise ValueError(
                f'"{source}": a host keeps its paths: name a host, or a URL without one'
            )
        if not source.startswith("/") and redirect.to.startswith("/"):
            raise ValueError(f'"{source}": a host can only go to another host')
        if source.startswith("/") and re.fullmatch(_HOST, redirect.to):
            raise ValueError(
                f'"{source}": a path goes to a path or a URL: say "https://{redirect.to}/"'
            )
    for source in redirects:
        trail = _followed(source, redirects)
        if len(trail) > HOPS:
            raise ValueError(f'"{source}" goes round in a circle: {" -> ".join(trail[:4])} …')
    return redirects


def _followed(source: str, redirects: Mapping[str, Redirect]) -> list[str]:
    """Where a request for it goes, one redirect after the other."""
    host, path = ("", source) if source.startswith("/") else (source, "/x")
    path = path.replace("/*", "/x")
    trail = [source]
    while len(trail) <= HOPS and (found := _next(host, path, redirects)) is not None:
        host, path = found
        trail.append(f"{host}{path}")
    return trail


def _next(host: str, path: str, redirects: Mapping[str, Redirect]) -> tuple[str, str] | None:
    """Where the table sends a request; None: nowhere, or to a host that is not in it."""
    if host in redirects:
        return redirects[host].to.rpartition("//")[2].rstrip("/"), path
    place = redirects[path].to if path in redirects else None
    for key in sorted(redirects, key=len, reverse=True):
        if place is None and key.endswith("/*") and f"{path}/".startswith(key[:-1]):
            place = redirects[key].to[:-2] + path[len(key) - 2 :]
    if place is None or "://" not in place:
        return None if place is None else (host, place or "/")
    name, slash, rest = place.partition("://")[2].partition("/")
    return (name, slash + rest or "/") if name in redirects else None


Network = Annotated[str, AfterValidator(parse_network)]
RedirectField = Annotated[
    Redirect,
    BeforeValidator(
        parse_redirect,
        json_schema_input_type=Annotated[str, Field(examples=["/new"])] | Redirect,
    ),
]
Headers = Annotated[dict[str, str | Literal[False]], AfterValidator(check_headers)]
Redirects = Annotated[dict[str, RedirectField], AfterValidator(check_redirects)]
