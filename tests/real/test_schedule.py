"""Scheduled jobs on real parts: a missed run begins at once, once, and survives its controller."""

from __future__ import annotations

import json
import time

import pytest
from tests.real.standing import Standing

from gapless import errors
from gapless.engine import durable
from gapless.engine.inside import Inside
from gapless.engine.paths import Paths
from gapless.model.desired import Schedule

JOB = """
[job.tick]
run = ["/bin/sh", "-c", "echo ran; {body}"]
when = "0 3 * * *"
catch_up = "2d"
"""


async def up(stack: Standing, body: str) -> None:
    if stack.controller.desired.vector:
        raise AssertionError("it is up already")
    stack.write(replicas=1, watch="0s", more=JOB.format(body=body))
    await stack.do("up")
    await stack.until(lambda: "tick" in stack.controller.desired.schedules)


def missed(stack: Standing) -> None:
    """The record says that nothing has been dealt with for two days."""
    record = Paths.of(stack.name).record
    document = json.loads(record.read_text())
    document["schedules"]["tick"] |= {"after": time.time() - 2 * 86_400, "due": 0.0, "state": ""}
    durable.write(record, json.dumps(document))


def known(stack: Standing) -> Schedule:
    return stack.controller.desired.schedules["tick"]


def ran(stack: Standing) -> int:
    """How many times, by the job's own log."""
    try:
        return stack.controller.site.runtime.log("tick").read_text().count("ran\n")
    except FileNotFoundError:
        return 0


def history(stack: Standing, what: str) -> list[str]:
    entries = stack.controller.site.journal.tail(100)
    return [str(entry["cause"]) for entry in entries if str(entry["what"]).startswith(what)]


async def test_a_missed_run_begins_once_and_its_failure_is_told(stack: Standing) -> None:
    await up(stack, "exit 3")
    assert ran(stack) == 0
    await stack.end()
    missed(stack)
    await stack.begin()
    await stack.until(lambda: known(stack).state == "failed")
    assert known(stack).reason == "exit code 3"
    assert history(stack, "tick failed") == ["exit code 3"]
    assert "late by" in history(stack, "tick@r1 run")[0]
    await stack.end()
    await stack.begin()
    await stack.until(lambda: not stack.controller.observed.jobs)
    assert ran(stack) == 1


async def test_a_run_outlives_its_controller_and_is_not_joined(stack: Standing) -> None:
    await up(stack, "sleep 600")
    await stack.end()
    missed(stack)
    await stack.begin()
    await stack.until(lambda: known(stack).state == "running")
    (before,) = stack.controller.observed.jobs
    await stack.drop()
    missed(stack)  # as if the controller had died before the run was noted
    await stack.begin()
    await stack.until(lambda: known(stack).due == before.due)
    (after,) = stack.controller.observed.jobs
    assert (after.id, ran(stack)) == (before.id, 1)
    with pytest.raises(errors.Refused, match="never runs twice at once"):
        await Inside(stack.controller).run({"name": "tick"})
    await stack.do("down")
    assert known(stack).state == "failed"
    assert known(stack).reason == "killed by signal 15"
