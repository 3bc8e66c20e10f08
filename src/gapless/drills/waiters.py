"""Clients that wait: each has had an answer, keeps its connection, and asks again after a change.

An eager client waits for microseconds, so whether a change meets one that does is luck. These are
idle for as long as it takes.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass

from gapless import errors
from gapless.drills.mix import Mix

CLIENTS = 8
ASKS = 20
"""Of each, at most: one that is told to connect anew asks no more."""


@dataclass(frozen=True, slots=True)
class Waited:
    """``clients`` kept their connection through changes; ``cut``: theirs led nowhere then."""

    clients: int = 0
    cut: int = 0

    def __add__(self, more: Waited) -> Waited:
        return Waited(self.clients + more.clients, self.cut + more.cut)


class Waiters:
    """Those who wait now."""

    def __init__(self, chosen: Mix, connections: list[http.client.HTTPConnection]) -> None:
        self._chosen = chosen
        self._connections = connections

    def ask(self) -> Waited:
        """Each asks on its connection, until it is told to connect anew. To be called once."""
        kept = [one for one in self._connections if one.sock is not None]
        return Waited(len(kept), sum(not self._served(one) for one in kept))

    def _served(self, connection: http.client.HTTPConnection) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            for _ in range(ASKS):
                _ask(connection, self._chosen)
                if connection.sock is None:
                    break
            return True
        return False


@contextlib.contextmanager
def waiting(chosen: Mix) -> Iterator[Waiters]:
    """Clients that have had an answer each. Raises WorkFailed."""
    with contextlib.ExitStack() as opened:
        made = [chosen.connection() for _ in range(CLIENTS)]
        for connection in made:
            opened.callback(connection.close)
            try:
                connection.connect()
                _ask(connection, chosen)
            except (OSError, http.client.HTTPException) as error:
                raise errors.WorkFailed(
                    f"{chosen.url}: no answer from the edge ({error})"
                ) from None
            connection.auto_open = 0  # one that is cut must not be mended behind our back
        yield Waiters(chosen, made)


def _ask(connection: http.client.HTTPConnection, chosen: Mix) -> None:
    connection.request("GET", chosen.get[0], headers=chosen.headers)
    connection.getresponse().read()
