"""What nginx tells pages of other origins. Pure.

What a service says of it is hidden by the server; where only some paths are meant, it is said again
at the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gapless.edge import cors as edge_cors
from gapless.edge.cors import Cors
from gapless.targets import nginx_words as words

REFUSED = 419
"""No client sees it: it leads to who may not."""
_FAMILY = ("Origin", "Credentials", "Methods", "Headers")
_OWN = tuple(
    f"Access-Control-{name}"
    for name in (*(f"Allow-{name}" for name in _FAMILY), "Expose-Headers", "Max-Age")
)


def maps(stack: str, cors: Cors | None) -> list[str]:
    """For ``http``: what is told, "" where nothing is."""
    if cors is None:
        return []
    place = f"${words.name(stack, 'cors', 'place')}"
    origin = f"${words.name(stack, 'cors', 'origin')}"
    asked = f"${words.name(stack, 'cors', 'asked')}"
    lines = [
        *_map("$uri", place, {words.below(cors.path): "1:"}, default='"0:"'),
        *_map(f'"{place}$http_origin"', origin, dict(_listed(cors))),
        # A question beforehand: "1" to be answered, "0" to be refused.
        *_map(
            f'"$request_method:$http_access_control_request_method:{place}$http_origin"',
            f"${words.name(stack, 'cors', 'question')}",
            {r"~^OPTIONS:[^:]+:1:.": "1"},
        ),
        *_map(
            f'"${words.name(stack, "cors", "question")}:{origin}"',
            asked,
            {"~^1:.": "1", "1:": "0"},
        ),
        *_map(
            f'"{place}$upstream_http_vary"',
            f"${words.name(stack, 'cors', 'vary')}",
            {r"~*^1:(?:.*[ ,])?origin(?:[ ,]|$)": "", "~^1:": "Origin"},
        ),
    ]
    for number, (name, value, test) in enumerate(_told(cors, origin), 1):
        theirs = f"$upstream_http_{name.lower().replace('-', '_')}"
        said = {test: value, "~^1:": ""}
        lines += _map(f'"{place}{asked}:{origin}"', _variable(stack, number), said, default=theirs)
    return lines


def headers(stack: str, cors: Cors | None) -> list[str]:
    """For each place that has ``add_header`` of its own."""
    if cors is None:
        return []
    lines = [
        f"add_header {name} {_variable(stack, number)} always;"
        for number, (name, _, _) in enumerate(_told(cors, "$x"), 1)
    ]
    if cors.origins:
        lines.append(f"add_header Vary ${words.name(stack, 'cors', 'vary')} always;")
    return lines


def server(stack: str, cors: Cors | None) -> list[str]:
    """For a server: questions beforehand are answered before anything else is asked."""
    if cors is None:
        return []
    asked = f"${words.name(stack, 'cors', 'asked')}"
    return [
        *(f"proxy_hide_header {name};" for name in _OWN),
        f"error_page {REFUSED} = @{words.name(stack, 'origin')};",
        f"if ({asked} = 1) {{ return 204; }}",
        f"if ({asked} = 0) {{ return {REFUSED}; }}",
    ]


def _told(cors: Cors, origin: str) -> Iterator[tuple[str, str, str]]:
    """Header, value, and for which "place:question:origin" it is; all six, for what a service
    says is told by nobody else."""
    allowed = {name: (value, "~^1:1?:.") for name, value in edge_cors.allowed(cors, origin)}
    exposed = {name: (value, "~^1::.") for name, value in edge_cors.exposed(cors)}
    preflight = {name: (value, "~^1:1:.") for name, value in edge_cors.preflight(cors)}
    for name in _OWN:
        value, test = {**allowed, **exposed, **preflight}.get(name, ("", "~^1:.*"))
        yield name, value, test


def _listed(cors: Cors) -> Iterator[tuple[str, str]]:
    if not cors.origins:
        yield "~^1:.", "*"
    for one in cors.origins:
        yield f"~^1:{re.escape(words.plain(one))}$", one


def _map(of: str, to: str, values: dict[str, str], default: str = '""') -> list[str]:
    return [
        f"map {of} {to} {{",
        f"    default {default};",
        *(f'    "{key}" {_value(value)};' for key, value in values.items()),
        "}",
    ]


def _value(value: str) -> str:
    return value if value.startswith("$") else f'"{words.plain(value)}"'


def _variable(stack: str, number: int) -> str:
    return f"${words.name(stack, 'cors', str(number))}"
