"""Metrics of real applications, read back with prometheus_client's own parser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gapless.app import metrics
from gapless.app.metrics import SECONDS, SOCKETS, Metrics
from tests.app import servers
from tests.app.servers import ask
from tests.examples import stores

ROOT = Path(__file__).parents[2]


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values …) to value."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(base: str) -> dict[tuple[str, ...], float]:
    return samples(ask(base, "/metrics").body.decode())


def fastapi_app() -> AbstractContextManager[str]:
    import fastapi

    web = fastapi.FastAPI()

    @web.get("/rooms/{name}")
    def room(name: str) -> str:
        if name == "bad":
            raise fastapi.HTTPException(409)
        return name

    return servers.asgi_server(Metrics().asgi(web))


def flask_app() -> AbstractContextManager[str]:
    import flask

    web = flask.Flask("web")

    @web.get("/rooms/<name>")
    def room(name: str) -> str:
        return flask.abort(409) if name == "bad" else name

    web.wsgi_app = Metrics().wsgi(web.wsgi_app)  # type: ignore[assignment,method-assign]
    return servers.wsgi_server(web)


@pytest.mark.parametrize(
    ("serve", "route"), [(fastapi_app, "/rooms/{name}"), (flask_app, "/rooms/<name>")]
)
def test_requests_by_route_and_status(
    serve: Callable[[], AbstractContextManager[str]], route: str
) -> None:
    with serve() as base:
        for name in ("a", "b", "bad"):
            ask(base, f"/rooms/{name}")
        for n in range(5):
            ask(base, f"/nowhere/{n}")
        found = scraped(base)
        count = f"{SECONDS}_count"
        assert found[count, "GET", route, "200"] == 2
        assert found[count, "GET", route, "409"] == 1
        assert found[f"{SECONDS}_bucket", "+Inf", "GET", route, "200"] == 2
        assert 0 < found[f"{SECONDS}_sum", "GET", route, "200"] < 60
        # Strangers do not make up labels.
        assert len([key for key in found if key[0] == count]) == 3
        assert found[count, "GET", "other", "404"] == 5


@pytest.mark.parametrize("serve", [fastapi_app, flask_app])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_strangers_get_no_metrics(
    serve: Callable[[], AbstractContextManager[str]], header: str
) -> None:
    with serve() as base:
        assert ask(base, "/metrics").status == 200
        assert ask(base, "/metrics", headers={header: "for=10.0.0.1"}).status == 404


def test_what_takes_longer_is_in_higher_buckets() -> None:
    own = metrics.Own()
    for seconds in (0.001, 0.005, 0.3, 99.0):
        own.took(("GET", 'a"\\\n', "200"), seconds)
    found = samples(own.page()[1].decode())
    buckets = {key[1]: value for key, value in found.items() if key[0].endswith("bucket")}
    assert (buckets["0.005"], buckets["0.25"], buckets["0.5"]) == (2, 2, 3)
    assert (buckets["10.0"], buckets["+Inf"]) == (3, 4)


async def test_open_websockets() -> None:
    from tests.app.leaver import echo

    with servers.asgi_server(Metrics().asgi(echo), ws="wsproto") as base:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(base + "/") as socket:
                await socket.send_str("x")
                await socket.receive()
                assert scraped(base)[(SOCKETS,)] == 1
            stores.wait_for("it is gone", lambda: scraped(base)[(SOCKETS,)] == 0)


def test_one_process_says_so_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"# of process {os.getpid()} alone".encode() in metrics.Own().page()[1]
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    with pytest.warns(RuntimeWarning, match="one process only"):
        Metrics()


def test_a_route_that_the_application_tells() -> None:
    class Match:
        route = "rooms/<name>"

    def resolve(path: str) -> Any:
        if path != "/rooms/a":
            raise LookupError(path)
        return Match()

    route = metrics.django(resolve)
    assert route({"path": "/rooms/a"}) == "/rooms/<name>"
    assert route({"PATH_INFO": "/rooms/a"}) == "/rooms/<name>"
    assert route({"path": "/rooms"}) is None


WORKER = """
import prometheus_client
from gapless.app.metrics import Metrics
seen = {}
def app(environ, start):
    start("200 OK", [])
    return []
m = Metrics(prometheus_client).wsgi(app)
ask = lambda path: b"".join(m({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *a: None))
ask("/")
print(ask("/metrics").decode())
"""


def test_processes_are_added_up_by_the_client(tmp_path: Path) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    for expected in (1.0, 2.0, 3.0):
        done = subprocess.run(
            [sys.executable, "-c", WORKER], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert samples(done.stdout)[f"{SECONDS}_count", "GET", "other", "200"] == expected
