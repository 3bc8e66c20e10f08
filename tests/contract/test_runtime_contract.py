"""What every runtime must do, over the fake that ships, real processes and real containers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
from tests.runtimes import docker_bench

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Exit, Process
from gapless.runtimes import base
from gapless.runtimes.docker import DockerRuntime
from gapless.runtimes.process import ProcessRuntime
from gapless.testing.runtime import FakeRuntime, Machine, Program

PATIENCE = 90.0


class Bench(Protocol):
    """One world with runtimes in it. ``commands``: forever, deaf (to TERM), three, missing."""

    commands: ClassVar[dict[str, tuple[str, ...]]]

    def runtime(self, stack: str = "chat", run: Path | None = None) -> Any: ...
    def pause(self, id: str, pid: int) -> None: ...
    def crash(self, id: str, pid: int) -> None: ...


class Real:
    commands: ClassVar[dict[str, tuple[str, ...]]] = {
        "forever": ("sleep", "600"),
        "deaf": ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done"),
        "three": ("sh", "-c", "exit 3"),
        "missing": ("/no/such/program",),
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[Any] = []

    def runtime(self, stack: str = "chat", run: Path | None = None) -> Any:
        made = ProcessRuntime(self.folder / stack, run or self.folder / "run" / stack, stack)
        self.opened.append(made)
        return made

    def pause(self, id: str, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        # Only once it has stopped: of two pending signals the lower number is taken first.
        while ") T " not in Path(f"/proc/{pid}/stat").read_text():
            os.sched_yield()

    def crash(self, id: str, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


class Docker(Real):
    """The same programs, each in a container."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        super().__init__(folder)
        self.url = url
        self.image = docker_bench.image(url)

    def runtime(self, stack: str = "chat", run: Path | None = None) -> Any:
        run = run or self.folder / "run" / stack
        made = DockerRuntime(self.folder / stack, run, stack, url=self.url, image=self.image)
        self.opened.append(made)
        return made


class Podman(Docker):
    """The same over Podman's socket, where there is one for tests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, docker_bench.podman())


class Fake:
    commands: ClassVar[dict[str, tuple[str, ...]]] = {
        name: (name,) for name in ("forever", "deaf", "three", "missing")
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine(
            programs={
                "forever": Program(),
                "deaf": Program(on_term=None, output="ready\n"),
                "three": Program(ends=Exit(code=3)),
            },
            default=None,
        )
        self.opened: list[FakeRuntime] = []

    def runtime(self, stack: str = "chat", run: Path | None = None) -> FakeRuntime:
        made = FakeRuntime(self.machine, stack, run or self.folder / stack)
        self.opened.append(made)
        return made

    def pause(self, id: str, pid: int) -> None:
        self.machine.pause("chat", id)

    def crash(self, id: str, pid: int) -> None:
        self.machine.end("chat", id)


@pytest.fixture(params=[Real, Docker, Podman, Fake], ids=["process", "docker", "podman", "fake"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made: Real | Fake = await asyncio.to_thread(request.param, tmp_path)
    yield made
    for runtime in made.opened:
        for found in await runtime.look():
            await runtime.signal(found.id, "KILL")
            await until(functools.partial(dead, runtime, found.id))
            with contextlib.suppress(RuntimeFault):
                await runtime.forget(found.id)
        closing = runtime.close()
        if closing is not None:
            await closing


async def until(condition: Callable[[], Any]) -> Any:
    """Poll until the condition (which may be a coroutine function) holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = condition()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.01)


async def find(runtime: base.Runtime, id: str) -> base.Found:
    return next(found for found in await runtime.look() if found.id == id)


async def dead(runtime: base.Runtime, id: str) -> base.Found | None:
    for found in await runtime.look():
        if found.id == id and not found.alive:
            return found
    return None


async def next_end(runtime: base.Runtime) -> str:
    async with asyncio.timeout(PATIENCE):
        return await anext(aiter(runtime.ended()))


def process(bench: Bench, command: str, id: str = "web.1@r1", **more: Any) -> Process:
    return Process(id, bench.commands[command], **more)


async def test_a_started_program_is_found_as_it_was_given(bench: Bench) -> None:
    runtime = bench.runtime()
    address = runtime.address("web.1@r1", "socket")
    given = process(bench, "forever", address=address, labels={"service": "web", "n": "1"})
    found = await runtime.start(given)
    assert found.alive and found.exit is None and found.pid
    assert found == await find(runtime, "web.1@r1")
    assert (found.labels, found.address) == ({"service": "web", "n": "1"}, address)


async def test_starting_twice_starts_once(bench: Bench) -> None:
    runtime = bench.runtime()
    first, second = await asyncio.gather(
        runtime.start(process(bench, "forever")), runtime.start(process(bench, "forever"))
    )
    third = await runtime.start(process(bench, "forever"))
    assert first == second == third
    assert len(await runtime.look()) == 1


async def test_a_missing_program_is_a_fault_with_its_name_and_leaves_nothing(bench: Bench) -> None:
    runtime = bench.runtime()
    given = process(bench, "missing")
    with pytest.raises(RuntimeFault, match=given.argv[0]):
        await runtime.start(given)
    assert list(await runtime.look()) == []


async def test_term_asks_and_the_end_wakes_the_loop(bench: Bench) -> None:
    runtime = bench.runtime()
    await runtime.start(process(bench, "forever"))
    await runtime.signal("web.1@r1", "TERM")
    assert await next_end(runtime) == "web.1@r1"
    found = await find(runtime, "web.1@r1")
    assert (found.alive, found.pid, found.exit) == (False, None, Exit(signal=15))


async def test_kill_ends_a_program_that_is_deaf_to_term(bench: Bench) -> None:
    runtime = bench.runtime()
    started = await runtime.start(process(bench, "deaf"))
    await until(lambda: runtime.log("web.1@r1").read_text() == "ready\n")
    await runtime.signal("web.1@r1", "TERM")
    assert (await find(runtime, "web.1@r1")).pid == started.pid
    await runtime.signal("web.1@r1", "KILL")
    assert await next_end(runtime) == "web.1@r1"
    assert (await find(runtime, "web.1@r1")).exit == Exit(signal=9)


async def test_a_stopped_program_is_alive_and_only_kill_ends_it(bench: Bench) -> None:
    runtime = bench.runtime()
    started = await runtime.start(process(bench, "forever"))
    assert started.pid
    bench.pause("web.1@r1", started.pid)
    await runtime.signal("web.1@r1", "TERM")
    assert (await find(runtime, "web.1@r1")).alive
    await runtime.signal("web.1@r1", "KILL")
    assert (await until(lambda: dead(runtime, "web.1@r1"))).exit == Exit(signal=9)


async def test_a_stopped_program_is_told_from_one_that_merely_sleeps(bench: Bench) -> None:
    runtime = bench.runtime()
    sees: bool = isinstance(runtime, base.SeesStandstill)
    assert sees
    first = await runtime.start(process(bench, "forever"))
    await runtime.start(process(bench, "forever", "web.2@r1"))
    await runtime.start(process(bench, "three", "gone"))
    await until(lambda: dead(runtime, "gone"))
    ids = ["web.1@r1", "web.2@r1", "gone", "never"]
    assert await runtime.standstill(ids) == {}
    assert first.pid
    bench.pause("web.1@r1", first.pid)
    assert await runtime.standstill(ids) == {"web.1@r1": "stopped"}


async def test_signals_to_the_dead_and_the_unknown_are_no_error(bench: Bench) -> None:
    runtime = bench.runtime()
    await runtime.start(process(bench, "three"))
    await until(lambda: dead(runtime, "web.1@r1"))
    for name in ("TERM", "INT", "QUIT", "HUP", "KILL"):
        await runtime.signal("web.1@r1", name)
        await runtime.signal("nobody", name)


async def test_an_exit_code_is_seen(bench: Bench) -> None:
    runtime = bench.runtime()
    await runtime.start(process(bench, "three"))
    assert (await until(lambda: dead(runtime, "web.1@r1"))).exit == Exit(code=3)


async def test_forget_refuses_the_living_and_drops_the_dead_but_for_the_log(bench: Bench) -> None:
    runtime = bench.runtime()
    await runtime.start(process(bench, "deaf"))
    await until(lambda: runtime.log("web.1@r1").read_text() == "ready\n")
    with pytest.raises(RuntimeFault, match="alive"):
        await runtime.forget("web.1@r1")
    await runtime.signal("web.1@r1", "KILL")
    await until(lambda: dead(runtime, "web.1@r1"))
    await runtime.forget("web.1@r1")
    await runtime.forget("web.1@r1")
    assert list(await runtime.look()) == []
    assert runtime.log("web.1@r1").read_text() == "ready\n"


async def test_a_dead_service_starts_again_under_its_id(bench: Bench) -> None:
    runtime = bench.runtime()
    first = await runtime.start(process(bench, "forever"))
    await runtime.signal("web.1@r1", "KILL")
    await until(lambda: dead(runtime, "web.1@r1"))
    second = await runtime.start(process(bench, "forever"))
    assert second.alive and second.pid != first.pid
    assert len(await runtime.look()) == 1


async def test_a_job_that_ended_is_not_run_again_in_silence(bench: Bench) -> None:
    runtime = bench.runtime()
    job = process(bench, "three", record_exit=True)
    await runtime.start(job)
    await until(lambda: dead(runtime, job.id))
    with pytest.raises(RuntimeFault, match="has run already"):
        await runtime.start(job)
    await runtime.forget(job.id)
    await runtime.start(job)
    assert (await until(lambda: dead(runtime, job.id))).exit == Exit(code=3)


async def test_another_instance_adopts_and_goes_on(bench: Bench) -> None:
    first = bench.runtime()
    started = await first.start(process(bench, "forever", labels={"a": "b"}))
    second = bench.runtime()
    assert list(await second.look()) == [started]
    assert await second.start(process(bench, "forever")) == started
    await second.signal("web.1@r1", "TERM")
    assert await next_end(second) == "web.1@r1"
    assert (await find(second, "web.1@r1")).exit in (Exit(), Exit(signal=15))


async def test_a_job_s_end_is_known_to_whoever_asks_later(bench: Bench) -> None:
    first = bench.runtime()
    await first.start(process(bench, "three", record_exit=True))
    await until(lambda: dead(first, "web.1@r1"))
    assert (await until(lambda: dead(bench.runtime(), "web.1@r1"))).exit == Exit(code=3)


async def test_an_accident_wakes_the_loop(bench: Bench) -> None:
    runtime = bench.runtime()
    started = await runtime.start(process(bench, "forever"))
    assert started.pid
    bench.crash("web.1@r1", started.pid)
    assert await next_end(runtime) == "web.1@r1"
    assert (await find(runtime, "web.1@r1")).exit == Exit(signal=9)


async def test_other_stacks_are_never_seen_or_touched(bench: Bench) -> None:
    ours, theirs = bench.runtime("chat"), bench.runtime("shop")
    await ours.start(process(bench, "forever"))
    other = await theirs.start(process(bench, "forever"))
    await ours.signal("web.1@r1", "KILL")
    await until(lambda: dead(ours, "web.1@r1"))
    assert list(await theirs.look()) == [other]
    assert other.alive


async def test_use_is_told_of_the_living(bench: Bench) -> None:
    runtime = bench.runtime()
    await runtime.start(process(bench, "forever"))
    await runtime.start(process(bench, "three", "gone"))
    await until(lambda: dead(runtime, "gone"))
    use = await runtime.usage(["web.1@r1", "gone", "never"])
    assert list(use) == ["web.1@r1"]
    assert use["web.1@r1"].memory > 100_000
    assert use["web.1@r1"].cpu_seconds >= 0


async def test_addresses_are_fresh_and_short_enough(bench: Bench, tmp_path: Path) -> None:
    runtime = bench.runtime()
    ports = [runtime.address(f"web.{n}@r1", "port").port for n in range(20)]
    assert len(set(ports)) == 20
    sockets = [runtime.address(f"web.{n}@r1", "socket").socket for n in range(3)]
    assert len(set(sockets)) == 3
    with pytest.raises(EnvironmentFault, match="too long"):
        bench.runtime(run=tmp_path / ("long" * 25)).address("web.1@r1", "socket")


async def test_labels_are_not_shared_with_the_caller(bench: Bench) -> None:
    runtime = bench.runtime()
    labels = {"a": "b"}
    await runtime.start(replace(process(bench, "forever"), labels=labels))
    found = await find(runtime, "web.1@r1")
    assert found.labels == {"a": "b"}
    assert found.labels is not labels
