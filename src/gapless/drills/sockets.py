"""Clients that hold a connection, listen, and come back after it ends.

An end *with notice* is a close frame, a Socket.IO goodbye, or the event ``reconnect``; without
one the client was dropped. Cookies are kept, as a browser does: without them a client that
starts with long polling lands on another replica half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import socket
from typing import Any

import aiohttp

from gapless import errors
from gapless.drills import figures
from gapless.drills import spec as specs

GOODBYE = "reconnect"
"""The Socket.IO event by which an application asks its clients to come back elsewhere."""
ABNORMAL = frozenset({None, 1006})
"""Close codes that stand for: no close frame came."""
PAUSE = 0.5
"""Clients come back after a random time up to this many seconds, as well-behaved ones do."""
PATIENCE = 10.0
"""A client that cannot connect for so long (seconds) has been refused."""


class Crowd:
    """All long-lived clients of a run; what becomes of them is written into ``tally``."""

    def __init__(self, spec: specs.Spec, tally: figures.Sockets) -> None:
        self._spec = spec
        self._tally = tally
        self._stopping = asyncio.Event()

    async def hold(self, stopping: asyncio.Event) -> None:
        """Connect everybody and hold until the event; then everybody leaves by themselves."""
        self._stopping = stopping
        clients = []
        for group in self._spec.sockets:
            hold = self._socketio if group.kind == "socketio" else self._websocket
            if group.kind == "socketio":
                library()
            self._tally.clients += group.clients
            clients += [self._client(hold, group.path) for _ in range(group.clients)]
        await asyncio.gather(*clients)

    async def _client(self, hold: Any, path: str) -> None:
        told = False
        host, port = self._spec.target()
        secure = specs.client_context(self._spec.url)
        name = self._spec.host or (f"[{host}]" if ":" in host else host)
        base = f"http{'s' if secure else ''}://{name}:{port}"
        while not self._stopping.is_set():
            jar = aiohttp.CookieJar(unsafe=True)  # unsafe: the host may be an IP address
            try:
                reached = aiohttp.TCPConnector(ssl=secure or True, resolver=_Here(host))
                async with aiohttp.ClientSession(cookie_jar=jar, connector=reached) as session:
                    notice = await hold(session, base, path, told)
            except (aiohttp.ClientError, OSError, TimeoutError, ConnectionError):
                self._tally.refused += 1
                told = False
                await self._pause()
                continue
            if notice is None:
                return
            self._tally.open -= 1
            told = notice
            if notice:
                self._tally.told += 1
            else:
                self._tally.dropped += 1
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            wait = random.uniform(0, PAUSE)  # noqa: S311  # spreads clients, guards nothing
            await asyncio.wait_for(self._stopping.wait(), wait)

    def _arrived(self, told: bool) -> None:
        self._tally.connected += 1
        self._tally.open += 1
        if told:
            self._tally.moved += 1

    async def _websocket(
        self, session: aiohttp.ClientSession, base: str, path: str, told: bool
    ) -> bool | None:
        """Hold one WebSocket. True: ended with notice; False: without; None: we are leaving."""
        async with asyncio.timeout(PATIENCE):
            channel = await session.ws_connect(base + path)
        self._arrived(told)
        async with channel:
            ended = asyncio.create_task(self._drain(channel))
            leaving = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not ended.done():
                ended.cancel()
                return None
            return channel.close_code not in ABNORMAL

    async def _drain(self, channel: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async for _ in channel:
                pass

    async def _socketio(
        self, session: aiohttp.ClientSession, base: str, path: str, told: bool
    ) -> bool | None:
        """Hold one Socket.IO client; answers as ``_websocket`` does."""
        sio = library()
        client = sio.AsyncClient(reconnection=False, handle_sigint=False, http_session=session)
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(notice: bool) -> None:
            if not ended.done():
                ended.set_result(notice)

        async def on_disconnect(reason: str) -> None:
            code = getattr(client.eio.ws, "close_code", None)
            settle(reason == sio.AsyncClient.reason.SERVER_DISCONNECT or code not in ABNORMAL)

        async def on_goodbye(*_: Any) -> None:
            settle(True)

        client.on("disconnect", on_disconnect)
        client.on(GOODBYE, on_goodbye)
        try:
            await client.connect(base, socketio_path=path.strip("/"), wait_timeout=PATIENCE)
        except sio.exceptions.ConnectionError as error:
            raise ConnectionError(str(error)) from None
        self._arrived(told)
        leaving = asyncio.create_task(self._stopping.wait())
        waited: set[asyncio.Future[bool]] = {ended, asyncio.ensure_future(leaving)}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        notice = ended.result() if ended.done() else None
        await client.disconnect()
        return notice


class _Here(aiohttp.abc.AbstractResolver):
    """Every name is one address: that of the edge, by whichever name it is asked."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host, host=self._address, port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


def library() -> Any:
    """python-socketio, which only drills with Socket.IO clients need. Raises MissingSubject."""
    try:
        return importlib.import_module("socketio")
    except ImportError:
        raise errors.MissingSubject(
            "Socket.IO clients need python-socketio, which is not installed",
            hint="pip install 'gapless[drill]'",
        ) from None
