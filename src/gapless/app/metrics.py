"""``/metrics`` for Prometheus: requests by route and status, how long they took, open WebSockets.

Counted in this process, with nothing installed. A program with several worker processes on one
address needs ``prometheus_client`` to add them up: ``Metrics(prometheus_client)`` and its
``PROMETHEUS_MULTIPROC_DIR``; the page then shows the application's own metrics as well. Replicas
that gapless runs are one process each and have an address each.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from gapless.app import asgi, wsgi

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER = "other"
"""The label of what is not known: one for all, or strangers could make up any number of labels."""

_FORWARDED = frozenset((b"x-forwarded-for", b"forwarded"))
_FORWARDED_WSGI = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")

SECONDS = "http_request_duration_seconds"
SOCKETS = "websockets_open"
_HELP = {SECONDS: "Requests and how long they took.", SOCKETS: "WebSockets that are open."}
_TEXT = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, str, str]
"""(method, route, status)."""


class Sums(Protocol):
    """Where it is counted."""

    def took(self, labels: Labels, seconds: float) -> None: ...
    def sockets(self, change: int) -> None: ...
    def page(self) -> tuple[str, bytes]:
        """(content type, what is there to scrape)."""


class Own:
    """Counts in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._open = 0

    def took(self, labels: Labels, seconds: float) -> None:
        """One request."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(BUCKETS) + 1))
            counts[bisect_left(BUCKETS, seconds)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + seconds

    def sockets(self, change: int) -> None:
        """One more or one less is open."""
        with self._lock:
            self._open += change

    def page(self) -> tuple[str, bytes]:
        """Of this process alone, and it says so."""
        with self._lock:
            lines = [f"# of process {os.getpid()} alone", *self._lines()]
        return _TEXT, ("\n".join(lines) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        yield f"# HELP {SECONDS} {_HELP[SECONDS]}"
        yield f"# TYPE {SECONDS} histogram"
        for labels, counts in sorted(self._counts.items()):
            words = ",".join(
                f'{name}="{_escape(value)}"'
                for name, value in zip(("method", "route", "status"), labels, strict=True)
            )
            total = 0
            for bound, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                total += count
                yield f'{SECONDS}_bucket{{{words},le="{bound}"}} {total}'
            yield f"{SECONDS}_sum{{{words}}} {self._sums[labels]}"
            yield f"{SECONDS}_count{{{words}}} {total}"
        yield f"# HELP {SOCKETS} {_HELP[SOCKETS]}"
        yield f"# TYPE {SOCKETS} gauge"
        yield f"{SOCKETS} {self._open}"


class Client:
    """Counts with ``prometheus_client``, over all worker processes where that is set up."""

    def __init__(self, module: Any) -> None:
        self._module = module
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            importlib.import_module(f"{module.__name__}.multiprocess")
        names = ("method", "route", "status")
        self._seconds = module.Histogram(SECONDS, _HELP[SECONDS], names, buckets=BUCKETS)
        self._open = module.Gauge(SOCKETS, _HELP[SOCKETS], multiprocess_mode="livesum")

    def took(self, labels: Labels, seconds: float) -> None:
        """One request."""
        self._seconds.labels(*labels).observe(seconds)

    def sockets(self, change: int) -> None:
        """One more or one less is open."""
        self._open.inc(change)

    def page(self) -> tuple[str, bytes]:
        """All that the client's registry has."""
        registry = self._module.REGISTRY
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = self._module.CollectorRegistry()
            self._module.multiprocess.MultiProcessCollector(registry)
        return self._module.CONTENT_TYPE_LATEST, self._module.generate_latest(registry)


class Metrics:
    """``metrics.asgi(app)`` and ``metrics.wsgi(app)`` count, and answer at ``path``.

    ``client``  the module ``prometheus_client``, if several processes share an address
    ``public``  whether requests that came through a load balancer get the page, too
    ``route``   finds the route's pattern in a scope or an environ after the request, for frameworks
                that leave it nowhere we know; "" or None for unknown
    """

    def __init__(
        self,
        client: Any = None,
        *,
        path: str = "/metrics",
        public: bool = False,
        route: Callable[[Any], str | None] | None = None,
    ) -> None:
        if client is None and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            warnings.warn(
                "PROMETHEUS_MULTIPROC_DIR is set, but this counts in one process only:"
                " use Metrics(prometheus_client)",
                RuntimeWarning,
                stacklevel=2,
            )
        self._sums: Sums = Own() if client is None else Client(client)
        self._path, self._route, self._public = path, route, public

    async def _request(
        self, app: asgi.App, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        status = 500

        async def note(message: asgi.Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        begin = time.perf_counter()
        try:
            await app(scope, receive, note)
        finally:
            pattern = self._route(scope) if self._route else _asgi_route(scope)
            self._took(method, pattern, status, begin)

    async def _socket(
        self, app: asgi.App, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        opened = False

        async def note(message: asgi.Message) -> None:
            nonlocal opened
            if message["type"] == "websocket.accept" and not opened:
                opened = True
                self._sums.sockets(1)
            await send(message)

        try:
            await app(scope, receive, note)
        finally:
            self._sums.sockets(-1 if opened else 0)

    def _took(self, method: str, pattern: str | None, status: int, begin: float) -> None:
        known = method if method in METHODS else OTHER
        self._sums.took((known, pattern or OTHER, str(status)), time.perf_counter() - begin)

    def asgi(self, app: asgi.App) -> asgi.App:
        """In front of an ASGI application."""

        async def counted(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
            kind = scope["type"]
            if kind == "websocket":
                await self._socket(app, scope, receive, send)
            elif kind != "http":
                await app(scope, receive, send)
            elif self._path in asgi.paths(scope) and (self._public or not _sent_on(scope)):
                form, body = self._sums.page()
                await asgi.respond(send, scope["method"], 200, body, [("content-type", form)])
            else:
                await self._request(app, scope, receive, send)

        return counted

    def wsgi(self, app: wsgi.App) -> wsgi.App:
        """In front of a WSGI application. Counted until its answer is begun."""

        def counted(environ: wsgi.Environ, start: wsgi.Start) -> Iterable[bytes]:
            outside = any(name in environ for name in _FORWARDED_WSGI)
            if self._path in wsgi.paths(environ) and (self._public or not outside):
                form, body = self._sums.page()
                return wsgi.respond(environ, start, 200, body, [("Content-Type", form)])
            status, pattern = 500, None

            def note(line: str, *rest: Any) -> Any:
                nonlocal status, pattern
                status = int(line.split(" ", 1)[0])
                # Now: Flask takes its request out of the environ when it is done.
                pattern = self._route(environ) if self._route else _wsgi_route(environ)
                return start(line, *rest)

            method = environ["REQUEST_METHOD"]
            begin = time.perf_counter()
            try:
                return app(environ, note)
            finally:
                self._took(method, pattern, status, begin)

        return counted


def _sent_on(scope: asgi.Scope) -> bool:
    """Whether a load balancer stands between us and who asks."""
    return any(name in _FORWARDED for name, _ in scope["headers"])


def _asgi_route(scope: asgi.Scope) -> str | None:
    """Starlette and FastAPI leave their route, or at least the endpoint, in the scope."""
    pattern = getattr(scope.get("route"), "path", None)
    if isinstance(pattern, str):
        return pattern
    endpoint = scope.get("endpoint")
    return None if endpoint is None else getattr(endpoint, "__name__", type(endpoint).__name__)


def _wsgi_route(environ: wsgi.Environ) -> str | None:
    """Flask leaves its request in the environ."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    pattern = getattr(rule, "rule", None)
    return pattern if isinstance(pattern, str) else None


def django(resolve: Callable[[str], Any]) -> Callable[[Any], str | None]:
    """``Metrics(route=metrics.django(django.urls.resolve))``."""

    def route(request: Any) -> str | None:
        path = request["path"] if "path" in request else request.get("PATH_INFO", "")
        try:
            return "/" + str(resolve(path).route)
        except Exception:  # an address that is no route of the application
            return None

    return route


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
