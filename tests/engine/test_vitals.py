"""Vital signs: what is made of samples, and a sampler on the runtime that ships for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapless.engine import vitals
from gapless.engine.vitals import Sampler, Vitals, after_look, after_sample
from gapless.model.process import Process
from gapless.runtimes.base import Usage
from gapless.testing.runtime import FakeRuntime, Machine


def test_cores_are_the_mean_between_two_samples() -> None:
    first = after_sample(Vitals(), Usage(10.0, 100), 50.0)
    assert (first.cores, first.memory) == (None, 100)
    second = after_sample(first, Usage(13.0, 90), 52.0)
    assert (second.cores, second.memory) == (1.5, 90)
    third = after_sample(second, Usage(13.0, 80), 54.0)
    assert (third.cores, third.memory) == (0.0, 80)


def test_two_samples_at_once_do_not_make_a_rate() -> None:
    first = after_sample(Vitals(), Usage(10.0, 100), 50.0)
    hasty = after_sample(first, Usage(10.5, 200), 50.1)
    assert (hasty.cores, hasty.memory) == (None, 200)
    assert after_sample(hasty, Usage(12.0, 200), 52.0).cores == pytest.approx(1.0)


def test_a_descendant_that_ends_unwaited_makes_no_negative_use() -> None:
    first = after_sample(Vitals(), Usage(10.0, 100), 50.0)
    assert after_sample(first, Usage(9.0, 100), 52.0).cores == 0.0


def test_memory_lasts_when_all_of_the_last_samples_say_so() -> None:
    signs, lows = Vitals(), []
    for turn, memory in enumerate((90, 50, 80, 70, 95)):
        signs = after_sample(signs, Usage(0.0, memory), 2.0 * turn)
        lows.append(signs.memory_low)
    assert lows == [None, None, 50, 50, 70]


def test_standstill_is_counted_from_its_first_sight_believed_at_the_second() -> None:
    first = after_look(Vitals(), "stopped", 7.0)
    assert first.frozen_since is None, "a profiler stops programs for a moment"
    second = after_look(first, "zombie", 7.5)
    assert (second.frozen_since, second.frozen) == (7.0, "zombie")
    assert after_look(second, "zombie", 8.0).frozen_since == 7.0
    assert after_look(second, "", 9.0).frozen_since is None
    again = after_look(after_look(first, "", 7.5), "stopped", 8.0)
    assert again.frozen_since is None
    assert after_look(Vitals(), "", 9.0) == Vitals()


async def test_a_sampler_sees_standstill_and_forgets_the_gone(tmp_path: Path) -> None:
    machine = Machine()
    runtime = FakeRuntime(machine, "chat", tmp_path)
    living = ["web.1@r1", "web.2@r1"]
    for id in living:
        await runtime.start(Process(id, ("app",)))
    woken: list[bool] = []
    sampler = Sampler(runtime, lambda: living, lambda: woken.append(True))
    await sampler.look()
    assert not woken
    machine.pause("chat", "web.2@r1")
    await sampler.look()
    assert not woken
    await sampler.look()
    await sampler.look()
    assert len(woken) == 1
    assert sampler.of("web.1@r1").frozen_since is None
    since = sampler.of("web.2@r1").frozen_since
    assert since is not None
    assert {id: v.memory for id, v in (await sampler.read()).items()} == dict.fromkeys(
        living, 1 << 20
    )
    assert sampler.of("web.2@r1").frozen_since == since, "a sample must not end a standstill"
    machine.resume("chat", "web.2@r1")
    machine.end("chat", "web.1@r1")
    living.remove("web.1@r1")
    await sampler.look()
    await sampler.sample()
    assert len(woken) == 2
    assert sampler.of("web.2@r1").frozen_since is None
    assert sampler.of("web.1@r1") is vitals.NOTHING
