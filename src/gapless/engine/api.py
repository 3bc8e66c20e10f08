"""The controller's HTTP face on an owner-only Unix socket (docs/api.md).

A long operation is a task of its own: the stream only listens to it, so hanging up stops nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gapless import __version__, errors
from gapless.engine import asked, build, events, notify, status, usage
from gapless.engine.client import BEGIN_BY
from gapless.engine.controller import Controller
from gapless.engine.inside import Inside
from gapless.engine.operations import Operations
from gapless.engine.planning import Planning

LAST_WORDS = 5.0
"""Seconds that streams have for their end when the controller ends."""
KEPT_EVERY = 1.0
"""Seconds between looks at the API's own socket."""
Operation = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Api:
    """Routes to the loop and its operations."""

    def __init__(
        self, controller: Controller, operations: Operations, *, supervised: bool = False
    ) -> None:
        self.c = controller
        self.supervised = supervised
        self.build = build.digest()
        self.operations = operations
        self.planning = Planning(controller, operations)
        self.inside = Inside(controller)
        self._tasks: set[asyncio.Task[events.Event]] = set()
        self._runner: web.AppRunner | None = None

    async def serve(self) -> None:
        """Listen. The socket's directory entry is replaced: the lock says that it is ours."""
        app = web.Application(client_max_size=8 * 1024 * 1024)
        for path, read in self._reads().items():
            app.router.add_get(path, _reading(read))
        for path, operation in self._streams().items():
            app.router.add_post(path, self._streaming(operation))
        app.router.add_post("/v1/plan", _posting(self.planning.plan))
        app.router.add_post("/v1/connect", _posting(self._connect))
        app.router.add_post("/v1/handover", _posting(self._handover))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None  # noqa: S101  # set by serve
        socket = self.c.site.paths.api
        socket.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(socket)).start()
        finally:
            os.umask(before)

    async def keep(self) -> None:
        """Listen again whenever the socket's entry is gone: whoever clears the run directory
        must not lock the operator out. For ever; cancel it."""
        while True:
            await asyncio.sleep(KEPT_EVERY)
            notify.tell("WATCHDOG=1")
            if not self.c.site.paths.api.exists():
                with contextlib.suppress(errors.GaplessError, OSError):
                    self.c.site.paths.make()
                    await self._listen()
                    self.c.note("the run directory was cleared: its sockets are gone")

    async def close(self) -> None:
        """Stop listening, once running streams had a moment to deliver their end.

        What then still runs is a one-off that nobody waits for: it ends with the controller.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._runner is not None:
            await self._runner.shutdown()
            await self._runner.cleanup()
        self.c.site.paths.api.unlink(missing_ok=True)

    def _reads(self) -> dict[str, Callable[[web.Request], Awaitable[Any]]]:
        return {
            "/v1/ping": self._ping,
            "/v1/status": self._status,
            "/v1/describe": self._describe,
            "/v1/top": self._top,
            "/v1/history": self._history,
            "/v1/releases": self._releases,
            "/v1/counters": self._counters,
            "/v1/traffic": self._traffic,
        }

    def _streams(self) -> dict[str, Operation]:
        ops = self.operations
        return {
            "/v1/up": ops.up,
            "/v1/down": ops.down,
            "/v1/build": ops.build,
            "/v1/deploy": ops.deploy,
            "/v1/rollback": ops.rollback,
            "/v1/prune": ops.prune,
            "/v1/abort": ops.abort,
            "/v1/scale": ops.scale,
            "/v1/restart": ops.restart,
            "/v1/stop": ops.stop,
            "/v1/start": ops.start,
            "/v1/maintenance": ops.maintenance,
            "/v1/proven": ops.proven,
            "/v1/renew": ops.renew,
            "/v1/wait": ops.wait,
            "/v1/run": self.inside.run,
        }

    # -- reading ------------------------------------------------------------------------------

    async def _ping(self, _: web.Request) -> dict[str, Any]:
        if self.c.stopping:
            raise errors.NoController(f"{self.c.site.paths.stack}: the controller ends")
        return {
            "pid": os.getpid(),
            "version": __version__,
            "build": self.build,
            "supervised": self.supervised,
            "stack": self.c.site.paths.stack,
            "config_file": str(self.operations.folder.file),
            "rounds": self.c.rounds,
        }

    async def _handover(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.inside.under_way:
            raise errors.Refused(
                f"handover: gapless run {', '.join(self.inside.under_way)} is under way",
                hint="it would end with this controller; wait for it, or stop it",
            )
        return await self.operations.handover(body)

    async def _status(self, _: web.Request) -> dict[str, Any]:
        return status.report(self.c, await self.c.vitals.read())

    async def _describe(self, request: web.Request) -> Any:
        name = request.query.get("id", "")
        whole = status.report(self.c, await self.c.vitals.read())
        if name == "edge":
            servers = self.c.observed.edge.servers.values()
            return {**whole["edge"], "servers": [_plain(server) for server in servers]}
        for entry in (*whole["services"], *whole["data"]):
            if entry["name"] == name:
                return entry
            for found in entry.get("replicas", ()):
                if name in (found["id"], found["id"].partition("@")[0]):
                    return {**found, "log": str(self.c.site.runtime.log(found["id"]))}
        raise errors.UsageError(f'nothing is named "{name}"', hint="gapless ps")

    async def _top(self, _: web.Request) -> dict[str, Any]:
        return await usage.top(self.c)

    async def _history(self, request: web.Request) -> Any:
        try:
            limit = int(request.query.get("limit", "50"))
        except ValueError:
            raise errors.UsageError("history: limit must be a number") from None
        return self.c.site.journal.tail(max(1, min(limit, 10_000)))

    async def _releases(self, _: web.Request) -> Any:
        return self.planning.releases()

    async def _counters(self, _: web.Request) -> Any:
        return {name: _plain(c) for name, c in (await self.c.site.edge.counters()).items()}

    async def _traffic(self, request: web.Request) -> dict[str, Any]:
        try:
            seconds = float(request.query.get("seconds", "60"))
        except ValueError:
            raise errors.UsageError("traffic: seconds must be a number") from None
        return await usage.traffic(self.c, seconds)

    async def _connect(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name, actor = str(body.get("name") or ""), asked.actor(body)
        return self.inside.connect(name, actor)

    # -- streams ------------------------------------------------------------------------------

    def _streaming(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _body(request)
            if _too_late(request):
                return _given_up()
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            with self.c.events.listen() as queue:
                task = asyncio.create_task(_to_end(operation, body))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                with contextlib.suppress(ConnectionError):
                    await response.prepare(request)
                async for event in events.until(queue, task):
                    if event.get("for") not in (None, id(body)):
                        continue
                    text = self.c.mask(json.dumps(event, default=str))
                    with contextlib.suppress(ConnectionError):
                        await response.write(text.encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await response.write_eof()
            return response

        return handle


async def _to_end(operation: Operation, body: Mapping[str, Any]) -> events.Event:
    """Run it; its result or its error as the end event."""
    try:
        result = await operation(body)
    except errors.GaplessError as error:
        return {
            "event": "end",
            "exit": error.exit_code,
            "message": error.message,
            "hint": error.hint,
            "result": error.detail.get("result", {}),
            "log": error.detail.get("log", []),
        }
    except (ValueError, KeyError, TypeError) as error:
        return _ended(2, f"bad request: {error!r}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _ended(4, f"{place}{error.strerror or error}", "free some space or mend its rights")
    return {**_ended(0, result.pop("message", "")), "result": result}


def _ended(code: int, message: str, hint: str | None = None) -> events.Event:
    return {"event": "end", "exit": code, "message": message, "hint": hint, "result": {}}


def _too_late(request: web.Request) -> bool:
    """Whether whoever asked has given up: we were stopped, or too busy, for too long."""
    try:
        return time.monotonic() > float(request.headers.get(BEGIN_BY, "inf"))
    except ValueError:
        return False


def _given_up() -> web.Response:
    late = errors.Refused("it came too late: whoever asked had given up; nothing was begun")
    return web.json_response(late.as_dict(), status=408, dumps=_dumps)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        value = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text='{"message": "not JSON", "exit_code": 2}') from None
    return value if isinstance(value, dict) else {}


def _reading(
    read: Callable[[web.Request], Awaitable[Any]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await read(request), dumps=_dumps)
        except errors.GaplessError as error:
            return web.json_response(error.as_dict(), status=400, dumps=_dumps)

    return handle


def _posting(
    operation: Callable[[Mapping[str, Any]], Awaitable[Any]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        body = await _body(request)
        if _too_late(request):
            return _given_up()
        return await _reading(lambda _: operation(body))(request)

    return handle


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str)


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
