"""Hundreds of handovers under load: ``python -m bench.soak --handovers 300``.

Failures cluster where one replica takes over from another, so requests alone prove little. Here a
stack of probe services (they boot fast) is deployed, restarted, scaled and rolled back, one by
one and all at once, under a mixed load, until enough replicas have been replaced. Exit 1 when a
single request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gapless import errors
from gapless.drills import base, figures, generator, mix, scratch, traffic, verdict
from gapless.drills import state as states
from gapless.drills.verdict import Traffic

MORE = 3
"""Replicas added and taken away again."""

Change = Callable[[scratch.Scratch], None]


def deploy(probes: scratch.Scratch) -> None:
    probes.write("good")
    probes.must("/v1/deploy", services=[], wait=True)


def deploy_at_once(probes: scratch.Scratch) -> None:
    probes.write("good")
    probes.must("/v1/deploy", services=[], surge_all=True, wait=True)


def restart(probes: scratch.Scratch) -> None:
    probes.must("/v1/restart", services=["web"], wait=True)


def scale_up(probes: scratch.Scratch) -> None:
    wanted = probes.look().services["web"].desired
    probes.must("/v1/scale", counts={"web": wanted + MORE})


def scale_down(probes: scratch.Scratch) -> None:
    wanted = probes.look().services["web"].desired
    probes.must("/v1/scale", counts={"web": wanted - MORE})


def roll_back(probes: scratch.Scratch) -> None:
    probes.must("/v1/rollback", yes=True, wait=True)


CYCLE: tuple[tuple[str, Change], ...] = (
    ("deploy, one by one", deploy),
    ("scale up", scale_up),
    ("scale down", scale_down),
    ("deploy, all at once", deploy_at_once),
    ("rollback", roll_back),
    ("restart", restart),
)


class Soak:
    """What has been done and measured so far."""

    def __init__(self, probes: scratch.Scratch, wanted: int, seconds: float) -> None:
        self.probes = probes
        self.wanted = wanted
        self.until = time.monotonic() + seconds
        self.measured = figures.Measured()
        self.handovers = 0
        self.by: dict[str, int] = {}
        self.seconds = 0.0

    @property
    def over(self) -> bool:
        return self.handovers >= self.wanted or time.monotonic() > self.until

    def cycle(self, chosen: mix.Mix, rates: dict[str, float]) -> None:
        """Every kind of change once, under one load."""
        spec = chosen.spec((*chosen.open(rates), *chosen.slowly()), traffic.LONGEST)
        began = time.monotonic()
        with generator.Load(spec) as load:
            load.until(requests=10, seconds=20.0)
            for name, change in CYCLE:
                if self.over:
                    break
                load.mark(name)
                self.once(name, change, load)
            self.measured.merge(load.finish(spec.timeout + 5.0))
        self.seconds += time.monotonic() - began

    def once(self, name: str, change: Change, load: generator.Load) -> None:
        """One change, and what it handed over."""
        before = self.probes.settle()
        began = time.monotonic()
        change(self.probes)
        done = states.handovers(before, self.probes.settle())
        self.handovers += done
        self.by[name] = self.by.get(name, 0) + done
        requests = self.measured.total().requests + load.requests
        failed = self.measured.total().failed + load.failed
        self.probes.say(
            f"{name}: {done} handovers in {time.monotonic() - began:.1f} s; together "
            f"{self.handovers} handovers, {failed} of {requests:,} requests failed"
        )

    def outcome(self) -> base.Outcome:
        whole = traffic.Measurement(self.measured, self.handovers)
        whole.seconds = self.seconds
        table = whole.traffic()
        detail = {**whole.detail(), "handovers_by_change": self.by}
        return base.Outcome("soak", judge(table, self.wanted), table, detail)


def judge(table: Traffic, wanted: int) -> verdict.Reasons:
    """Nothing failed, and as much was handed over as was asked for. Pure."""
    short: verdict.Reasons = ()
    if table.handovers < wanted:
        short = (f"only {table.handovers} of {wanted} handovers in the time given",)
    return (*verdict.lossless(table), *verdict.slow_finished(table), *short)


def soak(wanted: int, replicas: int, seconds: float) -> base.Outcome:
    """Bring a stack up, change it until enough was handed over, take it away. Raises WorkFailed."""
    settings = scratch.Settings(replicas=replicas, watch="500ms", drain="10s")
    home = Path(os.environ["GAPLESS_STATE"])
    with scratch.stack("soak-drill", home / "source", say, settings, base.Options()) as probes:
        chosen = mix.choose(probes.target, probes.look(), probes.options)
        rates = traffic.capacity(chosen)
        say(f"open loop at {sum(rates.values()):,.0f} requests/s: {chosen.describe()}")
        run = Soak(probes, wanted, seconds)
        while not run.over:
            run.cycle(chosen, rates)
        return run.outcome()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="handovers under load, until there were enough")
    parser.add_argument("--handovers", type=int, default=300)
    parser.add_argument("--replicas", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no change after this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = None
    if "GAPLESS_STATE" not in os.environ:
        home = Path(tempfile.mkdtemp(prefix="gapless-soak-"))
        home.chmod(0o711)  # as root, services run as users of their own
        os.environ["GAPLESS_STATE"] = str(home)
    try:
        outcome = soak(options.handovers, options.replicas, options.minutes * 60)
    except errors.GaplessError as error:
        say(f"soak: {error.message}")
        return error.exit_code
    finally:
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
    report(outcome, as_json=options.json)
    return 0 if outcome.held else 1


def report(outcome: base.Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(outcome.as_json(), indent=2))
        return
    table, bound = outcome.traffic, outcome.bound["per_handover"]
    print(f"{table.failed} of {table.requests:,} requests failed, {table.unknown} unknown")
    print(f"{table.handovers} handovers in {table.seconds / 60:.1f} min")
    if bound is not None:
        print(f"with 95 % confidence fewer than 1 in {1 / bound:,.0f} handovers loses anything")
    for one in outcome.reasons:
        print(f"  {one}")
    print(f"soak: {'held' if outcome.held else 'NOT HELD'}")


if __name__ == "__main__":
    sys.exit(main())
