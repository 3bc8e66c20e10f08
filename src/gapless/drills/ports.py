"""A loopback port for a stack of one's own, that no other drill on the machine is given as well."""

from __future__ import annotations

import collections
import os
import socket

from gapless import errors

LOOPBACK = "127.0.0.1"
PORTS = range(18080, 28080)
"""Below the ephemeral range of Linux."""

_held: collections.deque[socket.socket] = collections.deque(maxlen=200)
"""The latest reservations: by the time one is dropped, its stack listens or is gone."""


def reserve() -> int:
    """A port that nobody listens on and that nobody else reserved. Raises EnvironmentFault.

    Between the choice of a port and the moment when its stack listens pass seconds. A name in
    the abstract namespace of Unix sockets marks the choice: the kernel gives each name once,
    and frees it when this process ends, however it ends.
    """
    first = os.getpid() * 7 % len(PORTS)
    for place in range(len(PORTS)):
        port = PORTS[(first + place) % len(PORTS)]
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0gapless-port-{port}")
            with socket.socket() as trial:
                trial.bind((LOOPBACK, port))
        except OSError:
            mark.close()
            continue
        if len(_held) == _held.maxlen:
            _held.popleft().close()
        _held.append(mark)
        return port
    raise errors.EnvironmentFault(f"no free port from {PORTS.start} to {PORTS.stop - 1}")
