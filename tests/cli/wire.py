"""The far end of the wire, for what no real controller does on demand: hanging up, waiting."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from gapless.engine.paths import Paths

Events = Sequence[dict[str, Any] | None]
"""None: hang up without an end."""


class Wire:
    """A socket that answers every POST with the events given (docs/api.md), and keeps bodies."""

    def __init__(self, paths: Paths, file: str) -> None:
        self.events: Events = ()
        self.hold = threading.Event()
        self.asked: list[tuple[str, Any]] = []
        self.actors: set[str] = set()
        self.place = {"config_file": file}
        self.status: dict[str, Any] = {"stack": "shop", "controller": "running"}
        self.refusal: dict[str, Any] | None = None
        paths.make()
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(raw)
                wire.actors.add(body.pop("actor"))
                wire.asked.append((self.path, body))
                if wire.refusal is not None:
                    raw = json.dumps(wire.refusal).encode()
                    self.send_response(409)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in wire.events:
                    if event is None:
                        wire.hold.wait(10)
                        self.close_connection = True
                        return
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

            def do_GET(self) -> None:
                answer = wire.place if self.path == "/v1/ping" else wire.status
                raw = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def get_request(self) -> tuple[Any, Any]:
                request, _ = super().get_request()
                return request, ("local", 0)

        self.server = Server(str(paths.api), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
