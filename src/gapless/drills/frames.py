"""WebSocket frames (RFC 6455) as bytes, for either side. Without I/O, without extensions.

The standard library alone: the probe service takes this file along.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterator

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LARGEST = 1024**2
"""Bytes of a message; more is a fault of the other side."""
_FIN, _MASKED = 0x80, 0x80
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(key: bytes) -> bytes:
    """What a server answers to a client's ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  # so says the RFC


def encode(opcode: int, payload: bytes = b"", *, mask: bool = False) -> bytes:
    """One frame; clients have to mask theirs."""
    size = len(payload)
    bit = _MASKED if mask else 0
    if size < 126:
        head = struct.pack("!BB", _FIN | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", _FIN | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + _xor(payload, key)


def close(code: int, reason: bytes = b"", *, mask: bool = False) -> bytes:
    """A close frame."""
    return encode(CLOSE, struct.pack("!H", code) + reason, mask=mask)


def close_code(payload: bytes) -> int | None:
    """The code of a close frame's payload; None: it has none."""
    return struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None


class Reader:
    """Bytes in, messages out: opcode and whole payload. Raises ValueError on what is no frame."""

    __slots__ = ("_kept", "_opcode", "_parts")

    def __init__(self) -> None:
        self._kept = b""
        self._parts: list[bytes] | None = None
        self._opcode = TEXT

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """All messages that are complete with these bytes."""
        data = self._kept + data if self._kept else data
        at = 0
        while (frame := _frame(data, at)) is not None:
            first, payload, at = frame
            opcode, final = first & 0x0F, first & _FIN
            if opcode >= CLOSE or (final and opcode != CONTINUED):
                yield opcode, payload
            else:
                yield from self._part(opcode, payload, bool(final))
        self._kept = data[at:]

    def _part(self, opcode: int, payload: bytes, final: bool) -> Iterator[tuple[int, bytes]]:
        if opcode != CONTINUED:
            self._opcode, self._parts = opcode, []
        if self._parts is None:
            raise ValueError("a message goes on that never began")
        self._parts.append(payload)
        if sum(map(len, self._parts)) > LARGEST:
            raise ValueError("a message is too large")
        if final:
            whole, self._parts = b"".join(self._parts), None
            yield self._opcode, whole


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """First byte, payload, and where the next frame begins; None while it is not complete."""
    have = len(data) - at
    if have < 2:
        return None
    size, start = data[at + 1] & 0x7F, at + 2
    masked = data[at + 1] & _MASKED
    if size >= 126:
        wide = 2 if size == 126 else 8
        if have < 2 + wide:
            return None
        size = int.from_bytes(data[start : start + wide], "big")
        start += wide
    if size > LARGEST:
        raise ValueError("a frame is too large")
    body = start + (4 if masked else 0)
    if len(data) < body + size:
        return None
    payload = data[body : body + size]
    if masked:
        payload = _xor(payload, data[start:body])
    return data[at], payload, body + size


def _xor(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    long_key = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(long_key, "big")).to_bytes(size, "big")
