"""The cookies of a run's clients, and whether anybody was moved."""

from __future__ import annotations

from gapless.drills import figures, wire
from gapless.drills import spec as specs


class Jar:
    """The affinity cookies of one stream's clients."""

    def __init__(self, stream: specs.Stream) -> None:
        self._stream = stream
        self._first: dict[int, str] = {}
        self._held: dict[int, str] = {}
        self._asked: set[int] = set()
        self.moved = 0

    def send(self, client: int) -> str:
        """The Cookie header of the client's next request."""
        name, forged = self._stream.cookie, self._stream.forged
        if name is None:
            return ""
        value = forged[client % len(forged)] if forged else self._held.get(client, "")
        return f"{name}={value}" if value else ""

    def take(self, client: int, answer: wire.Answer) -> None:
        """Note what the answer set. Another value than the one held is a move."""
        name = self._stream.cookie
        if name is None:
            return
        self._asked.add(client)
        for line in answer.headers.get("set-cookie", "").split("\n"):
            key, _, rest = line.partition("=")
            if key.strip() != name:
                continue
            value = rest.partition(";")[0]
            if client in self._held and self._held[client] != value:
                self.moved += 1
            self._first.setdefault(client, value)
            self._held[client] = value

    def report(self) -> figures.Cookies:
        """Values are replaced by labels: who holds one may claim its replica."""
        values = sorted(set(self._first.values()))
        by = {f"replica {n}": 0 for n in range(1, len(values) + 1)}
        for value in self._first.values():
            by[f"replica {values.index(value) + 1}"] += 1
        return figures.Cookies(
            clients=len(self._asked),
            without=len(self._asked) - len(self._first),
            moved=self.moved,
            by=by,
        )
