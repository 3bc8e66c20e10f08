"""Open WebSockets of one process, and how they are asked to come back elsewhere.

A replica that leaves keeps its sockets until somebody cuts them, and then all clients come back in
the same second. Better manners: from the moment we are told, close each with code 1012 ("service
restart"), in random order, never more than so many a second. If the notice goes away again, so do
the goodbyes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gapless.app import asgi
from gapless.app.notice import LOOK, Notice, Passed, ours
from gapless.app.socketio import KEY, Clients

RESTART = 1012
SLIP = 0.05
"""Seconds that a goodbye may be late and still be counted as on time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most ``rate`` goodbyes a second; few sockets are spread over ``window`` seconds, or most
    of the announced time where that is shorter. The rate is kept even if not all get their turn."""

    rate: float = 200.0
    window: float = 5.0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.window < 0:
            raise ValueError("Pace: rate must be above 0, window not below")


def moments(
    count: int, pace: Pace, announced: float | None, chance: Callable[[], float]
) -> list[float]:
    """When each of ``count`` goodbyes is due, in seconds from now, ascending.

    ``announced``: seconds that we will be waited for, if known; ``chance`` gives [0, 1).
    """
    window = pace.window if announced is None else min(pace.window, 0.8 * announced)
    # Jitter can push one more into a second than the mean says: so aim one lower.
    step = max(window / max(count, 1), 1 / max(pace.rate - 1, pace.rate / 2))
    return [(n + chance()) * step for n in range(count)]


def paced(pace: Pace, announced: float | None) -> Pace:
    """The pace, at the rate of the notice where that is lower: others leave at the same time."""
    return pace if announced is None else Pace(min(pace.rate, announced), pace.window)


class _Guest(Protocol):
    """Someone to say goodbye to."""

    @property
    def here(self) -> bool: ...
    async def part(self) -> None: ...


class Drain:
    """ASGI middleware around everything that speaks WebSocket.

    ``pace``      how fast goodbyes are said
    ``socketio``  a ``socketio.AsyncServer``: its clients get the event ``reconnect`` first, and
                  those that poll are sent away, too
    ``code``      of the close frame
    ``term``      regard TERM as a notice as well; the server hears of it when the sockets are
                  closed, or after ``linger`` seconds. With servers that take signals from the
                  event loop itself (Hypercorn) the server hears of it at once
    """

    def __init__(  # settings, all by name, all with a default
        self,
        app: asgi.App,
        *,
        notice: Notice | None = None,
        pace: Pace | None = None,
        socketio: Any = None,
        code: int = RESTART,
        term: bool = True,
        linger: float = 8.0,
    ) -> None:
        self._app = app
        self.notice = notice or ours()
        self._pace = pace or Pace()
        self._clients = None if socketio is None else Clients(socketio)
        self._code, self._linger = code, linger
        self._term = term
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[_Socket] = set()
        self._follower: asyncio.Task[None] | None = None
        self._partings: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """WebSockets that are open now."""
        return len(self._open)

    @property
    def draining(self) -> bool:
        """Whether this process is leaving."""
        return self.notice.up

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        self._begin()
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] != "websocket":
            await self._app(scope, receive, send)
        else:
            socket = _Socket(self, scope, receive, send)
            self._open.add(socket)
            # In the scope itself: routes that are noted there must reach who is in front of us.
            scope[KEY] = socket
            try:
                await self._app(scope, socket.receive, socket.send)
            finally:
                self._open.discard(socket)

    async def _lifespan(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if self._follower is not None:
                self._follower.cancel()
            for parting in self._partings:
                parting.cancel()

    def _begin(self) -> None:
        """Follow the notice, in the loop that serves. Servers without lifespan exist, too."""
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._follower is not None and not self._follower.done():
            return
        first, self._loop = self._loop is None, loop
        self._follower = asyncio.create_task(self._follow())
        if self._term and first:
            self.notice.on_term(self._ending)

    def _ending(self, pass_on: Passed) -> None:
        """From a signal handler: what follows belongs into the loop."""
        if self._loop is None or self._loop.is_closed():
            pass_on()
        else:
            self._loop.call_soon_threadsafe(self._end, pass_on)

    def _end(self, pass_on: Passed) -> None:
        if not self._guests():
            pass_on()
            return
        parting = asyncio.create_task(self._emptied(pass_on))
        self._partings.add(parting)
        parting.add_done_callback(self._parted)

    async def _emptied(self, pass_on: Passed) -> None:
        try:
            async with asyncio.timeout(self._linger):
                while self._guests():  # noqa: ASYNC110  # a set has no event
                    await asyncio.sleep(LOOK / 4)
        except TimeoutError:
            pass
        pass_on()

    async def _follow(self) -> None:
        while True:
            # Again and again: those who come in while we are leaving must leave, too.
            if self.notice.up and (guests := self._guests()):
                await self._wave(guests)
            await asyncio.sleep(LOOK)

    def _guests(self) -> list[_Guest]:
        found: list[_Guest] = [socket for socket in self._open if socket.here]
        return found if self._clients is None else [*found, *self._clients.polling()]

    async def _wave(self, guests: list[_Guest]) -> None:
        """Say goodbye to these, until the notice goes away."""
        loop = asyncio.get_running_loop()
        random.shuffle(guests)
        if self._clients is not None:
            self._clients.look()
        begin = loop.time()
        rate = self.notice.rate()
        pace = paced(self._pace, rate)
        due = moments(len(guests), pace, self.notice.drain(), random.random)
        for guest, moment in zip(guests, due, strict=True):
            while (left := begin + moment - loop.time()) > 0:
                await asyncio.sleep(min(left, LOOK))
                if not self.notice.up:
                    return
            if self.notice.rate() != rate:
                return  # others leave as well by now: the next wave keeps the new pace
            # A loop that was held up goes on from here: catching up would break the pace.
            begin += max(0.0, -left - SLIP)
            if guest.here:
                # On its own: one slow client must not hold up the others.
                parting = asyncio.create_task(guest.part())
                self._partings.add(parting)
                parting.add_done_callback(self._parted)

    def _parted(self, parting: asyncio.Task[None]) -> None:
        self._partings.discard(parting)
        if not parting.cancelled():
            # Retrieved and dropped: a client that is gone already is what we wanted.
            parting.exception()

    async def tell(self, socket: _Socket) -> None:
        """A word before the socket is closed, to those that understand one."""
        if self._clients is not None:
            await self._clients.tell(socket)

    @property
    def code(self) -> int:
        """The close code."""
        return self._code


class _Socket:
    """Between server and application; after ``part`` the application sees a client that left."""

    def __init__(
        self, drain: Drain, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        self._drain, self._receive, self._send = drain, receive, send
        self.query = scope.get("query_string", b"").decode("latin-1")
        self._accepted = self._closed = False

    @property
    def here(self) -> bool:
        """Open, and not told to go."""
        return self._accepted and not self._closed

    async def receive(self) -> asgi.Message:
        message = await self._receive()
        self._closed |= message["type"] == "websocket.disconnect"
        return message

    async def send(self, message: asgi.Message) -> None:
        if self._closed:
            return
        self._accepted |= message["type"] == "websocket.accept"
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    async def part(self) -> None:
        """Close it, once."""
        await self._drain.tell(self)
        if self.here:
            self._closed = True
            close = {"type": "websocket.close", "code": self._drain.code, "reason": "restart"}
            await self._send(close)
