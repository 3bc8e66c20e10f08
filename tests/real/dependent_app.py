"""A small application that needs its database, in the words of ``gapless.app``; run by the tests.

``mode`` in its folder: "good", or "dies" (it ends when the database is away, as some do).
"""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from wsgiref import simple_server

from gapless.app.health import Health

AWAY_FOR = 2.0
"""Seconds after which the one that dies gives up."""


def ask() -> None:
    """One round trip to Postgres without its driver: does it speak TLS? Any answer will do."""
    place = urlsplit(os.environ["DATABASE_URL"])
    with socket.create_connection((place.hostname, place.port or 5432), timeout=0.5) as line:
        line.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
        if line.recv(1) not in (b"S", b"N"):
            raise OSError("no PostgreSQL")


def page(environ: dict[str, Any], start: Any) -> list[bytes]:
    """What users come for."""
    try:
        ask()
    except OSError as error:
        start("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [str(error).encode()]
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"rows"]


def give_up() -> None:
    """A program that ends with its database."""
    last = time.monotonic()
    while time.monotonic() - last < AWAY_FOR:
        time.sleep(0.1)
        try:
            ask()
            last = time.monotonic()
        except OSError:
            pass
    os._exit(1)


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """A thread a request."""

    daemon_threads = True


class Quiet(simple_server.WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    if Path("mode").read_text().split()[0] == "dies":
        threading.Thread(target=give_up, daemon=True).start()
    app = Health({"db": ask}).wsgi(page)
    with simple_server.make_server(
        os.environ["HOST"], int(os.environ["PORT"]), app, Server, Quiet
    ) as server:
        server.serve_forever()
