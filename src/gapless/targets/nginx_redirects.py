"""Requests that nginx sends elsewhere. Pure.

As at the edge paths are compared as they were sent (``$request_uri``), and what follows goes along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gapless.edge.redirects import Redirect
from gapless.targets import nginx_words as words


def hosts(redirects: Sequence[Redirect]) -> dict[str, str]:
    """What answers for all of a host, by host."""
    return {
        one.source: f"return {int(one.status)} "
        f'"{words.plain(one.to if "://" in one.to else f"//{one.to}")}$request_uri";'
        for one in redirects
        if not one.source.startswith("/")
    }


def maps(stack: str, redirects: Sequence[Redirect]) -> list[str]:
    """For ``http``: where each redirect of a path leads, "" where it does not apply."""
    lines = []
    for number, one in enumerate(_paths(redirects), 1):
        stem, below = _stem(one.source)
        base, _ = _stem(one.to)
        rest = words.name(stack, "rest", str(number))
        lines += [f"map $request_uri {_variable(stack, number)} {{", '    default "";']
        if stem:
            lines.append(_line(stem, rest, r"(?:\?.*)?", words.plain(base or "/")))
        if below:
            # "/old//elsewhere" must not become "//elsewhere", which is another host.
            lines.append(_line(stem, rest, "/.*" if base else r"/(?![/\x5c]).*", words.plain(base)))
        lines.append("}")
    return lines


def _line(stem: str, rest: str, form: str, base: str) -> str:
    words.plain(stem.replace("$", ""))
    return f'    "~^{re.escape(stem)}(?<{rest}>{form})$" "{base}${{{rest}}}";'


def server(stack: str, redirects: Sequence[Redirect]) -> list[str]:
    """For a server: longer paths before shorter ones."""
    lines = []
    for number, one in enumerate(_paths(redirects), 1):
        there = _variable(stack, number)
        lines.append(f"if ({there}) {{ return {int(one.status)} {there}; }}")
    return lines


def _paths(redirects: Sequence[Redirect]) -> list[Redirect]:
    paths = [one for one in redirects if one.source.startswith("/")]
    return sorted(paths, key=lambda one: -len(one.source))


def _stem(place: str) -> tuple[str, bool]:
    below = place.endswith("/*")
    return (place[:-2] if below else place), below


def _variable(stack: str, number: int) -> str:
    return f"${words.name(stack, 'redirect', str(number))}"
