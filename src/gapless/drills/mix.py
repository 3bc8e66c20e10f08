"""Which requests a drill sends: the application's own routes, in a mixture.

Fast GET paths with kept connections and with a connection a request, POST paths both ways, and
a few clients on the slow route.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from gapless import errors
from gapless.drills import spec as specs
from gapless.drills.base import Options, Target, published
from gapless.drills.state import State

SHARE = 0.4
"""Open loop runs at this share of the capacity that closed loop found."""
FASTEST = 4000.0
"""Requests/s over all streams: a drill proves a promise, it is no siege."""
SLOW_CLIENTS = 4
SOCKETS = 50


@dataclass(frozen=True, slots=True)
class Mix:
    """What to ask of which edge."""

    url: str
    get: tuple[str, ...]
    post: tuple[str, ...] = ()
    slow: str | None = None
    socketio: str | None = None
    host: str | None = None
    body: int = 64
    timeout: float = 30.0

    def connection(self, source: str | None = None) -> http.client.HTTPConnection:
        """For single questions, not open yet; ``source``: from which of our addresses."""
        return specs.one_connection(self.url, self.timeout, source, self.host)

    @property
    def headers(self) -> dict[str, str]:
        """What each of its requests says: who is asked for."""
        return {"Host": self.host} if self.host else {}

    def describe(self) -> str:
        """For people: ``GET /a /b, POST /c, slow /d, Socket.IO /e``."""
        parts = [f"GET {' '.join(self.get)}"]
        if self.post:
            parts.append(f"POST {' '.join(self.post)}")
        if self.slow:
            parts.append(f"slow {self.slow}")
        if self.socketio:
            parts.append(f"{SOCKETS} Socket.IO clients {self.socketio}")
        return ", ".join(parts)

    def closed(self) -> tuple[specs.Stream, ...]:
        """As fast as a handful of eager clients can."""
        kept = max(1, 6 // len(self.get))
        fresh = max(1, 3 // len(self.get))
        streams = []
        for path in self.get:
            streams += [
                specs.Stream(name=f"GET {path}", path=path, clients=kept),
                specs.Stream(
                    name=f"GET {path} (close)", path=path, clients=fresh, keep_alive=False
                ),
            ]
        for path in self.post:
            post = specs.Stream(
                name=f"POST {path}", path=path, method="POST", clients=2, body=self.body
            )
            streams.append(post)
            fresh_post = {"name": f"POST {path} (close)", "clients": 1, "keep_alive": False}
            streams.append(post.model_copy(update=fresh_post))
        return tuple(streams)

    def open(self, rates: Mapping[str, float]) -> tuple[specs.Stream, ...]:
        """The same at fixed rates, with clients to spare so that a stall is not hidden."""
        return tuple(
            stream.model_copy(update={"rate": rates[stream.name], "clients": 32})
            for stream in self.closed()
            if stream.name in rates
        )

    def slowly(self) -> tuple[specs.Stream, ...]:
        """The slow route, if there is one."""
        if self.slow is None:
            return ()
        path = self.slow
        return (specs.Stream(name=f"slow {path}", path=path, clients=SLOW_CLIENTS, slow=True),)

    def spec(self, streams: tuple[specs.Stream, ...], seconds: float, **more: object) -> specs.Spec:
        """A run of these streams against this edge."""
        return specs.Spec.model_validate(
            {
                "url": self.url,
                "host": self.host,
                "streams": streams,
                "seconds": seconds,
                "timeout": self.timeout,
                **more,
            }
        )

    def sockets(self) -> tuple[specs.Sockets, ...]:
        """The long-lived clients, if the application has any."""
        if self.socketio is None:
            return ()
        return (specs.Sockets(kind="socketio", path=self.socketio, clients=SOCKETS),)


def rates(requests: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Open-loop rates (requests/s) from what closed loop did in so many seconds. Pure."""
    found = {name: SHARE * number / seconds for name, number in requests.items() if number}
    total = sum(found.values())
    shrink = min(1.0, FASTEST / total) if total else 1.0
    return {name: max(1.0, rate * shrink) for name, rate in found.items()}


def choose(target: Target, state: State, options: Options) -> Mix:
    """The mixture for this stack, before any request is sent. Raises MissingSubject, UsageError."""
    service = published(target, state)
    table = target.stack.drill
    if target.production and (strange := set(options.post) - set(table.post)):
        raise errors.UsageError(
            f"--post {sorted(strange)[0]}: on production only what [drill] post declares is safe",
            hint=f'[drill] post = ["{sorted(strange)[0]}"]',
        )
    get = options.paths or table.get
    if not get:
        ready = target.stack.services[service].ready
        get = (ready.path,) if ready is not None and ready.path else ("/",)
    return Mix(
        url=edge_url(state),
        get=get,
        post=options.post or table.post,
        slow=options.slow or table.slow,
        socketio=table.socketio,
        host=target.host,
        body=table.body,
        timeout=table.timeout,
    )


def edge_url(state: State) -> str:
    """Where this stack's edge is reached from here."""
    if not state.edge_url:
        raise errors.MissingSubject("the edge is not running", hint="gapless up -d")
    url = state.edge_url.rstrip("/")
    for everywhere in ("//*:", "//0.0.0.0:", "//[::]:"):
        url = url.replace(everywhere, "//127.0.0.1:")
    specs.own_address(url)
    return url


def check(mix: Mix) -> None:
    """Ask each path once. Raises MissingSubject for one that does not answer as it should."""
    wanted = [("GET", path) for path in mix.get] + [("POST", path) for path in mix.post]
    if mix.slow:
        wanted.append(("GET", mix.slow))
    for method, path in wanted:
        connection = mix.connection()
        body = b"x" * mix.body if method == "POST" else None
        try:
            connection.request(method, path, body, mix.headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise errors.MissingSubject(
                f"{method} {path}: no answer from the edge ({error})", hint="gapless ps"
            ) from None
        finally:
            connection.close()
        if status >= 400:
            raise errors.MissingSubject(
                f"{method} {path}: answers {status} with nothing disturbed, so it proves nothing",
                hint="[drill] get = […], post = […], or --path, --post name paths that work",
            )


def ask(chosen: Mix, path: str, source: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """One GET from an address of ours; status, headers and body. Raises OSError, HTTPException."""
    connection = chosen.connection(source)
    try:
        connection.request("GET", path, headers=chosen.headers)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()
