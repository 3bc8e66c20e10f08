"""Sockets of several workers: counted, and drawn from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gapless.edge import words

Listed = dict[int | None, dict[str, list[str]]]
"""Worker (None: the present one) to server name to ids of sessions."""
Draw = Callable[[Sequence[tuple[int | None, str]], int], list[tuple[int | None, str]]]
"""Takes so many of a population, at random: ``random.sample``."""


def count(listed: Listed) -> dict[str, int]:
    """By server name, over all workers."""
    found: dict[str, int] = {}
    for servers in listed.values():
        for name, ids in servers.items():
            found[name] = found.get(name, 0) + len(ids)
    return found


def draw(
    listed: Listed, counts: Mapping[str, int], sample: Draw
) -> tuple[dict[int | None, list[str]], dict[str, int]]:
    """So many sessions of each server, by worker; and how many each then has left.

    The draw goes over all workers alike, so nobody is sure to be the first or the last.
    """
    left = count(listed)
    orders: dict[int | None, list[str]] = {}
    for name, wanted in counts.items():
        server = words.identifier(name)
        every = [(pid, id) for pid, servers in listed.items() for id in servers.get(server, ())]
        for pid, id in sample(every, min(wanted, len(every))):
            orders.setdefault(pid, []).append(id)
            left[server] -= 1
    return orders, left
