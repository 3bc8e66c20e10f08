"""The clients of a Socket.IO server in this process, and how they are asked to come back.

Disconnecting them as the library does tells a browser to stay away. Ending what carries them tells
it to come back: for WebSockets that is the close frame of ``drain``, for those that poll it is the
end of their Engine.IO session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

EVENT = "reconnect"
KEY = "gapless.socket"
"""Where a WebSocket's scope names who can close it."""
BEAT = 0.05
"""Seconds between the word and the close, for the word to get out."""


class Clients:
    """``io``: a ``socketio.AsyncServer``. Whatever message queue it has is left alone."""

    def __init__(self, io: Any) -> None:
        self._io = io
        self._carried: dict[int, str] = {}

    async def tell(self, socket: Any) -> None:
        """Tell whoever is behind this WebSocket; nobody is where it is not Socket.IO."""
        if (session := self._session(socket)) is not None:
            await self._tell(session)
            await asyncio.sleep(BEAT)

    def look(self) -> None:
        """See which sessions began as a WebSocket. Once for many goodbyes."""
        self._carried = {
            id(environ["asgi.scope"].get(KEY)): str(session)
            for session, environ in self._io.environ.items()
            if "asgi.scope" in environ
        }

    def _session(self, socket: Any) -> str | None:
        """Id of the Engine.IO session that this WebSocket carries."""
        # Upgraded from polling: the client names its session. Else it began with this socket.
        for named in parse_qs(socket.query).get("sid", []):
            if named in self._io.eio.sockets:
                return str(named)
        return self._carried.get(id(socket))

    async def _tell(self, session: str) -> None:
        manager = self._io.manager
        for namespace in list(manager.get_namespaces()):
            sid = manager.sid_from_eio_sid(session, namespace)
            if sid is not None:
                # Past the message queue: the client is here, and the queue may be down.
                await self._io.emit(EVENT, {}, to=sid, namespace=namespace, ignore_queue=True)

    def polling(self) -> Iterator[Poller]:
        """Those that have no WebSocket."""
        for session, socket in list(self._io.eio.sockets.items()):
            if socket.connected and not socket.upgraded and not socket.closed:
                yield Poller(self, session)

    async def end(self, session: str) -> None:
        """Tell a client that polls, and end its session."""
        socket = self._io.eio.sockets.get(session)
        await self._tell(session)
        # The word answers the poll that waits. Without a word of the server's closing: clients
        # take that for a wish to be left alone; an unknown session they begin anew.
        await socket.close(wait=False, abort=True)
        self._io.eio.sockets.pop(session, None)

    def here(self, session: str) -> bool:
        """Whether the session still exists."""
        socket = self._io.eio.sockets.get(session)
        return socket is not None and not socket.closed and not socket.upgraded


class Poller:
    """A client without a WebSocket."""

    def __init__(self, clients: Clients, session: str) -> None:
        self._clients, self._session = clients, session

    @property
    def here(self) -> bool:
        """Its session is open."""
        return self._clients.here(self._session)

    async def part(self) -> None:
        """Tell it, and end its session."""
        await self._clients.end(self._session)
