"""A small HTTP service that can misbehave on request: ``python probe_app.py --socket PATH``.

The standard library alone, one file, quick to start: drills copy it into a scratch stack and
deploy versions of it. It serves on a Unix socket (``--socket``) or a port (``--port``):

    GET  /ready       200, or 503 in the mode ``never-ready``
    GET  /            200 with the replica's id
    GET  /slow?s=2    200; half of the body at once, the rest after so many seconds
    POST /echo        200 with the body that came
    ANY  /once?s=0.1  notes the request's id in the file $PROBE_LEDGER, waits, and answers 200
    GET  /ws          a WebSocket that is held, and told (1001) when the replica goes
    POST /turn?bad    from now on it is ``bad``, ``unready`` (503 at /ready alone) or ``good``

``--mode`` (or the first word of the file ``mode`` beside this one) is ``good``, ``crash`` (ends
with code 3 at start), ``never-ready``, or ``bad`` (ready, but answers 500 to all else).
TERM: no new connection, what is in flight ends, then it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import signal
import sys
from pathlib import Path

MODES = ("good", "crash", "never-ready", "bad")
TURNS = ("good", "bad", "unready")
SLOWEST = 30.0
LARGEST = 16 * 1024**2
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455: it proves that whoever answers knows what a WebSocket is."""
GOING_AWAY = b"\x88\x02\x03\xe9"
"""A frame that closes, with the code 1001."""


class Server:
    """Serves until told to stop; knows of each connection whether it is busy."""

    def __init__(self, mode: str, replica: str) -> None:
        self.mode = mode
        self.replica = replica
        self.stopping = asyncio.Event()
        self._leak = leak()
        self._leaked: list[bytes] = []
        self._writers: dict[asyncio.StreamWriter, bool] = {}
        self._clients: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection."""
        task = asyncio.create_task(self.client(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, any number of requests."""
        self._writers[writer] = False
        try:
            while not self.stopping.is_set():
                head = await reader.readuntil(b"\r\n\r\n")
                self._writers[writer] = True
                keep = await self._exchange(head, reader, writer)
                self._writers[writer] = False
                if not keep:
                    break
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._writers.pop(writer, None)
            writer.close()

    async def _exchange(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        fields = [line.split(":", 1) for line in lines if ":" in line]
        headers = {name.strip().lower(): value.strip() for name, value in fields}
        length = int(headers.get("content-length", "0"))
        if "transfer-encoding" in headers or length > LARGEST:
            writer.write(self._answer(411, b"a length is needed\n", last=True))
            await writer.drain()
            return False
        body = await reader.readexactly(length) if length else b""
        if self._leak and not target.startswith("/ready"):
            self._leaked.append(b"x" * self._leak)
        if target.startswith("/slow") and self.mode == "good":
            return await self._slowly(target, headers, writer)
        if target.startswith("/ws"):
            await self._hold(headers, reader, writer)
            return False
        if target.startswith("/once"):
            await once(target, headers)
        status, text = await self._handle(method, target, body)
        last = self.stopping.is_set() or headers.get("connection", "").lower() == "close"
        writer.write(self._answer(status, text, last=last))
        await writer.drain()
        return not last

    async def _slowly(
        self, target: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        """An answer whose beginning the client has already: nobody can ask anew unnoticed."""
        seconds = float(target.partition("s=")[2] or "2")
        last = headers.get("connection", "").lower() == "close"
        whole = self._answer(200, b"slow and steady\n", last=last)
        writer.write(whole[:-8])
        await writer.drain()
        await asyncio.sleep(min(seconds, SLOWEST))
        writer.write(whole[-8:])
        await writer.drain()
        return not last

    async def _hold(
        self,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """A WebSocket in which nobody says anything, until one of us goes."""
        writer.write(upgraded(headers.get("sec-websocket-key", "")))
        await writer.drain()
        left = asyncio.create_task(reader.read())
        told = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({left, told}, return_when=asyncio.FIRST_COMPLETED)
        if not left.done():
            writer.write(GOING_AWAY)
            await writer.drain()
        for task in (left, told):
            task.cancel()
        await asyncio.gather(left, told, return_exceptions=True)

    async def _handle(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        if path == "/ready":
            if self.mode == "never-ready":
                return 503, b"never ready: this version was made to be like that\n"
            if self.mode == "unready":
                return 503, b"not ready: it was told to be like that\n"
            return 200, b"ready\n"
        if path == "/turn" and method == "POST" and query in TURNS:
            self.mode = query
            return 200, query.encode() + b"\n"
        if self.mode == "bad":
            return 500, b"bad: this version was made to be like that\n"
        if path == "/echo":
            return (200, body) if method == "POST" else (405, b"POST only\n")
        if path in ("/", "/once"):
            return 200, self.replica.encode() + b"\n"
        return 404, b"no such page\n"

    def _answer(self, status: int, body: bytes, *, last: bool) -> bytes:
        head = (
            f"HTTP/1.1 {status} {'OK' if status < 400 else 'Fault'}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            f"X-Served-By: {self.replica}\r\n"
            f"Connection: {'close' if last else 'keep-alive'}\r\n\r\n"
        )
        return head.encode("latin-1") + body

    async def drain(self) -> None:
        """Close idle connections and wait for the busy ones."""
        for writer, busy in list(self._writers.items()):
            if not busy:
                writer.close()
        await asyncio.gather(*self._clients, return_exceptions=True)


def upgraded(key: str) -> bytes:
    """The answer that makes a connection a WebSocket."""
    told = hashlib.sha1(key.encode("latin-1") + MAGIC, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(told) + b"\r\n\r\n"
    )


async def once(target: str, headers: dict[str, str]) -> None:
    """Work that must not be done twice: it is on record before its answer is under way."""
    seconds = float(target.partition("s=")[2] or "0.1")
    record(headers.get("x-request-id", "-"))
    await asyncio.sleep(min(seconds, SLOWEST))


def record(id: str) -> None:
    """One line in a file that all replicas share, written at once: a kill cannot cut it."""
    with Path(os.environ["PROBE_LEDGER"]).open("a", encoding="ascii") as ledger:
        ledger.write(f"{id}\n")


async def serve(mode: str, socket: str | None, port: int | None) -> None:
    """Serve until TERM or INT."""
    server = Server(mode, os.environ.get("SERVER_ID", str(os.getpid())))
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stopping.set)
    if socket is not None:
        Path(socket).unlink(missing_ok=True)
        listener = await asyncio.start_unix_server(server.accept, socket, backlog=1024)
    else:
        listener = await asyncio.start_server(server.accept, "127.0.0.1", port, backlog=1024)
    await server.stopping.wait()
    listener.close()
    await server.drain()


def leak() -> int:
    """Bytes that each request costs for ever: $PROBE_LEAK in replicas of odd ordinals, else 0."""
    ordinal = os.environ.get("SERVER_ID", "").partition("@")[0].rpartition(".")[2]
    odd = ordinal.isdigit() and int(ordinal) % 2 == 1
    return int(os.environ.get("PROBE_LEAK", "0")) if odd else 0


def mode_beside() -> str:
    """The mode that lies beside this file, so that a deploy of another file is another mode."""
    place = Path(__file__).with_name("mode")
    words = place.read_text(encoding="utf-8").split() if place.exists() else []
    return words[0] if words else "good"


def main() -> int:
    parser = argparse.ArgumentParser(description="a small service that can misbehave")
    parser.add_argument("--socket")
    parser.add_argument("--port", type=int)
    parser.add_argument("--mode", choices=MODES)
    options = parser.parse_args()
    mode = options.mode or mode_beside()
    if mode == "crash":
        sys.stderr.write("probe: this version was made to crash at start\n")
        return 3
    if options.socket is None and options.port is None:
        parser.error("one of --socket and --port is needed")
    asyncio.run(serve(mode, options.socket, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
