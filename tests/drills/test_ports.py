"""Ports of scratch stacks."""

from __future__ import annotations

import socket
import subprocess
import sys

from gapless.drills import ports

ASK = "from gapless.drills import ports; print(*(ports.reserve() for _ in range(50)), flush=True)"


def test_two_processes_never_get_one_port() -> None:
    asking = [sys.executable, "-c", f"{ASK}; input()"]
    both = [
        subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    given = [ports.reserve()]
    for one in both:
        assert one.stdout is not None
        given += map(int, one.stdout.readline().split())
    for one in both:
        one.communicate("\n", timeout=10)
    assert len(given) == len(set(given)) == 101


def test_one_that_is_listened_on_is_passed_over() -> None:
    first = ports.reserve()
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, first + 1))
        assert ports.reserve() != first + 1
