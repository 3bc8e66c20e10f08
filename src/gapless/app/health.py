"""``/health``, ``/health/live``, ``/health/ready``, ``/health/startup`` for any application.

``live`` asks nothing: an application whose database is gone is not made better by a restart.
``ready`` asks every dependency. ``startup`` is 503 until everything was up once, then 200 for good.
``/health`` says what ``ready`` says, for probers that know only one address.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gapless.app import asgi, wsgi
from gapless.app.checks import ASKING, Asking, Check, Checks, States
from gapless.app.notice import BORN, Notice, ours

_HEADERS = (("content-type", "application/json"), ("cache-control", "no-store"))
_PAGES = ("", "/live", "/ready", "/startup")


class Leads(Protocol):
    """What is shown of a lease."""

    @property
    def name(self) -> str: ...
    @property
    def leading(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Pages:
    """``prefix``: where the pages are; ``reasons``: whether they tell why something is down. Turn
    that off where strangers can reach them."""

    prefix: str = "/health"
    reasons: bool = True


class Health:
    """Answers for one process. ``health.asgi(app)`` and ``health.wsgi(app)`` put it in front.

    ``checks``    name to check; without an answer from any of these there is no traffic
    ``optional``  checks that are shown and cost no traffic
    ``leases``    shown as ``"leader": {name: whether we lead}``
    ``version``   of the application, shown
    ``notice``    503 while it is up; by default the one that ``Drain`` looks at, too
    ``asking``    how long checks may take, and how long their answers are used again
    ``pages``     where the pages are, and whether they tell reasons
    """

    def __init__(
        self,
        checks: Mapping[str, Check] | None = None,
        *,
        optional: Mapping[str, Check] | None = None,
        leases: Iterable[Leads] = (),
        version: str | None = None,
        notice: Notice | None = None,
        asking: Asking = ASKING,
        pages: Pages = Pages(),
    ) -> None:
        needed, extra = checks or {}, optional or {}
        if both := needed.keys() & extra.keys():
            raise ValueError(f"checks and optional both have {', '.join(sorted(both))}")
        self.notice = notice or ours()
        self._checks = Checks({**needed, **extra}, asking)
        self._needed = tuple(needed)
        self._leases = tuple(leases)
        self._version = version
        self._reasons = pages.reasons
        self._started = False
        self._pages = {pages.prefix.rstrip("/") + page: page for page in _PAGES}

    def asgi(self, app: asgi.App = asgi.missing) -> asgi.App:
        """An ASGI application: the health pages, and ``app`` for everything else."""

        async def answer(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
            page = self._page(asgi.paths(scope)) if scope["type"] == "http" else None
            if page is None:
                await app(scope, receive, send)
                return
            method = scope["method"]
            if method not in ("GET", "HEAD"):
                await asgi.respond(send, method, 405, b"", [("allow", "GET, HEAD")])
                return
            found = await self._checks.ask() if page != "/live" else {}
            await asgi.respond(send, method, *self._answer(page, found), _HEADERS)

        return answer

    def wsgi(self, app: wsgi.App = wsgi.missing) -> wsgi.App:
        """A WSGI application: the health pages, and ``app`` for everything else."""

        def answer(environ: wsgi.Environ, start: wsgi.Start) -> Iterable[bytes]:
            page = self._page(wsgi.paths(environ))
            if page is None:
                return app(environ, start)
            if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
                return wsgi.respond(environ, start, 405, b"", [("Allow", "GET, HEAD")])
            found = self._checks.ask_blocking() if page != "/live" else {}
            return wsgi.respond(environ, start, *self._answer(page, found), _HEADERS)

        return answer

    def _page(self, paths: tuple[str, str]) -> str | None:
        for path in paths:
            if (page := self._pages.get(path.rstrip("/"))) is not None:
                return page
        return None

    def _answer(self, page: str, found: States) -> tuple[int, bytes]:
        """(status, JSON)."""
        if page == "/live":
            return 200, _json({"status": "alive", **self._who()})
        down = [name for name in self._needed if not found[name].up]
        self._started |= not down
        if page == "/startup":
            status = "started" if self._started else "starting"
            good = self._started
        else:
            status = self._status(down, found)
            good = status in ("ready", "degraded")
        body: dict[str, Any] = {"status": status}
        if not good:
            # First, because probers keep only the beginning of an answer.
            body["reason"] = self._reason(status, down, found)
        body |= {
            "down": [name for name, state in found.items() if not state.up],
            "checks": {name: state.public(self._reasons) for name, state in found.items()},
        }
        if self._leases:
            body["leader"] = {lease.name: lease.leading for lease in self._leases}
        return 200 if good else 503, _json(body | self._who())

    def _status(self, down: list[str], found: States) -> str:
        if self.notice.up:
            return "draining"
        if down:
            return "unready"
        return "ready" if all(state.up for state in found.values()) else "degraded"

    def _reason(self, status: str, down: list[str], found: States) -> str:
        if status == "draining":
            return "this replica is leaving"
        if not self._reasons:
            return f"down: {', '.join(down)}"
        return "; ".join(f"{name}: {found[name].reason}" for name in down)

    def _who(self) -> dict[str, Any]:
        # Read at each answer: programs that fork get their names late.
        who = {
            "server": os.environ.get("SERVER_ID") or f"pid {os.getpid()}",
            "release": os.environ.get("RELEASE"),
            "version": self._version,
            "uptime": round(time.monotonic() - BORN, 1),
        }
        return {key: value for key, value in who.items() if value is not None}


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()
