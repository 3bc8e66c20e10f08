"""One light long-lived client: a WebSocket, or Socket.IO over one, in a few KiB.

It listens, answers pings, and tells how its connection ended. Thousands fit into a process.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Literal

from gapless.drills import frames

ABNORMAL = frozenset({None, 1006})
GOODBYE = b'42["reconnect"'
"""The Socket.IO event by which an application asks its clients to come back elsewhere."""
HEAD_LIMIT = 16 * 1024

Kind = Literal["websocket", "socketio"]


_ARRIVING = memoryview(bytearray(64 * 1024))
"""Shared by all callers, for what arrives is read at once: asyncio makes a buffer of 256 KiB for
each read of a plain protocol, which is most of the cost of a short text."""


class Caller(asyncio.BufferedProtocol):
    """``arrived`` is done once it is connected, with ConnectionError when it is refused.

    ``hear``: called with each message. ``ended``: done with whether there was a word before it.
    """

    __slots__ = (
        "_head",
        "_kind",
        "_reader",
        "_request",
        "_told",
        "_transport",
        "arrived",
        "ended",
        "hear",
    )

    def __init__(self, kind: Kind, path: str, host: str, hear: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.arrived: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[bool] = loop.create_future()
        self.hear = hear
        self._kind = kind
        self._request = upgrade(kind, path, host)
        self._head: bytes | None = b""
        self._reader = frames.Reader()
        self._told = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # narrows; always true
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.arrived.done():
            self.arrived.set_exception(ConnectionError("closed before it was connected"))
        if not self.ended.done():
            self.ended.set_result(self._told)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _ARRIVING

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_ARRIVING[:nbytes])
        if self._head is not None:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                if len(self._head) > HEAD_LIMIT:
                    self._refused("an endless answer")
                return
            self._head = None
            status = head.split(b" ", 2)[1:2]
            if status != [b"101"]:
                self._refused(f"HTTP {b''.join(status).decode('latin-1')}")
                return
            if self._kind == "websocket" and not self.arrived.done():
                self.arrived.set_result(None)
            data = rest
        try:
            for opcode, payload in self._reader.feed(data):
                self._message(opcode, payload)
        except ValueError:
            self.close()

    def _refused(self, why: str) -> None:
        if not self.arrived.done():
            self.arrived.set_exception(ConnectionError(why))
        self.close()

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.PING:
            self._send(frames.PONG, payload)
        elif opcode == frames.CLOSE:
            self._told = frames.close_code(payload) not in ABNORMAL
            self._send(frames.CLOSE, payload)
            self.close()
        elif opcode in (frames.TEXT, frames.BINARY):
            if self._kind == "socketio":
                self._packet(payload)
            else:
                self.hear(payload)

    def _packet(self, payload: bytes) -> None:
        """One Engine.IO packet, version 4."""
        if payload[:1] == b"2":
            self._send(frames.TEXT, b"3" + payload[1:])
        elif payload[:1] == b"0":
            self._send(frames.TEXT, b"40")
        elif payload[:2] == b"40":
            if not self.arrived.done():
                self.arrived.set_result(None)
        elif payload[:2] == b"44":
            self._refused("the application refuses the connection")
        elif payload.startswith(GOODBYE) or payload[:2] == b"41" or payload[:1] == b"1":
            self._told = True
            self.close()
        elif payload[:2] == b"42":
            self.hear(payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames.encode(opcode, payload, mask=True))

    def say(self, text: bytes) -> None:
        """Send a text."""
        self._send(frames.TEXT, text)

    def close(self) -> None:
        """Hang up; safe to repeat."""
        if self._transport is not None:
            self._transport.close()


def upgrade(kind: Kind, path: str, host: str) -> bytes:
    """The request that asks for a WebSocket."""
    if kind == "socketio":
        path = f"{path.rstrip('/')}/?EIO=4&transport=websocket"
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: gapless-drill",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
