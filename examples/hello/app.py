"""The smallest service: one file, nothing but Python. Usage: app.py SOCKET"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with who answered."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body leave together: a health check hangs up after the head

    def do_GET(self) -> None:
        body = f"hello from {os.environ.get('SERVER_ID', 'here')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the edge counts requests."""


class Server(socketserver.ThreadingUnixStreamServer):
    """One thread a connection; a deep queue, as a burst of connections is no fault."""

    daemon_threads = True
    request_queue_size = 1024

    def get_request(self) -> tuple[object, tuple[str, int]]:
        connection, _ = super().get_request()
        return connection, ("edge", 0)


def main(path: str) -> None:
    Path(path).unlink(missing_ok=True)
    with Server(path, Hello) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
