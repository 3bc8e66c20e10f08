"""Sockets of several workers: counted, and drawn from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gapless.edge import wire, words

Worker = int | None
"""Its pid; None: the present one."""
Listed = dict[Worker, dict[str, list[wire.Tunnel]]]
"""By worker and server name."""
Drawn = dict[Worker, list[wire.Tunnel]]
Draw = Callable[[Sequence[tuple[Worker, wire.Tunnel]], int], list[tuple[Worker, wire.Tunnel]]]
"""Takes so many of a population, at random: ``random.sample``."""


def count(listed: Listed) -> dict[str, int]:
    """By server name, over all workers; those that have any."""
    found: dict[str, int] = {}
    for servers in listed.values():
        for name, tunnels in servers.items():
            if tunnels:
                found[name] = found.get(name, 0) + len(tunnels)
    return found


def enough(listed: Listed, counts: Mapping[str, int]) -> bool:
    """Whether so many are listed of each server."""
    known = count(listed)
    return all(known.get(words.identifier(name), 0) >= n for name, n in counts.items())


def draw(listed: Listed, counts: Mapping[str, int], sample: Draw) -> Drawn:
    """Take so many tunnels of each server out of the list.

    The draw goes over all workers alike, so nobody is sure to be the first or the last.
    """
    drawn: Drawn = {}
    for name, wanted in counts.items():
        server = words.identifier(name)
        every = [(pid, one) for pid, servers in listed.items() for one in servers.get(server, ())]
        for pid, one in sample(every, min(wanted, len(every))):
            drawn.setdefault(pid, []).append(one)
    for pid, tunnels in drawn.items():
        gone = set(tunnels)
        for server, listing in listed[pid].items():
            listed[pid][server] = [one for one in listing if one not in gone]
    return drawn
