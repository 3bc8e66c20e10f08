"""Rooms and messages in Postgres. The tables come from ``migrations/``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import asyncpg

KEPT = 1000
"""Messages kept in each room; older ones are removed by the ``tidy`` task."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as everybody sees it. ``server`` is the replica that took it in."""

    id: int
    room: str
    author: str
    body: str
    server: str
    at: datetime

    def public(self) -> dict[str, Any]:
        """JSON-ready; ``at`` as ISO 8601."""
        return asdict(self) | {"at": self.at.isoformat()}


class Store:
    """Opens connections when they are first needed, so a missing database never stops a boot."""

    pool: asyncpg.Pool

    def __init__(self, url: str, pool: int) -> None:
        self._url, self._size = url, pool

    async def open(self) -> None:
        self.pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=self._size, timeout=5, command_timeout=10
        )

    async def close(self) -> None:
        await self.pool.close()

    async def ping(self) -> None:
        """One real round trip. Raises whatever the driver raises."""
        await self.pool.fetchval("select 1")

    async def rooms(self) -> list[str]:
        """Names, oldest room first."""
        return [row["name"] for row in await self.pool.fetch("select name from rooms order by id")]

    async def people(self) -> dict[str, int]:
        """How many are in each room, as counted last."""
        rows = await self.pool.fetch("select name, people from rooms order by id")
        return {row["name"]: row["people"] for row in rows}

    async def count_people(self, connection: asyncpg.Connection, people: dict[str, int]) -> None:
        """Write down what was counted, on a connection that is within a transaction."""
        await connection.executemany(
            "update rooms set people = $2 where name = $1 and people <> $2", list(people.items())
        )

    async def messages(self, room: str, limit: int, before: int | None = None) -> list[Message]:
        """The newest ``limit`` messages (older than id ``before``), in the order they were said."""
        rows = await self.pool.fetch(
            "select m.id, r.name as room, m.author, m.body, m.server, m.at"
            " from messages m join rooms r on r.id = m.room_id"
            " where r.name = $1 and ($2::bigint is null or m.id < $2)"
            " order by m.id desc limit $3",
            room,
            before,
            limit,
        )
        return [Message(**row) for row in reversed(rows)]

    async def add(self, room: str, author: str, body: str, server: str) -> Message:
        """Store a message; the room is made when it is new."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into rooms (name) values ($1) on conflict (name) do nothing", room
            )
            row = await connection.fetchrow(
                "insert into messages (room_id, author, body, server)"
                " select id, $2, $3, $4 from rooms where name = $1"
                " returning id, $1 as room, author, body, server, at",
                room,
                author,
                body,
                server,
            )
        return Message(**row)

    async def count(self, room: str) -> tuple[int, int]:
        """(messages, authors) of a room."""
        row = await self.pool.fetchrow(
            "select count(*) as messages, count(distinct author) as authors"
            " from messages m join rooms r on r.id = m.room_id where r.name = $1",
            room,
        )
        return row["messages"], row["authors"]

    async def tidy(self, kept: int = KEPT) -> int:
        """Remove all but the newest ``kept`` messages of each room; returns how many went."""
        answer = await self.pool.execute(
            "delete from messages where id in (select id from (select id, row_number() over"
            " (partition by room_id order by id desc) as n from messages) as t where n > $1)",
            kept,
        )
        return int(answer.split()[-1])
