"""One HTTP/1.1 client connection that never tries anything twice.

Common client libraries send an idempotent request again by themselves when a reused connection
turns out to be cut; a drill that used one would not see the very fault it looks for. Here one
``exchange`` is one request on the wire, and its end is told exactly.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass, field

import httptools

OWN_FAULTS = frozenset({errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS})
"""The generator ran out of ports or descriptors: nothing is known about the stack."""


@dataclass(slots=True)
class Answer:
    """A complete answer. ``headers`` are lower-case; repeated ones are joined by a newline."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    last: bool = False
    """The server closes the connection after it."""


class Failure(Exception):
    """No complete answer. ``before_byte``: not one byte of an answer had come."""

    def __init__(self, kind: str, text: str, *, before_byte: bool) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.before_byte = before_byte


class Connection(asyncio.Protocol):
    """One request at a time. ``served`` counts complete answers: above 0 it is *reused*."""

    def __init__(self) -> None:
        self.served = 0
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._bytes = 0
        self._until_close = False

    @classmethod
    async def to(
        cls,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        source: str | None = None,
    ) -> Connection:
        """Connect, by TLS with a context of it; ``name``: who is asked for, where that is another.

        ``source``: one of this machine's own addresses, to come from. Raises Failure:
        ``refused``, ``connect`` or ``generator``.
        """
        sni = None if tls is None else name or host
        local = None if source is None else (source, 0)
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                cls, host, port, ssl=tls, server_hostname=sni, local_addr=local
            )
        except ConnectionRefusedError as error:
            raise Failure("refused", str(error), before_byte=True) from None
        except OSError as error:
            kind = "generator" if error.errno in OWN_FAULTS else "connect"
            raise Failure(kind, str(error), before_byte=True) from None
        return made

    async def exchange(self, request: bytes) -> Answer:
        """Send one request and wait for its whole answer. Raises Failure, and closes then."""
        if self._transport is None or not self.open:
            raise Failure("cut", "the connection is closed", before_byte=True)
        self._bytes = 0
        self._answer = Answer()
        self._until_close = False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            answer = await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None
        self.served += 1
        if answer.last:
            self.close()
        return answer

    def close(self) -> None:
        """Let go of the connection; safe to repeat."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def silent(self) -> bool:
        """Whether no byte of the present answer has come."""
        return self._bytes == 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # narrows; always true
        self._transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("malformed", "an upgrade that nobody asked for")
        except httptools.HttpParserError as error:
            self._fail("malformed", f"not HTTP: {error}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._until_close and exc is None:
            self._finish()
        elif exc is None:
            self._fail("cut", "closed before the answer was complete")
        else:
            self._fail("reset", str(exc) or type(exc).__name__)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers = self._answer.headers
        headers[key] = f"{headers[key]}\n{text}" if key in headers else text

    def on_headers_complete(self) -> None:
        answer = self._answer
        answer.status = self._parser.get_status_code()
        answer.last = not self._parser.should_keep_alive()
        framed = "content-length" in answer.headers or "transfer-encoding" in answer.headers
        self._until_close = not framed and answer.status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._answer.size += len(body)

    def on_message_complete(self) -> None:
        if self._answer.status < 200:
            self._answer = Answer()  # 1xx: the real answer follows
            return
        self._finish()

    def _finish(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)

    def _fail(self, kind: str, text: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failure(kind, text, before_byte=self.silent))
        elif self._transport is not None:
            self.close()


def request(
    method: str, path: str, host: str, *, body: int = 0, close: bool = False, cookie: str = ""
) -> bytes:
    """The bytes of one request; a POST body is ``body`` times the letter x."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: gapless-drill"]
    lines.append("Accept: */*")
    if cookie:
        lines.append(f"Cookie: {cookie}")
    if close:
        lines.append("Connection: close")
    payload = b""
    if method == "POST":
        payload = b"x" * body
        lines += [f"Content-Length: {body}", "Content-Type: application/octet-stream"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + payload
