"""Run after a release: does the public service answer as it should?

Asks through the load balancer (``WEB_URL``), as a user would. Exit code 0: good. Anything
else undoes the release.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import ssl
import sys
import urllib.request
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger("smoke")


def trust(base: str) -> ssl.SSLContext:
    """On this machine, a container's included, the edge may show a certificate of its own making:
    ``self-signed``. Names are for certificates of an authority."""
    context = ssl.create_default_context()
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(urlsplit(base).hostname or "").is_private:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    return context


def ask(base: str, path: str, body: Any = None) -> Any:
    """GET, or POST with a JSON body; raises on anything but a good answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  # the address is our own service's
        base.rstrip("/") + path, data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5, context=trust(base)) as answer:  # noqa: S310
        return json.load(answer)


def main() -> int:
    base = os.environ.get("WEB_URL", "http://127.0.0.1:8000")
    try:
        health = ask(base, "/health/ready")
        said = ask(base, "/api/rooms/smoke/messages", {"author": "smoke", "body": "here"})
        newest = ask(base, "/api/rooms/smoke/messages?limit=200")["messages"]
    except (OSError, ValueError) as error:
        log.error("%s: %s", base, error)
        return 1
    if said["id"] not in [message["id"] for message in newest]:
        log.error("message %s was taken in and is not there", said["id"])
        return 1
    log.info("release %s answers", health.get("release", health["server"]))
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    sys.exit(main())
