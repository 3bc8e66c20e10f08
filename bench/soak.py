"""``python -m bench.soak --handovers N``: changes of every kind under load, until N replicas have
handed over to others. Exit code 1 when one request failed.

A handover is a replica that served and was taken out for good. Failures come at handovers, so
their number is what a clean result is worth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable

from bench import compare, machine, peers
from gapless import errors
from gapless.drills import figures, generator

HOURS = 2.0


class Soak:
    """Counts the replicas that went while the changes are made."""

    def __init__(self, stack: peers.Gapless) -> None:
        self.stack = stack
        self.handovers = 0
        self._seen: set[str] = set()

    def look(self) -> None:
        """Who served at the last look and is gone now has handed over."""
        [web] = [one for one in self.stack.status()["services"] if one["name"] == "web"]
        now = {one["id"] for one in web["replicas"] if one["state"] == "ready"}
        self.handovers += len(self._seen - now)
        self._seen = now

    def changes(self) -> list[tuple[str, Callable[[], str]]]:
        """One of each kind; between two looks no replica comes *and* goes."""
        command = self.stack.command
        return [
            ("deploy", lambda: command("deploy", "--force", "--wait")),
            ("deploy, surge all", lambda: command("deploy", "--force", "--wait", "--surge", "all")),
            ("restart", lambda: command("restart", "web")),
            ("scale up", lambda: command("scale", "web=5")),
            ("scale down", lambda: command("scale", "web=2")),
            ("rollback", lambda: command("rollback", "--wait", "-y")),
        ]


def main() -> int:
    """Run until there are enough handovers, or time is up."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--handovers", type=int, default=300)
    options = parser.parse_args()
    with machine.folder() as folder:
        stack = peers.Gapless(folder, surge="1")
        try:
            stack.start()
            return _soak(Soak(stack), options.handovers)
        except errors.GaplessError as error:
            _say(f"soak: {error.message}")
            return error.exit_code
        finally:
            stack.stop()


def _soak(soak: Soak, wanted: int) -> int:
    spec = compare.load(soak.stack.port).model_copy(update={"seconds": HOURS * 3600})
    begun = time.monotonic()
    soak.look()
    with generator.Load(spec) as running:
        running.until(requests=500, seconds=30)
        for name, change in itertools.cycle(soak.changes()):
            running.mark(name)
            change()
            soak.look()
            _say(
                f"{time.monotonic() - begun:6.0f} s  {name:18} {soak.handovers:4} handovers,"
                f" {running.failed} of {running.requests:,} failed"
            )
            if soak.handovers >= wanted or time.monotonic() - begun > HOURS * 3600 - 300:
                break
        measured = running.finish()
    return _judge(measured, soak.handovers, wanted)


def _judge(measured: figures.Measured, handovers: int, wanted: int) -> int:
    whole = measured.total()
    bound = figures.rule_of_three(handovers)
    _say(f"{whole.failed} of {whole.requests:,} requests failed, {whole.unknown} unknown")
    _say(f"{handovers} handovers")
    if whole.failed == 0 and bound is not None:
        _say(f"so with 95 % confidence fewer than {bound:.2%} of handovers lose a request")
    for failure in measured.failures[:20]:
        _say(json.dumps(failure))
    return int(whole.failed > 0 or whole.unknown > 0 or handovers < wanted)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
