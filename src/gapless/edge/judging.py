"""How a server is judged, and which requests may be sent to another one. Pure.

The figures decide how long a replica that is dead, hung or wrong goes on getting requests; who
notices what, and how fast, is in docs/decisions/0016.
"""

from __future__ import annotations

from gapless.edge import words
from gapless.edge.config import Backend, Server

ERROR_LIMIT = 5
"""A run of so many bad answers takes a server out."""
SLOW_LIMIT = 3
"""A run of so many takes it out, too, where checks came between them and no good answer did: see
``breaker``."""
PROBATION = 2
"""Requests at a time that a new server gets until it has answered more of them than a run of bad
ones is long: so what comes back bad before it is taken out is the run and one more, however many
clients there are, and however late they come."""
ANY = 1_000_000
"""Requests at a time once it has proved itself: any number. Not HAProxy's 0: a server without a
limit takes nobody out of the queue, so those who waited for one on probation would wait on, and in
turn (``balance roundrobin``) everybody who comes queues up behind them."""
RISE = 9
"""Good checks, a quarter of a round apart, that bring a server back: it stays out for two rounds at
least, so that the next look sees it."""
QUICK = 4
"""Once a check has failed there are so many checks in a round: one that refuses connections or is
not ready is out after a round and a half at the latest."""
FIRST = 10
"""A server that is out is checked so many times in a round: the first check of a new one is one
of these, and the sooner it comes, the sooner it is in."""
QUICKEST = 0.1
"""Seconds between two checks at least."""
FLOOR_LIMIT = 2
"""So many refused connections in a row and a server on the floor is taken for dead, until its next
good check."""
FLOOR_ROUNDS = 5
"""A server on the floor is checked once in so many rounds of the others."""
RETRY_ON: tuple[str, ...] = ("conn-failure", "empty-response")
"""When a request goes to another server: nothing was sent yet (any method), or the connection
ended before the first byte of an answer (``REPEATABLE`` alone). Never after a bad answer, which is
one, nor after a timeout: whoever is slow would be asked again and again."""
RETRIES = 64
"""Times. Until a dead server is marked as such each try may fall on it again: with three in turn,
one request in 27 spent three tries on it, which is one failed request in each few kills. Where
all of three die at once a lonely request needs 15 to find that out (``ERROR_LIMIT`` each), and a
try that falls on a kept connection of the dead does not count there: with 16 tries in all one
request in 40 such deaths under load had none left."""
REPEATABLE: tuple[str, ...] = ("METH_GET", "METH_OPTIONS")
"""HAProxy's names for the safe methods of RFC 9110, 9.2.1 (``METH_GET`` is GET and HEAD). PUT and
DELETE may be repeated by whoever knows what they mean (9.2.2), but not behind a client's back: a
second DELETE is answered 404, and a PUT between two others would undo the later one."""
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
        found += ["observe", "layer4", "error-limit", str(FLOOR_LIMIT), "on-error", "mark-down"]
    else:
        found += ["inter", words.milliseconds(every)]
        found += ["downinter", words.milliseconds(max(QUICKEST, every / FIRST))]
        found += ["fastinter", words.milliseconds(max(QUICKEST, every / QUICK))]
        found += ["fall", str(int(backend.check_fall)), "rise", str(RISE)]
        found += ["observe", "layer7", "error-limit", str(ERROR_LIMIT), "on-error", "mark-down"]
    found += ["pool-purge-delay", f"{IDLE_SECONDS}s"]
    found += ["maxconn", str(backend.queue.concurrency or ANY)]
    if backend.h2:
        # Checks speak HTTP/1.1 still, as the controller's own probes do, or nothing at all.
        found += ["proto", "h2", "check-proto", "h1" if backend.check else "none"]
    if backend.sticky and server.cookie is not None:
        found += ["cookie", words.token(server.cookie)]
    return tuple(found)
