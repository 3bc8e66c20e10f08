"""What a service manager is told of us (the protocol of sd_notify: datagrams to a socket)."""

from __future__ import annotations

import contextlib
import os
import socket

SOCKET = "NOTIFY_SOCKET"


def tell(*facts: str) -> None:
    """``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``, ``STATUS=…``; nothing where nobody listens."""
    place = os.environ.get(SOCKET)
    if not place:
        return
    # A name that begins with @ is an abstract one.
    address = f"\0{place[1:]}" if place.startswith("@") else place
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        # Whoever listens may be slow; the loop waits for nobody.
        speaker.setblocking(False)
        speaker.sendto("\n".join(facts).encode(), address)
