"""How much work lies in a queue on Redis: a list, a stream, or a queue of Celery.

What counts is work that is not done: what waits *and* what a worker has taken without having
acknowledged it. A queue that is empty because sixteen tasks are being worked on is no reason to
take workers away.

Celery's transport (kombu) keeps a queue ``default`` as a list of that name and one list more for
each other priority (``default\\x06\\x163``). What was taken lies in the hash ``unacked``, of all
queues together: delivery tag to ``[message, exchange, routing key]``. Which queue it came from
follows from the last two and the bindings of the exchange (``_kombu.binding.EXCHANGE``).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gapless.data import resp
from gapless.errors import DataFault

SEPARATORS = ("\x06\x16", ":")
"""Between queue and priority: kombu's own, and the one its documentation suggests instead."""
PRIORITIES = range(1, 10)
UNACKED = "unacked"
BINDINGS = "_kombu.binding."
LOOKED_AT = 2_000
"""Taken messages that are read; of more, the share among these counts."""
LAG_LIMIT = 1_000
"""Entries of a stream that are counted one by one where the server does not know the lag."""
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Depth:
    """``waiting``: nobody has taken it. ``unacknowledged``: taken, and not known to be done."""

    waiting: int = 0
    unacknowledged: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.unacknowledged


async def depth(connection: resp.Connection, queue: str, now: datetime) -> Depth:
    """The depth of a queue. What does not exist is empty: queues come and go with their work.

    ``STREAM/GROUP`` names one consumer group of a stream; a stream alone counts the group that
    is furthest behind. ``now`` tells which of Celery's tasks are due (those put off to a later
    time wait in a worker, and more workers would not bring that time nearer).

    Raises DataFault when it is no queue; OSError, EOFError, resp.Malformed, resp.ReplyError.
    """
    kind = await connection.ask("TYPE", queue)
    stream, slash, group = queue.rpartition("/")
    if kind == "none" and slash and await connection.ask("TYPE", stream) == "stream":
        return await _stream(connection, stream, group)
    if kind == "stream":
        return await _stream(connection, queue, None)
    if kind not in ("list", "none"):
        raise DataFault(
            f"{queue}: is a {kind}, not a queue", hint="name a list, a stream or a queue of Celery"
        )
    keys = (queue, *(f"{queue}{mark}{n}" for mark in SEPARATORS for n in PRIORITIES))
    lengths = await connection.ask_all(*(("LLEN", key) for key in keys))
    waiting = sum(length for length in lengths if isinstance(length, int))
    return Depth(waiting, await _unacknowledged(connection, queue, now))


# Celery


async def _unacknowledged(connection: resp.Connection, queue: str, now: datetime) -> int:
    (total,) = await connection.ask_all(("HLEN", UNACKED))
    if not isinstance(total, int) or total == 0:
        return 0  # nothing taken, or some other program's key
    tables: dict[str, frozenset[tuple[str, str]]] = {}
    seen = mine = 0
    async for raw in _taken(connection):
        taken = parse(raw)
        seen += 1
        if taken is None:
            continue
        if taken.exchange and taken.exchange not in tables:
            tables[taken.exchange] = await _bindings(connection, taken.exchange)
        mine += taken.due(now) and taken.is_of(queue, tables)
        if seen == LOOKED_AT:
            return round(mine * max(total, seen) / seen)
    return mine


async def _taken(connection: resp.Connection) -> AsyncIterator[str]:
    """Values of the hash, page by page. One that moves meanwhile may be missed, or come twice."""
    cursor = "0"
    while True:
        page = await connection.ask("HSCAN", UNACKED, cursor, "COUNT", str(_PAGE))
        if not isinstance(page, list) or len(page) != 2 or not isinstance(page[1], list):
            raise resp.Malformed("HSCAN was answered with something else")
        for value in page[1][1::2]:
            yield str(value)
        cursor = str(page[0])
        if cursor == "0":
            return


async def _bindings(connection: resp.Connection, exchange: str) -> frozenset[tuple[str, str]]:
    """(key of the binding, queue) of an exchange; none where that is not what the key holds."""
    (members,) = await connection.ask_all(("SMEMBERS", f"{BINDINGS}{exchange}"))
    if not isinstance(members, list):
        return frozenset()
    parts = (str(member).split(SEPARATORS[0]) for member in members)
    return frozenset((part[0], part[2]) for part in parts if len(part) == 3)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that a worker has taken. ``eta``: not to be worked on before."""

    exchange: str
    routing_key: str
    eta: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Whether it could be worked on already."""
        return self.eta is None or self.eta <= now

    def is_of(self, queue: str, tables: Mapping[str, frozenset[tuple[str, str]]]) -> bool:
        """Whether it came from that queue. ``tables``: exchange to (key, queue) of its bindings.

        Without an exchange, or without bindings, the routing key is the queue's name.
        """
        bound = tables.get(self.exchange)
        if not self.exchange or not bound:
            return self.routing_key == queue
        return any(queue == one and matches(key, self.routing_key) for key, one in bound)


def parse(raw: str) -> Taken | None:
    """A value of the hash; None when it is not what kombu writes."""
    try:
        message, exchange, routing_key = json.loads(raw)
    except (ValueError, TypeError):
        return None
    headers = message.get("headers") if isinstance(message, dict) else None
    return Taken(str(exchange or ""), str(routing_key or ""), _eta(headers))


def _eta(headers: Any) -> datetime | None:
    eta = headers.get("eta") if isinstance(headers, dict) else None
    try:
        parsed = datetime.fromisoformat(eta) if isinstance(eta, str) else None
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed


def matches(key: str, routing_key: str) -> bool:
    """Whether a binding takes a routing key: ``*`` is one word between dots, ``#`` any text."""
    if "*" not in key and "#" not in key:
        return key == routing_key
    words = ({"*": r"[^.]+", "#": r".*"}.get(word, re.escape(word)) for word in key.split("."))
    return re.fullmatch(r"\.".join(words), routing_key) is not None


# Streams


async def _stream(connection: resp.Connection, key: str, group: str | None) -> Depth:
    groups = [_pairs(one) for one in _list(await connection.ask("XINFO", "GROUPS", key))]
    if group is not None:
        groups = [one for one in groups if one.get("name") == group]
        if not groups:
            raise DataFault(f"{key}: has no consumer group {group}")
    if not groups:
        return Depth(_number(await connection.ask("XLEN", key)))
    depths = [await _group(connection, key, one) for one in groups]
    return max(depths, key=lambda one: one.total)


async def _group(connection: resp.Connection, key: str, group: Mapping[str, Any]) -> Depth:
    lag = group.get("lag")
    if not isinstance(lag, int):
        # An older server, or entries were deleted from the middle: it does not know.
        last = f"({group.get('last-delivered-id', '0-0')}"
        rest = await connection.ask("XRANGE", key, last, "+", "COUNT", str(LAG_LIMIT))
        lag = len(_list(rest))
    return Depth(lag, _number(group.get("pending")))


def _pairs(flat: Any) -> dict[str, Any]:
    words = _list(flat)
    return {str(name): value for name, value in zip(words[::2], words[1::2], strict=False)}


def _list(reply: Any) -> list[Any]:
    return reply if isinstance(reply, list) else []


def _number(reply: Any) -> int:
    return reply if isinstance(reply, int) else 0
