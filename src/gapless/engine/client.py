"""The other end of the controller's API: plain http.client, because start-up time is a feature.

Requests are JSON; a long operation answers with one JSON object a line (``event``: ``step``,
``note``, ``build``, ``progress``, last of all ``end`` with ``exit``, ``message``, ``hint`` and
``result``). Hanging up does not stop the operation.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from gapless import errors
from gapless.engine.paths import Paths

ANSWER = 10.0
"""Seconds until a controller that says nothing at all counts as silent."""
BEGIN_BY = "Gapless-Begin-By"
"""Header: CLOCK_MONOTONIC, in seconds, after which a request is not begun any more. One that was
given up must not be carried out when a stopped controller wakes."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self.raw: socket.socket | None = None
        """The socket itself, also where an answer without keep-alive has taken it over."""

    def connect(self) -> None:
        self.sock = self.raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RemoteError(errors.GaplessError):
    """An error that the controller reported; it keeps its exit code."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("message", "the controller failed")), hint=body.get("hint"))
        self.detail = body
        self._code = int(body.get("exit_code", 1))

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # per instance: the remote one's
        return self._code


def _line(
    connection: _UnixConnection, response: http.client.HTTPResponse, until: float | None
) -> bytes:
    if until is not None and connection.raw is not None:
        connection.raw.settimeout(max(0.001, until - time.monotonic()))
    return response.readline()


class Client:
    """Talks to one stack's controller. Every method raises NoController when none answers."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def get(self, path: str, *, timeout: float = 10.0) -> Any:
        """GET and decode one JSON answer."""
        return self._once("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any] | None = None, *, timeout: float = 60.0) -> Any:
        """POST and decode one JSON answer."""
        return self._once("POST", path, body or {}, timeout)

    def stream(
        self, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """POST a long operation and yield its events; the last has ``event == "end"``.

        Raises WorkFailed when ``timeout`` seconds are over before it ended, NoController when
        the controller went away before that.
        """
        until = None if timeout is None else time.monotonic() + timeout
        first = ANSWER if timeout is None else min(timeout, ANSWER)
        connection, response = self._open("POST", path, body or {}, first)
        try:
            if response.status >= 400:
                raise RemoteError(_decoded(response))
            if until is None and connection.raw is not None:
                connection.raw.settimeout(None)  # it has answered; the work takes its time
            while line := _line(connection, response, until):
                event = json.loads(line)
                yield event
                if event.get("event") == "end":
                    return
            raise http.client.IncompleteRead(b"")
        except TimeoutError:
            raise errors.WorkFailed(
                f"{self.paths.stack}: not done within {timeout:g} s; what was begun goes on",
                hint="gapless ps",
            ) from None
        except (http.client.HTTPException, ConnectionError):
            raise errors.NoController(
                f"{self.paths.stack}: the controller went away before the end",
                hint="gapless up -d starts it again; it adopts what runs",
            ) from None
        finally:
            connection.close()

    def alive(self) -> bool:
        """Whether a controller answers."""
        try:
            self.get("/v1/ping", timeout=2.0)
        except errors.GaplessError:
            return False
        return True

    def _once(self, method: str, path: str, body: Any, timeout: float) -> Any:
        connection, response = self._open(method, path, body, timeout)
        try:
            payload = _decoded(response)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise RemoteError(payload or {})
        return payload

    def _open(
        self, method: str, path: str, body: Any, timeout: float | None
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(str(self.paths.api), timeout)
        try:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"}
            if method == "POST" and timeout is not None:
                headers[BEGIN_BY] = f"{time.monotonic() + timeout:.3f}"
            connection.request(method, path, data, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> errors.NoController:
        """Why nobody answers: there is none, or the one that holds the lock hangs."""
        from gapless.engine import offline

        with contextlib.suppress(errors.GaplessError):
            held = offline.lock(self.paths)
            if held["held"]:
                return errors.NoController(
                    f"{self.paths.stack}: the controller ({held['holder']}) does not answer",
                    hint=hang_hint(held["holder"]),
                )
        gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        message = "no controller runs" if gone else f"no controller answers ({error})"
        return errors.NoController(f"{self.paths.stack}: {message}", hint="gapless up -d")


def hang_hint(holder: str) -> str:
    """What to do about a controller that holds the lock and says nothing."""
    found = re.match(r"pid (\d+)", holder)
    if found is None:
        return "gapless lock status"
    return f"what runs goes on; end it with kill -9 {found[1]}, then gapless up -d adopts all"


def _decoded(response: http.client.HTTPResponse) -> Any:
    raw = response.read() or b"null"
    try:
        return json.loads(raw)
    except ValueError:
        return {"message": f"the controller failed (status {response.status}); its log says why"}
