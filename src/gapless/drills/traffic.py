"""Disturb under load: capacity, baseline, one round in open loop, further rounds at full speed.

Open loop at a fixed share of the capacity is what percentiles are compared on. More rounds, until
enough requests were sent, run with eager closed-loop clients: the harder test of loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gapless.drills import figures, generator, mix
from gapless.drills import spec as specs
from gapless.drills.stage import Stage
from gapless.drills.verdict import Traffic

CAPACITY = 2.0
WARM = 1.0
BASELINE = 5.0
LONGEST = 3600.0
PATIENCE = 600.0
"""Seconds for which rounds go on when no bound is given."""

Round = Callable[[int], int]
"""One disturbance, by its number from 1; gives how many handovers it caused."""


def capacity(chosen: mix.Mix) -> dict[str, float]:
    """Rates of the open loop, from a short run in closed loop."""
    measured = generator.measure(chosen.spec(chosen.closed(), CAPACITY))
    whole = measured.phases.get("start", {})
    return mix.rates({name: one.requests for name, one in whole.items()}, measured.seconds)


def between(
    spec: specs.Spec, rounds: int, requests: int, blow: Callable[[], bool]
) -> figures.Measured:
    """A blow again and again, with its share of the requests before, between and after.

    ``blow`` says whether it is worth going on. Raises WorkFailed.
    """
    each = max(1, requests // rounds)
    sockets = sum(group.clients for group in spec.sockets)
    with generator.Load(spec) as load:
        load.until(requests=each, sockets=sockets, seconds=spec.timeout)
        for _ in range(rounds):
            if not blow():
                break
            load.until(requests=load.requests + each, seconds=spec.timeout)
        return load.finish(spec.timeout + 5.0)


def under_load(stage: Stage, chosen: mix.Mix, wanted: int, round_: Round) -> Measurement:
    """Rounds under load until ``wanted`` requests were sent; at least one round.

    No new round begins after the time that the options give. Raises WorkFailed.
    """
    stage.say(f"load: {chosen.describe()}")
    rates = capacity(chosen)
    stage.say(f"capacity measured; open loop at {sum(rates.values()):,.0f} requests/s (40 %)")
    began = time.monotonic()
    until = began + (stage.options.seconds or PATIENCE)
    first = _open_round(stage, chosen, rates, round_)
    whole = Measurement(first[0], first[1])
    rounds = 1
    if whole.requests < wanted and time.monotonic() < until:
        streams = (*chosen.closed(), *chosen.slowly())
        spec = chosen.spec(streams, LONGEST, sockets=chosen.sockets())
        with generator.Load(spec) as load:
            _gather(load, spec)
            load.mark("rounds")
            while whole.requests + load.requests < wanted and time.monotonic() < until:
                rounds += 1
                whole.handovers += round_(rounds)
                _told(stage, whole, load)
            whole.measured.merge(load.finish(spec.timeout + 5.0))
    whole.seconds = time.monotonic() - began
    whole.rounds = rounds
    return whole


def _gather(load: generator.Load, spec: object) -> None:
    """Let long-lived clients arrive before anything is disturbed."""
    clients = sum(one.clients for one in getattr(spec, "sockets", ()))
    load.until(requests=1, sockets=clients, seconds=20.0)


def _open_round(
    stage: Stage, chosen: mix.Mix, rates: dict[str, float], round_: Round
) -> tuple[figures.Measured, int]:
    streams = (*chosen.open(rates), *chosen.slowly())
    spec = chosen.spec(streams, LONGEST, sockets=chosen.sockets())
    with generator.Load(spec) as load:
        _gather(load, spec)
        time.sleep(WARM)
        load.mark("before")
        time.sleep(BASELINE)
        load.mark("during")
        handovers = round_(1)
        load.mark("after")
        time.sleep(WARM)
        measured = load.finish(spec.timeout + 5.0)
    stage.say(f"round 1: {handovers} handovers, {measured.total().failed} failed")
    return measured, handovers


def _told(stage: Stage, whole: Measurement, load: generator.Load) -> None:
    stage.say(
        f"{whole.requests + load.requests:,} requests, {whole.handovers} handovers, "
        f"{whole.measured.total().failed + load.failed} failed"
    )


class Measurement:
    """What the load runs of one drill gave together."""

    def __init__(self, measured: figures.Measured, handovers: int) -> None:
        self.measured = measured
        self.handovers = handovers
        self.rounds = 1
        self.seconds = measured.seconds

    @property
    def requests(self) -> int:
        """Requests sent in finished runs."""
        return self.measured.total().requests

    def traffic(self) -> Traffic:
        """As the table that verdicts are over."""
        measured = self.measured
        whole = measured.total()
        during, before = measured.fast("during"), measured.fast("before")
        slow = [c for streams in measured.phases.values() for c in streams.values() if c.slow]
        return Traffic(
            requests=whole.requests,
            failed=whole.failed,
            unknown=whole.unknown,
            reused_failed=whole.reused_failed,
            kinds=whole.kinds,
            slow_begun=sum(one.requests for one in slow),
            slow_done=sum(len(one.samples) for one in slow),
            handovers=self.handovers,
            seconds=self.seconds,
            p50=figures.percentile(during, 0.50),
            p99=figures.percentile(during, 0.99),
            baseline_p99=figures.percentile(before, 0.99),
            sockets=measured.sockets,
        )

    def detail(self) -> dict[str, object]:
        """What is told beside the verdict."""
        measured = self.measured
        during = measured.fast("during")
        sockets = measured.sockets
        return {
            "rounds": self.rounds,
            "failed_on_reused_connection": measured.total().reused_failed,
            "max_ms": round(during[-1], 2) if during else None,
            "generator_late_p99_ms": measured.late_p99_ms,
            "slow": {
                name: [one.requests, len(one.samples)]
                for streams in measured.phases.values()
                for name, one in streams.items()
                if one.slow
            },
            "sockets": {
                "total": sockets.clients,
                "told": sockets.told,
                "moved": sockets.moved,
                "draining": max(0, sockets.clients - sockets.told - sockets.dropped),
                "dropped": sockets.dropped,
                "refused": sockets.refused,
            },
            "failures": measured.failures[:20],
        }
