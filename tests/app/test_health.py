"""The health pages in real FastAPI, Starlette, Django, Flask and Socket.IO applications."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gapless.app.checks import Asking, Check
from gapless.app.health import Health, Pages
from gapless.app.notice import Notice
from tests.app import servers
from tests.app.servers import ask


class Dependency:
    """Up, down, or frozen; counts how often it is asked."""

    def __init__(self) -> None:
        self.fault = ""
        self.asked = 0
        self.thaw = threading.Event()
        self.thaw.set()

    def plain(self) -> None:
        self.asked += 1
        self.thaw.wait(60)
        if self.fault:
            raise OSError(self.fault)

    async def coroutine(self) -> None:
        self.asked += 1
        while not self.thaw.is_set():  # noqa: ASYNC110  # set from another thread
            await asyncio.sleep(0.01)
        if self.fault:
            raise OSError(self.fault)

    def hidden(self) -> Any:
        """Plain to look at, but what it returns has to be awaited: as drivers do it."""
        return self.coroutine()


def fastapi_app(health: Health) -> AbstractContextManager[str]:
    import fastapi

    web = fastapi.FastAPI()
    web.get("/")(lambda: {"app": "here"})
    return servers.asgi_server(health.asgi(web))


def starlette_mounted(health: Health) -> AbstractContextManager[str]:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    def page(_: Any) -> PlainTextResponse:
        return PlainTextResponse("here")

    routes = [Mount("/health", health.asgi()), Route("/", page)]
    return servers.asgi_server(Starlette(routes=routes))


def socketio_app(health: Health) -> AbstractContextManager[str]:
    import socketio  # type: ignore[import-untyped]
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    web = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
    io = socketio.AsyncServer(async_mode="asgi")
    return servers.asgi_server(health.asgi(socketio.ASGIApp(io, web)))


def _django() -> None:
    import django  # type: ignore[import-untyped]
    from django.conf import settings  # type: ignore[import-untyped]
    from django.http import HttpResponse  # type: ignore[import-untyped]
    from django.urls import path  # type: ignore[import-untyped]

    if not settings.configured:
        # ALLOWED_HOSTS as in production: probes by address must not stumble over it.
        urls = type("urls", (), {"urlpatterns": [path("", lambda _: HttpResponse("here"))]})
        settings.configure(
            ROOT_URLCONF=urls, ALLOWED_HOSTS=["chat.example.com", "127.0.0.1"], SECRET_KEY="x" * 50
        )
        django.setup()


def django_asgi(health: Health) -> AbstractContextManager[str]:
    _django()
    from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]

    return servers.asgi_server(health.asgi(get_asgi_application()))


def django_wsgi(health: Health) -> AbstractContextManager[str]:
    _django()
    from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]

    return servers.wsgi_server(health.wsgi(get_wsgi_application()))


def flask_app(health: Health) -> AbstractContextManager[str]:
    import flask

    web = flask.Flask("web")
    web.get("/")(lambda: "here")
    web.wsgi_app = health.wsgi(web.wsgi_app)  # type: ignore[assignment,method-assign]
    return servers.wsgi_server(web)


def flask_mounted(health: Health) -> AbstractContextManager[str]:
    import flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    web = flask.Flask("web")
    web.get("/")(lambda: "here")
    return servers.wsgi_server(DispatcherMiddleware(web, {"/health": health.wsgi()}))


Serve = Callable[[Health], AbstractContextManager[str]]
EVERYWHERE = pytest.mark.parametrize(
    "serve",
    [
        fastapi_app,
        starlette_mounted,
        socketio_app,
        django_asgi,
        django_wsgi,
        flask_app,
        flask_mounted,
    ],
)
KINDS = pytest.mark.parametrize("kind", ["plain", "coroutine", "hidden"])


@pytest.fixture
def db() -> Iterator[Dependency]:
    dependency = Dependency()
    yield dependency
    dependency.thaw.set()


@contextlib.contextmanager
def standing(serve: Serve, checks: dict[str, Check], notice: Path, **more: Any) -> Iterator[str]:
    health = Health(checks, notice=Notice(notice), **({"asking": Asking(0.2, 0.0)} | more))
    with serve(health) as base:
        yield base


@EVERYWHERE
@KINDS
def test_a_dependency_goes_and_comes_back(
    serve: Serve, kind: str, db: Dependency, tmp_path: Path
) -> None:
    checks = {"db": getattr(db, kind), "cache": lambda: None}
    with standing(serve, checks, tmp_path / "notice") as base:
        assert b"here" in ask(base, "/").body
        ready = ask(base, "/health/ready")
        assert (ready.status, ready.json()["status"]) == (200, "ready")
        assert ready.headers[
            "cache-control" if "cache-control" in ready.headers else "Cache-Control"
        ]
        db.fault = "connection refused"
        for page in ("/health/ready", "/health", "/health/"):
            answer = ask(base, page)
            assert (answer.status, answer.json()["down"]) == (503, ["db"]), page
        body = answer.json()
        assert answer.body.startswith(b'{"status": "unready", "reason": "db: connection refused"')
        assert body["checks"]["db"]["reason"] == "connection refused"
        assert body["checks"]["cache"]["status"] == "up"
        assert ask(base, "/health/live").status == 200
        assert ask(base, "/health/startup").status == 200
        db.fault = ""
        assert ask(base, "/health/ready").status == 200


@EVERYWHERE
@KINDS
def test_a_frozen_dependency_costs_one_question_and_bounded_time(
    serve: Serve, kind: str, db: Dependency, tmp_path: Path
) -> None:
    with standing(serve, {"db": getattr(db, kind)}, tmp_path / "notice") as base:
        db.thaw.clear()
        before = threading.active_count()
        for _ in range(5):
            answer = ask(base, "/health/ready")
            assert answer.status == 503
            assert answer.json()["checks"]["db"]["reason"] == "no answer within 0.2 s"
            assert ask(base, "/health/live").status == 200
        assert threading.active_count() <= before + 3
        if kind == "plain":
            assert db.asked == 1
        db.thaw.set()
        end = time.monotonic() + 10
        while ask(base, "/health/ready").status != 200:
            assert time.monotonic() < end


@EVERYWHERE
def test_a_notice_is_not_ready_and_goes_again(serve: Serve, tmp_path: Path) -> None:
    notice = tmp_path / "notice"
    with standing(serve, {}, notice) as base:
        assert ask(base, "/health/ready").status == 200
        notice.touch()
        answer = ask(base, "/health/ready")
        assert (answer.status, answer.json()["status"]) == (503, "draining")
        assert ask(base, "/health/live").status == 200
        assert ask(base, "/health/startup").status == 200
        notice.unlink()
        assert ask(base, "/health/ready").status == 200


@EVERYWHERE
def test_who_answers(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_ID", "web.1@r12")
    monkeypatch.setenv("RELEASE", "12")

    class Lease:
        name, leading = "writer", True

    more = {"version": "1.4", "leases": [Lease()]}
    with standing(serve, {}, tmp_path / "notice", **more) as base:
        body = ask(base, "/health").json()
        assert (body["server"], body["release"], body["version"]) == ("web.1@r12", "12", "1.4")
        assert body["uptime"] >= 0
        assert body["leader"] == {"writer": True}
        head = ask(base, "/health/live", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert ask(base, "/health/live", "POST").status == 405
        assert ask(base, "/health/nothing").status == 404
        # Probes come by address; what the application thinks of host names is not asked.
        assert ask(base, "/health/ready", headers={"Host": "10.1.2.3"}).status == 200


@EVERYWHERE
def test_startup_stays_once_it_was(serve: Serve, db: Dependency, tmp_path: Path) -> None:
    db.fault = "starting"
    with standing(serve, {"db": db.plain}, tmp_path / "notice") as base:
        answer = ask(base, "/health/startup")
        assert (answer.status, answer.json()["status"]) == (503, "starting")
        db.fault = ""
        assert ask(base, "/health/startup").status == 200
        db.fault = "down"
        assert ask(base, "/health/startup").status == 200
        assert ask(base, "/health/ready").status == 503


@EVERYWHERE
def test_optional_and_secret_reasons(serve: Serve, db: Dependency, tmp_path: Path) -> None:
    db.fault = "cannot reach redis://user:hunter2@cache:6379/0"
    checks: dict[str, Check] = {"cache": lambda: False}
    with standing(serve, {}, tmp_path / "n", optional={"search": db.plain}) as base:
        answer = ask(base, "/health/ready")
        assert (answer.status, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["search"]["reason"] == "cannot reach redis://cache:6379/0"
    with standing(serve, checks, tmp_path / "n", pages=Pages(reasons=False)) as base:
        answer = ask(base, "/health/ready")
        assert answer.json()["reason"] == "down: cache"
        assert answer.json()["checks"]["cache"].keys() == {"status", "latency"}


@EVERYWHERE
def test_probing_often_asks_rarely(serve: Serve, db: Dependency, tmp_path: Path) -> None:
    with standing(serve, {"db": db.plain}, tmp_path / "notice", asking=Asking(fresh=60.0)) as base:
        assert {ask(base, "/health/ready").status for _ in range(10)} == {200}
        assert db.asked == 1


async def test_askers_at_once_share_a_look(db: Dependency) -> None:
    from gapless.app.checks import Checks

    checks = Checks({"db": db.coroutine, "other": db.plain}, Asking(5, 0))
    db.thaw.clear()
    askers = [asyncio.create_task(checks.ask()) for _ in range(20)]
    await asyncio.sleep(0)
    askers[0].cancel()
    db.thaw.set()
    found = await asyncio.gather(*askers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(one["db"].up and one["other"].up for one in found[1:] if isinstance(one, dict))
    assert db.asked == 2


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="both have db"):
        Health({"db": lambda: None}, optional={"db": lambda: None})
