"""A small service of WebSockets with one room: ``python -m probe.probe_sockets --socket PATH``.

The standard library alone and ``frames.py`` beside it. Replicas share the room through a Redis
channel (``PROBE_URL``), as chat services do.

    GET /ready      200 once the channel is heard
    GET /           200 with the replica's id
    GET /ws         a WebSocket that is held
    GET /ws?room    one that is in the room: a text that any member sends goes to all of them

It pings each client every ``PING`` seconds and hangs up on one that does not answer for two
rounds. Of notices it knows nothing: who sends its clients away is the load balancer. ``--mode``
(or the first word of the file ``mode`` in the working directory) ``drops`` is a bad one: it
watches for the notice, and hangs up on all at once. TERM: all are told (1012), then it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import resource
import signal
import sys
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path

from . import frames

PING = 10.0
ROOM = b"room"
RESTART = 1012
MODES = ("good", "drops")
AGAIN = 0.2


class Hall:
    """All clients of this replica."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.clients: set[Client] = set()
        self.room: set[Client] = set()
        self.heard = False
        self.turns = itertools.cycle(range(10))
        self.publish: Callable[[bytes], None] = lambda _: None

    def spread(self, text: bytes) -> None:
        """To everybody in the room who is with this replica."""
        frame = frames.encode(frames.TEXT, text)
        for client in self.room:
            client.write(frame)

    async def ping(self) -> None:
        """Everybody once a round, a tenth of them at a time."""
        while True:
            for part in range(10):
                for client in [one for one in self.clients if one.turn == part]:
                    client.ping()
                await asyncio.sleep(PING / 10)

    def leave(self, *, politely: bool) -> None:
        """Hang up on everybody, with or without a word."""
        for client in list(self.clients):
            client.leave(politely)


class Client(asyncio.Protocol):
    """One connection: a few requests, or a WebSocket."""

    __slots__ = ("_hall", "_head", "_missed", "_reader", "_transport", "turn")

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._head: bytes = b""
        self._reader: frames.Reader | None = None
        self._transport: asyncio.Transport | None = None
        self._missed = 0
        self.turn = next(hall.turns)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # narrows; always true
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._hall.clients.discard(self)
        self._hall.room.discard(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self._head += data
            reader = self._requests()
            if reader is None:
                return
            data, self._head = self._head, b""
        try:
            for opcode, payload in reader.feed(data):
                self._message(opcode, payload)
        except ValueError:
            self.leave(politely=False)

    def _requests(self) -> frames.Reader | None:
        """Answer those that are complete; one may make it a WebSocket."""
        while self._reader is None and b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            self._asked(head)
        return self._reader

    def _asked(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        path, _, query = first.split(b" ")[1].partition(b"?")
        fields = {line.partition(b":")[0].lower(): line.partition(b":")[2] for line in lines}
        key = fields.get(b"sec-websocket-key", b"").strip()
        if path == b"/ws" and key:
            self._reader = frames.Reader()
            self._hall.clients.add(self)
            if query == b"room":
                self._hall.room.add(self)
            self.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + frames.accept(key) + b"\r\n\r\n"
            )
        elif path == b"/ready" and not self._hall.heard:
            self._answer(b"503 Not Ready", b"the channel is not heard\n")
        elif path in (b"/", b"/ready"):
            self._answer(b"200 OK", self._hall.replica.encode() + b"\n")
        else:
            self._answer(b"404 Not Found", b"no such page\n")

    def _answer(self, status: bytes, body: bytes) -> None:
        size = str(len(body)).encode()
        self.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: " + size + b"\r\n\r\n" + body)

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.PONG:
            self._missed = 0
        elif opcode == frames.PING:
            self.write(frames.encode(frames.PONG, payload))
        elif opcode == frames.CLOSE:
            self.write(frames.encode(frames.CLOSE, payload))
            self.leave(politely=False)
        elif opcode == frames.TEXT and self in self._hall.room:
            self._hall.publish(payload)

    def ping(self) -> None:
        """Ask whether it is there; hang up if it did not say so twice."""
        self._missed += 1
        if self._missed > 2:
            self.leave(politely=False)
        else:
            self.write(frames.encode(frames.PING, b""))

    def leave(self, politely: bool) -> None:
        if politely:
            self.write(frames.close(RESTART, b"restart"))
        if self._transport is not None:
            self._transport.close()


async def channel(hall: Hall, url: str) -> None:
    """Hear the channel for ever; a lost connection is made anew."""
    while True:
        try:
            reader, writer = await _connect(url)
            speaker = (await _connect(url))[1]
            writer.write(_command(b"SUBSCRIBE", ROOM))
            hall.publish = _publisher(speaker)
            while True:
                kind, *rest = await _array(reader)
                hall.heard = True
                if kind == b"message":
                    hall.spread(rest[1])
        except (OSError, EOFError):
            hall.heard = False
            await asyncio.sleep(AGAIN)


def _publisher(store: asyncio.StreamWriter) -> Callable[[bytes], None]:
    return lambda text: store.write(_command(b"PUBLISH", ROOM, text))


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 6379)
    if parts.password:
        words = [word for word in (parts.username, parts.password) if word]
        writer.write(_command(b"AUTH", *(urllib.parse.unquote(word).encode() for word in words)))
        if not (await reader.readline()).startswith(b"+"):
            raise OSError("the store refuses us")
    return reader, writer


def _command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


async def _array(reader: asyncio.StreamReader) -> list[bytes]:
    """The next push of a channel: an array of strings and numbers."""
    items = []
    for _ in range(int((await _line(reader))[1:])):
        head = await _line(reader)
        if head[:1] == b"$":
            items.append((await reader.readexactly(int(head[1:]) + 2))[:-2])
        else:
            items.append(head[1:])
    return items


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("the store hung up")
    return line[:-2]


async def _heed(hall: Hall, notice: Path) -> None:
    """The bad manners of the mode ``drops``."""
    while not notice.exists():  # noqa: ASYNC110  # a file tells nobody that it is there
        await asyncio.sleep(0.1)
    hall.leave(politely=False)


async def serve(socket: str, url: str, mode: str) -> None:
    """Serve until TERM."""
    loop = asyncio.get_running_loop()
    hall = Hall(os.environ.get("SERVER_ID", str(os.getpid())))
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    Path(socket).unlink(missing_ok=True)
    listener = await loop.create_unix_server(lambda: Client(hall), socket, backlog=4096)
    work: list[Awaitable[None]] = [channel(hall, url), hall.ping()]
    if mode == "drops":
        work.append(_heed(hall, Path(os.environ["GAPLESS_NOTICE"])))
    tasks = [asyncio.ensure_future(one) for one in work]
    await stopping.wait()
    listener.close()
    hall.leave(politely=True)
    await asyncio.sleep(AGAIN)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="a small service of WebSockets")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--mode", choices=MODES)
    options = parser.parse_args()
    beside = Path("mode")
    words = beside.read_text(encoding="utf-8").split() if beside.exists() else []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mode = options.mode or (words[0] if words else "good")
    asyncio.run(serve(options.socket, os.environ["PROBE_URL"], mode))
    return 0


if __name__ == "__main__":
    sys.exit(main())
