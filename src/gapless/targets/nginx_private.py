"""Pages that nginx shows to certain addresses alone. Pure.

It cannot count wrong passwords, so none are part of its files: who would have to log in gets 403.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.edge.private import Guard, Place
from gapless.targets import nginx_words as words


def maps(
    stack: str, places: Sequence[Place], guards: Sequence[tuple[str, Guard | None]]
) -> list[str]:
    """For ``http``: which place a request is for, and for each guard whether the client is shut
    out. ``guards``: of the services, by name."""
    if not places and not any(guard for _, guard in guards):
        return []
    lines = [f"map $uri {_place(stack)} {{", '    default "0";']
    ordered = _ordered(places)
    for number, place in reversed(ordered):
        mark = 0 if place.guard is None else number
        lines.append(f'    "{words.below(place.path, case=False)}" "{mark}";')
    lines.append("}")
    for number, place in ordered:
        if place.guard is not None:
            lines += _far(stack, str(number), place.guard)
            lines += [
                f'map "{_place(stack)}:{_shut(stack, str(number), "far")}"'
                f" {_shut(stack, str(number))} {{",
                '    default "";',
                f'    "{number}:1" 1;',
                "}",
            ]
    for name, guard in guards:
        if guard is not None:
            lines += _far(stack, name, guard)
    return [*lines, *_kept(stack, "place", _place(stack)), *_kept(stack, "service", "1")]


def location(
    stack: str, places: Sequence[Place], name: str = "", guard: Guard | None = None
) -> list[str]:
    """For a location; ``guard``: of the service ``name`` that it leads to."""
    shut = [
        _shut(stack, str(number)) for number, place in _ordered(places) if place.guard is not None
    ]
    shut += [] if guard is None else [_shut(stack, name, "far")]
    return [f"if ({one}) {{ return 403; }}" for one in shut]


def kept(stack: str, guard: Guard | None) -> str:
    """For a location: no cache that others ask keeps what is private. Takes the place of the
    service's own header, which the server hides: a location that hides one inherits nothing."""
    which = "place" if guard is None else "service"
    return f"add_header Cache-Control ${words.name(stack, 'kept', which)} always;"


def _ordered(places: Sequence[Place]) -> list[tuple[int, Place]]:
    """Longer paths later, as at the edge; nginx takes the first one that fits."""
    ordered = sorted(places, key=lambda place: (len(place.path.rstrip("/")), place.path))
    return list(enumerate(ordered, 1))


def _far(stack: str, name: str, guard: Guard) -> list[str]:
    allowed = () if guard.logins else guard.allow
    return [
        f"geo {_shut(stack, name, 'far')} {{",
        "    default 1;",
        *(f'    {words.network(network)} "";' for network in allowed),
        "}",
    ]


def _kept(stack: str, which: str, place: str) -> list[str]:
    theirs = "$upstream_http_cache_control"
    return [
        f'map "{place}:{theirs}" ${words.name(stack, "kept", which)} {{',
        "    default 'private, no-cache';",
        f'    "~^0:" {theirs};',
        f'    "~*no-store" {theirs};',
        "}",
    ]


def _place(stack: str) -> str:
    return f"${words.name(stack, 'place')}"


def _shut(stack: str, *what: str) -> str:
    return f"${words.name(stack, 'shut', *what)}"
