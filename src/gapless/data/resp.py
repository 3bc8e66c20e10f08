"""The Redis protocol (RESP2): commands to bytes, bytes to replies, and one connection."""

from __future__ import annotations

import asyncio
import ssl as tls
from dataclasses import dataclass

Reply = str | int | None | list["Reply"]

_REPLY_LIMIT = 64 * 1024 * 1024
"""Bytes of one value, or values of one list: beyond it, what answers is no server of ours."""


class ReplyError(Exception):
    """The server answered with an error; the text is its own."""


class Malformed(Exception):
    """What came back is not RESP: something else listens there."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens (``host`` may be a Unix socket's path) and how to enter."""

    host: str
    port: int
    password: str | None = None
    user: str | None = None
    tls: bool = False
    database: int = 0


def command(*words: str) -> bytes:
    """One command as an array of bulk strings: no word can become a second command."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


async def read(reader: asyncio.StreamReader) -> Reply:
    """One reply. Raises ReplyError, Malformed, IncompleteReadError (hung up)."""
    try:
        line = (await reader.readuntil(b"\r\n"))[:-2]
    except (asyncio.LimitOverrunError, ValueError):
        raise Malformed("not a Redis server") from None
    kind, rest = line[:1], line[1:].decode(errors="replace")
    if kind == b"+":
        return rest
    if kind == b"-":
        raise ReplyError(rest)
    try:
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return await _bulk(reader, int(rest))
        if kind == b"*":
            return [await read(reader) for _ in range(max(0, min(int(rest), _REPLY_LIMIT)))]
    except ValueError:
        pass
    raise Malformed("not a Redis server")


async def _bulk(reader: asyncio.StreamReader, size: int) -> str | None:
    if size < 0:
        return None
    if size > _REPLY_LIMIT:
        raise ValueError(size)
    return (await reader.readexactly(size + 2))[:-2].decode(errors="replace")


class Connection:
    """An open, authenticated connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, target: Target) -> Connection:
        """Connect and authenticate. Raises OSError, ReplyError, Malformed, EOFError."""
        context = tls.create_default_context() if target.tls else None
        if target.host.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(target.host)
        else:
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
        connection = cls(reader, writer)
        try:
            if target.password is not None:
                user = (target.user,) if target.user else ()
                await connection.ask("AUTH", *user, target.password)
            if target.database:
                await connection.ask("SELECT", str(target.database))
        except BaseException:
            connection.close()
            raise
        return connection

    async def ask(self, *words: str) -> Reply:
        """One command and its reply."""
        self._writer.write(command(*words))
        await self._writer.drain()
        return await read(self._reader)

    async def ask_all(self, *commands: tuple[str, ...]) -> list[Reply | ReplyError]:
        """Several commands in one go; an answer each, in their order, refusals among them."""
        self._writer.write(b"".join(command(*words) for words in commands))
        await self._writer.drain()
        answers: list[Reply | ReplyError] = []
        for _ in commands:
            try:
                answers.append(await read(self._reader))
            except ReplyError as refused:
                answers.append(refused)
        return answers

    def close(self) -> None:
        """Hang up, at once."""
        if self.loop is asyncio.get_running_loop():
            self._writer.transport.abort()
