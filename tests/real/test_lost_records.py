"""Records of running programs are gone: nothing is started beside them, and nothing fails."""

from __future__ import annotations

import os
import signal

import pytest
from tests.real.standing import Load, Standing

from gapless.engine import lock
from gapless.runtimes.machine import proc

BEAT = """
[service.beat]
run = ["/bin/sh", "-c", "sleep 600 & wait"]
singleton = true
drain = "2s"
"""


@pytest.fixture
def stack(stack: Standing) -> Standing:
    stack.write(replicas=2, more=BEAT)
    return stack


def steps(stack: Standing) -> list[str]:
    return [str(event["what"]) for event in stack.controller.site.journal.tail(500)]


def starts(stack: Standing) -> list[str]:
    return [step for step in steps(stack) if step.endswith(" start")]


@pytest.mark.parametrize("notebook", ["kept", "lost"])
async def test_a_singleton_is_ended_before_the_next_one_starts(
    stack: Standing, notebook: str
) -> None:
    await stack.do("up")
    (old,) = stack.pids("beat").values()
    assert old
    await stack.drop()
    state = stack.controller.site.paths.state
    (state / "procs" / "beat.1@r1.json").write_text("{")
    if notebook == "lost":
        (state / "notebook.json").unlink()
    await stack.begin()
    await stack.until(lambda: stack.pids("beat") and old not in stack.pids("beat").values())
    assert (found := proc.stat(old)) is None or found.dead
    words = (" start", " stop")
    done = [s for s in steps(stack) if s.startswith("beat.") and s.endswith(words)]
    # Without the notebook nobody knows that the id was used.
    again = "beat.1@r1.2 start" if notebook == "kept" else "beat.1@r1 start"
    assert done == ["beat.1@r1 start", "beat.1@r1 stop", again]


async def test_http_replicas_serve_until_others_do(stack: Standing) -> None:
    await stack.do("up")
    old = stack.pids()
    async with Load(stack.url) as load:
        await load.more()
        await stack.drop()
        for record in (stack.controller.site.paths.state / "procs").glob("web.*.json"):
            record.unlink()
        await stack.begin()
        new = {"web.1@r1.2", "web.2@r1.2"}
        await stack.until(lambda: set(stack.pids()) == new)
        await load.more()
    assert load.failed == {}
    assert not set(old.values()) & set(stack.pids().values())


async def test_a_controller_whose_lock_was_replaced_starts_nothing_more(stack: Standing) -> None:
    """Else it would start again what its successor, which holds the new lock, is about to end."""
    await stack.do("up")
    paths = stack.controller.site.paths
    with lock.take(paths) as held:
        stack.controller.still_ours = lambda: lock.holds(paths, held)
        assert lock.holds(paths, held)
        paths.lock.unlink()
        assert not lock.holds(paths, held)
        with lock.take(paths) as other:
            assert lock.holds(paths, other)
            (pid,) = stack.pids("beat").values()
            assert pid
            before = starts(stack)
            os.kill(pid, signal.SIGKILL)
            await stack.until(lambda: stack.controller.stopping)
            assert starts(stack) == before
    await stack.end()
    await stack.begin()
