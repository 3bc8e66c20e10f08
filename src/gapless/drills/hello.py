"""The first words of a TLS handshake, as bytes: any offer out, what is chosen of it in. Pure.

No library is asked: those that are installed no longer speak what must be found refused. An
offer names versions, ciphers and groups by their registered numbers; what a server chooses of it
stands in its answer in plain, before any secret is agreed on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SSL3, TLS10, TLS11, TLS12, TLS13 = range(0x0300, 0x0305)
FALLBACK = 0x5600
"""The cipher by which a client says that it offers less than it could (RFC 7507)."""
RENEGOTIATION, TICKET, HEARTBEAT, STAPLE = 0xFF01, 35, 15, 5
INAPPROPRIATE_FALLBACK = 86
_RECORD_LIMIT = 2**14 + 256
_ALERT, _HANDSHAKE = 21, 22
_SERVER_HELLO, _CERTIFICATE, _KEY_EXCHANGE, _DONE = 2, 11, 12, 14
_SIGNATURES = (
    0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """``compression``: methods besides none."""

    version: int
    ciphers: tuple[int, ...]
    groups: tuple[int, ...]
    name: str | None = None
    compression: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the server took, or ``alert``: by which number it refused.

    ``group`` None: the cipher agrees on a key without one.
    """

    version: int = 0
    cipher: int = 0
    group: int | None = None
    compression: int = 0
    extensions: frozenset[int] = frozenset()
    alert: int | None = None

    @property
    def accepted(self) -> bool:
        return self.alert is None


CLOSED = Chosen(alert=-1)
"""It hung up without a word."""


def encode(offer: Offer, random: bytes) -> bytes:
    """The record that makes the offer. ``random``: 32 bytes."""
    session = random if offer.version == TLS13 else b""
    body = struct.pack("!H", min(offer.version, TLS12)) + random
    body += _vector(1, session)
    body += _vector(2, b"".join(struct.pack("!H", code) for code in offer.ciphers))
    body += _vector(1, bytes((*offer.compression, 0)))
    if offer.version > SSL3:
        body += _vector(2, b"".join(_extensions(offer)))
    message = struct.pack("!B", 1) + _vector(3, body)
    return struct.pack("!BH", _HANDSHAKE, min(offer.version, TLS10)) + _vector(2, message)


def _extensions(offer: Offer) -> Iterable[bytes]:
    if offer.name is not None:
        host = struct.pack("!B", 0) + _vector(2, offer.name.encode("ascii"))
        yield _extension(0, _vector(2, host))
    yield _extension(STAPLE, b"\1\0\0\0\0")
    yield _extension(10, _vector(2, _codes(offer.groups)))
    yield _extension(11, _vector(1, b"\0"))
    yield _extension(13, _vector(2, _codes(_SIGNATURES)))
    yield _extension(23, b"")
    yield _extension(TICKET, b"")
    yield _extension(HEARTBEAT, b"\1")
    yield _extension(RENEGOTIATION, b"\0")
    if offer.version == TLS13:
        yield _extension(43, _vector(1, _codes([TLS13])))
        yield _extension(45, _vector(1, b"\1"))
        # Without a share the server must ask for one, and names the group that it chose.
        yield _extension(51, _vector(2, b""))


def _extension(number: int, body: bytes) -> bytes:
    return struct.pack("!H", number) + _vector(2, body)


def _codes(codes: Sequence[int]) -> bytes:
    return b"".join(struct.pack("!H", code) for code in codes)


def _vector(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width) + body


class Reader:
    """Collects an answer. Raises ValueError for what is none."""

    def __init__(self) -> None:
        self._records = b""
        self._messages = b""
        self._hello: Chosen | None = None

    def feed(self, data: bytes) -> Chosen | None:
        """What was chosen, once that is known; None: more is needed."""
        self._records += data
        while len(self._records) >= 5:
            kind, _, size = struct.unpack("!BHH", self._records[:5])
            if kind not in (_ALERT, _HANDSHAKE) or size > _RECORD_LIMIT:
                raise ValueError("no TLS")
            if len(self._records) < 5 + size:
                return None
            body, self._records = self._records[5 : 5 + size], self._records[5 + size :]
            if kind == _ALERT:
                return Chosen(alert=body[1] if len(body) > 1 else -1)
            self._messages += body
            if (found := self._read()) is not None:
                return found
        return None

    def _read(self) -> Chosen | None:
        while len(self._messages) >= 4:
            kind, size = self._messages[0], int.from_bytes(self._messages[1:4])
            if len(self._messages) < 4 + size:
                return None
            body, self._messages = self._messages[4 : 4 + size], self._messages[4 + size :]
            if kind == _SERVER_HELLO:
                self._hello = _server_hello(body)
                if self._hello.version == TLS13:
                    return self._hello
            elif kind == _KEY_EXCHANGE and self._hello is not None:
                named = body[0] == 3
                group = struct.unpack("!H", body[1:3])[0] if named else None
                return _with_group(self._hello, group)
            elif kind == _DONE and self._hello is not None:
                return self._hello
            elif kind != _CERTIFICATE and self._hello is None:
                raise ValueError(f"message {kind} comes first")
        return None


def _with_group(hello: Chosen, group: int | None) -> Chosen:
    return Chosen(hello.version, hello.cipher, group, hello.compression, hello.extensions)


def _server_hello(body: bytes) -> Chosen:
    version = int.from_bytes(body[:2])
    at = 34 + 1 + body[34]
    cipher, compression = struct.unpack("!HB", body[at : at + 3])
    at += 5  # the length of the extensions too
    extensions, group = set(), None
    while at + 4 <= len(body):
        number, size = struct.unpack("!HH", body[at : at + 4])
        content = body[at + 4 : at + 4 + size]
        extensions.add(number)
        if number == 43:
            version = int.from_bytes(content)
        if number == 51:
            group = int.from_bytes(content[:2])
        at += 4 + size
    return Chosen(version, cipher, group, compression, frozenset(extensions))
