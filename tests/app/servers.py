"""Real servers with real applications in them, on a thread or in a process of their own."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from wsgiref import simple_server

import uvicorn

from gapless.app import asgi, wsgi
from gapless.drills import ports
from tests.examples import stores


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    base: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    request = urllib.request.Request(base + path, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return _answer(answer.status, answer)
    except HTTPError as answer:
        with answer:
            return _answer(answer.code, answer)


def _answer(status: int, answer: Any) -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(status, headers, answer.read())


@contextlib.contextmanager
def asgi_server(app: asgi.App, **settings: Any) -> Iterator[str]:
    """uvicorn on a thread; gives the address."""
    port = ports.reserve()
    config = uvicorn.Config(app, port=port, log_level="error", **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        stores.wait_for("uvicorn listens", lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def wsgi_server(app: wsgi.App) -> Iterator[str]:
    """The standard library's server on a thread; gives the address."""
    server = simple_server.make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()
