"""Ports that not everybody may listen on, and the ways to them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from gapless import errors
from gapless.edge import binary

FIRST = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
"""The first port that everybody may listen on."""
_BIND_SERVICE = 10
"""Number of the capability that allows the others."""


def allowed(port: int, program: str | None) -> bool:
    """Whether an HAProxy that we start can listen there.

    As root, where this machine lets everybody, or where the program itself was given the right.
    ``program``: as ``binary.find`` takes it.
    """
    if os.geteuid() == 0 or port >= first():
        return True
    try:
        return given(binary.find(program))
    except errors.EnvironmentFault:
        return False


def first() -> int:
    """1024, where nobody has changed it."""
    try:
        return int(FIRST.read_text())
    except (OSError, ValueError):
        return 1024


def ways(port: int) -> tuple[str, ...]:
    """What to do, the simplest first: a command each, or words.

    The wheel's HAProxy brings its libraries along, and the loader looks for none beside a program
    that was given rights; so that way is for the system's HAProxy alone.
    """
    return (
        f"sysctl -w net.ipv4.ip_unprivileged_port_start={port} (a file in /etc/sysctl.d keeps it)",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit that starts gapless",
        "setcap cap_net_bind_service=+ep on an HAProxy of the system's, and [edge] binary",
        "[edge] listen and tls_listen at higher ports, and for each"
        f" nft add rule ip nat prerouting tcp dport {port} redirect to :PORT",
        "gapless as root: it gives its rights up for all that serves",
    )


def given(program: Path) -> bool:
    """Whether a file carries the capability, permitted and effective."""
    try:
        magic, permitted = struct.unpack("<II", os.getxattr(program, "security.capability")[:8])
    except (OSError, struct.error):
        return False
    return bool(magic & 1) and bool(permitted >> _BIND_SERVICE & 1)
