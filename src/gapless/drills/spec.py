"""What the load generator is told, as values that travel as JSON."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from gapless import errors
from gapless.model import units


class Stream(units.Model):
    """One kind of request, sent over and over.

    ``rate`` is in requests/s over all clients: *open loop*, each request has its time in a
    schedule and its latency counts from that time, so that a stall is not hidden by clients that
    wait for it. Without a rate: *closed loop*, each client sends as soon as it has its answer.
    """

    name: str
    path: units.UrlPath
    method: Literal["GET", "POST"] = "GET"
    rate: Annotated[float, Field(gt=0, le=50_000)] | None = None
    clients: Annotated[int, Field(ge=1, le=2_000)] = 8
    keep_alive: bool = True
    body: Annotated[int, Field(ge=0, le=16 * 1024**2)] = 64
    slow: bool = False
    """Judged by completion only; its times stay out of the percentiles."""
    cookie: str | None = None
    """Name of the affinity cookie: each client keeps what it gets and reports when it changes."""
    forged: tuple[str, ...] = ()
    """Values sent instead of the cookie that the server gave, in turn."""


class Sockets(units.Model):
    """Long-lived clients that hold a connection and come back when told to go."""

    kind: Literal["socketio", "websocket"]
    path: units.UrlPath
    clients: Annotated[int, Field(ge=1, le=10_000)] = 50


class Spec(units.Model):
    """A whole run. Bounded: it ends by itself after ``seconds``, or once ``requests`` are sent."""

    url: str
    host: str | None = None
    streams: tuple[Stream, ...] = ()
    sockets: tuple[Sockets, ...] = ()
    seconds: Annotated[float, Field(gt=0, le=7200)] = 60.0
    requests: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0, le=600)] = 30.0
    server_header: str = "x-served-by"
    keep_failures: Annotated[int, Field(ge=0, le=1000)] = 200

    def target(self) -> tuple[str, int]:
        """Host and port to connect to. Raises UsageError unless it is this machine's."""
        return own_address(self.url)


def is_secure(url: str) -> bool:
    """Whether it is reached by TLS."""
    return url.startswith("https:")


def client_context(url: str) -> ssl.SSLContext | None:
    """How clients of a drill speak TLS there; None: they do not.

    They believe any certificate: what is measured is whether answers come, from an address of
    this machine; whether the certificate is good is what the drill ``tls`` looks at.
    """
    if not is_secure(url):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def one_connection(
    url: str, timeout: float, source: str | None = None, name: str | None = None
) -> http.client.HTTPConnection:
    """For a single question outside the load; ``source``: from which of our addresses.

    ``name``: whom TLS asks for, where that is not the address.
    """
    host, port = own_address(url)
    context = client_context(url)
    where = None if source is None else (source, 0)
    if context is None:
        return http.client.HTTPConnection(host, port, timeout=timeout, source_address=where)
    return _Named(name or host, context, host, port, timeout=timeout, source_address=where)


class _Named(http.client.HTTPConnection):
    """By TLS, to an address, for a name."""

    def __init__(self, name: str, context: ssl.SSLContext, *where: Any, **how: Any) -> None:
        super().__init__(*where, **how)
        self._name, self._context = name, context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


def own_address(url: str) -> tuple[str, int]:
    """Host and port of a URL whose host is an address of this very machine.

    A load generator that can be pointed at strangers is a weapon: it refuses, whoever asks.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or parts.username is not None or not _is_ours(host):
        raise errors.UsageError(
            f"{url}: drills only send to this stack's own edge on this machine",
            hint="drills take paths, never addresses",
        )
    return host, parts.port or (443 if is_secure(url) else 80)


def _is_ours(host: str) -> bool:
    """Only an address of one of our own interfaces can be bound; names are not looked up."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.bind((str(address), 0))
        return not (address.is_unspecified or address.is_multicast)
    return False
