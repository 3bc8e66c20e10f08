"""Somebody else's machine: a network namespace that reaches this one by an address of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from gapless.engine import listeners

AT_ONCE = 500
SILENT = 2.0
"""Seconds after which those that answer nothing at all are taken for shut."""


@dataclass(frozen=True, slots=True)
class Outside:
    """``host``: this machine's address, as it is called there."""

    name: str
    host: str

    def open_ports(self) -> set[int]:
        """All ports of this machine that somebody there can connect to."""
        done = _ip(f"netns exec {self.name} {sys.executable} -m {__name__} {self.host}")
        assert done.returncode == 0, done.stderr
        return {int(word) for word in done.stdout.split()}


@contextlib.contextmanager
def namespace() -> Iterator[Outside]:
    """Skips where we may not make one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    number = os.getpid() % 16_000
    name, net = f"gl{number}", f"10.254.{number // 64}"
    host, guest = (f"{net}.{number % 64 * 4 + n}" for n in (1, 2))
    try:
        for words in (
            f"netns add {name}",
            f"link add {name} type veth peer name eth0 netns {name}",
            f"addr add {host}/30 dev {name}",
            f"link set {name} up",
            f"-n {name} addr add {guest}/30 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} route add default via {host}",
        ):
            done = _ip(words)
            if done.returncode != 0:
                pytest.skip(f"no network namespace can be made: ip {words}: {done.stderr.strip()}")
        yield Outside(name, host)
    finally:
        _ip(f"link del {name}")  # at once; with its namespace it would go later
        _ip(f"netns del {name}")


def _ip(words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(shutil.which("ip")), *words.split()]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def ours(ports: Iterable[int], stack: str) -> set[int]:
    """Of these, what a stack, this process or an engine of containers has opened."""
    marks = (f" of the stack {stack}", f"(pid {os.getpid()})", "docker-proxy")
    return {port for port in ports if any(mark in listeners.holder(port) for mark in marks)}


def scan(host: str) -> Iterator[int]:
    """Connects to every port, many at a time."""
    waiting: dict[int, tuple[socket.socket, int]] = {}
    poll = select.epoll()
    ports = iter(range(1, 65_536))
    while True:
        while len(waiting) < AT_ONCE and (port := next(ports, None)) is not None:
            one = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            begun = one.connect_ex((host, port))
            if begun == errno.EINPROGRESS:
                poll.register(one, select.EPOLLOUT)
                waiting[one.fileno()] = one, port
                continue
            if begun == 0:
                yield port
            one.close()
        if not waiting:
            return
        for handle, event in poll.poll(SILENT) or [(handle, 0) for handle in waiting]:
            one, port = waiting.pop(handle)
            one.close()
            if event == select.EPOLLOUT:
                yield port


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, scan(sys.argv[1]))))
