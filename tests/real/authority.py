"""Pebble, an ACME authority for tests, with a resolver for which every name is this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.drills import ports
from gapless.engine.certificates import x509

PROGRAMS = ("pebble", "pebble-challtestsrv")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
needed = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)} here (Debian: apt-get install pebble)"
)


class Authority:
    """``start`` and ``stop`` as often as wanted, always at the same address; what it has issued it
    forgets when it stops. ``http``: the port at which it asks its questions."""

    def __init__(self, folder: Path, http: int) -> None:
        self.folder = folder
        self.port, self.manage, self.names = (ports.reserve() for _ in range(3))
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self.ca = folder / "authority.pem"
        self._children: list[subprocess.Popen[bytes]] = []
        text = x509.self_signed(("localhost", "127.0.0.1"), 2, time.time())
        cut = text.index("-----BEGIN PRIVATE")
        self.ca.write_text(text[:cut])
        (folder / "authority.key").write_text(text[cut:])
        table = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.manage}",
            "certificate": str(self.ca),
            "privateKey": str(folder / "authority.key"),
            "httpPort": http,
            "tlsPort": 1,
        }
        (folder / "authority.json").write_text(json.dumps({"pebble": table}))

    def start(self, bad_nonces: int = 0) -> None:
        """``bad_nonces``: of a hundred good ones it refuses so many."""
        off = [word for name in ("http01", "https01", "tlsalpn01") for word in (f"-{name}", "")]
        resolver = ["-dns01", f"127.0.0.1:{self.names}", "-defaultIPv6", "", *off]
        management = ["-management", f"127.0.0.1:{ports.reserve()}"]
        asked = ["-config", str(self.folder / "authority.json")]
        asked += ["-dnsserver", f"127.0.0.1:{self.names}"]
        more = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(bad_nonces),
            "PEBBLE_AUTHZREUSE": "0",
        }
        with (self.folder / "authority.log").open("ab") as log:
            for argv in (
                ["pebble-challtestsrv", *resolver, *management],
                ["pebble", *asked],
            ):
                child = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **more})
                self._children.append(child)
        deadline = time.monotonic() + 20
        for port in (self.port, self.manage):
            while not _answers(port):
                assert time.monotonic() < deadline, (self.folder / "authority.log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()

    def trusting(self) -> ssl.SSLContext:
        """How a client verifies that trusts this authority and nobody else."""
        url = f"https://127.0.0.1:{self.manage}/roots/0"
        own = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(url, context=own) as answer:
            return ssl.create_default_context(cadata=answer.read().decode())


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def authority(folder: Path, http: int) -> Iterator[Authority]:
    """Not started; stopped on exit."""
    made = Authority(folder, http)
    try:
        yield made
    finally:
        made.stop()
