"""Requests that are sent elsewhere. Pure.

The rest of the path and the query go along. What a client sends is only ever put behind a place
that the file names, and never where it could be read as another host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapless.edge import words


@dataclass(frozen=True, slots=True)
class Redirect:
    """``source``: a host, a path, or with ``/*`` all below a path. ``to``: the same, or a URL."""

    source: str
    to: str
    status: int


def lines(redirects: Sequence[Redirect]) -> list[str]:
    """For the public frontend. Hosts first, then longer paths before shorter ones."""
    ordered = sorted(redirects, key=lambda one: (one.source.startswith("/"), -len(one.source)))
    return [line for one in ordered for line in (_path(one) if _is_path(one) else _host(one))]


def _is_path(redirect: Redirect) -> bool:
    return redirect.source.startswith("/")


def _host(redirect: Redirect) -> list[str]:
    """All of a host; without a scheme of its own the target keeps the request's."""
    base = redirect.to if "://" in redirect.to else f"//{redirect.to}"
    host = f"{{ req.hdr(host),host_only,lower -m str -- {words.word(redirect.source)} }}"
    return [_rule(redirect, words.literal(base, "%[pathq]"), f"{host} {{ path -m beg / }}")]


def _path(redirect: Redirect) -> list[str]:
    stem, below = _stem(redirect.source)
    base, _ = _stem(redirect.to)
    rest = f"%[pathq,bytes({len(stem.encode())})]"
    found = []
    if stem:
        exact = f"{{ path -m str -- {words.word(stem)} }}"
        found.append(_rule(redirect, words.literal(base or "/", rest), exact))
    if below:
        tests = f"{{ path -m beg -- {words.word(stem + '/')} }}"
        if not base:
            # "/old//elsewhere" must not become "//elsewhere", which is another host.
            risky = (words.word(f"{stem}//"), words.word(f"{stem}/\\"))
            tests += f" !{{ path -m beg -- {' '.join(risky)} }}"
        found.append(_rule(redirect, words.literal(base, rest), tests))
    return found


def _stem(place: str) -> tuple[str, bool]:
    below = place.endswith("/*")
    return (place[:-2] if below else place), below


def _rule(redirect: Redirect, location: str, tests: str) -> str:
    return f"http-request redirect code {int(redirect.status)} location {location} if {tests}"
