"""How a server is judged, and which requests may be sent to another one. Pure.

The figures decide how long a replica that is dead, hung or wrong goes on getting requests; who
notices what, and how fast, is in docs/decisions/0010.
"""

from __future__ import annotations

from gapless.edge import words
from gapless.edge.config import Backend, Server

ERROR_LIMIT = 5
"""A run of so many bad answers takes a server out."""
PROBATION = 2
"""Requests at a time that a new server gets until it has answered more of them than a run of bad
ones is long: so what comes back bad before it is taken out is the run and one more, however many
clients there are, and however late they come."""
RISE = 5
"""Good checks, half a round apart, that bring a server back: it stays out for two rounds at least,
so that the next look sees it."""
FLOOR_ROUNDS = 5
"""A server on the floor is checked once in so many rounds of the others."""
IDLE_SECONDS = 5
"""Idle connections to servers are given up in rounds of this length."""


def server_words(backend: Backend, server: Server, *, floor: bool = False) -> tuple[str, ...]:
    """The keywords of a server. All of them: servers added at run time inherit nothing."""
    number = words.server_id(server.name, server.address, server.cookie)
    every = backend.check_every
    found = [words.address(server.address), "check", "id", str(number)]
    if floor:
        found += ["inter", words.milliseconds(every * FLOOR_ROUNDS)]
        found += ["downinter", words.milliseconds(every), "fall", "1", "rise", "1"]
    else:
        found += ["inter", words.milliseconds(every)]
        # The first check of a new server is one of a server that is down: the sooner, the sooner
        # it is in.
        found += ["downinter", words.milliseconds(max(0.1, every / 10))]
        found += ["fastinter", words.milliseconds(max(0.1, every / 2))]
        found += ["fall", str(int(backend.check_fall)), "rise", str(RISE)]
        found += ["observe", "layer7", "error-limit", str(ERROR_LIMIT), "on-error", "mark-down"]
    found += ["pool-purge-delay", f"{IDLE_SECONDS}s"]
    if backend.sticky and server.cookie is not None:
        found += ["cookie", words.token(server.cookie)]
    return tuple(found)
