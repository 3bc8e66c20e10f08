"""What belongs to a program, and is gone before a successor may start: not just its leader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runtimes.process_bench import controller, dead, find, gone, until

from gapless.drills import scratch
from gapless.model.process import Process
from gapless.runtimes import base
from gapless.runtimes.machine import proc
from gapless.runtimes.process import ProcessRuntime, records, sessions

CHILD = "echo $$; trap : TERM; while :; do sleep 600; done"
# Each leaves a child that survives its leader, in a way of its own.
LEAVERS = {
    "in its session": f"sh -c '{CHILD}' & wait",
    "in a session of its own": f"setsid sh -c '{CHILD}' & wait",
    "as an orphan in a session of its own": f"(setsid sh -c '{CHILD}' &) ; wait; sleep 600",
    "without its environment": f"env -i PATH=/usr/bin:/bin sh -c '{CHILD}' & wait",
}


async def child_of(runtime: ProcessRuntime, script: str) -> tuple[base.Found, int]:
    """Start it; the program and the pid of its child."""
    found = await runtime.start(Process("beat.1@r1", ("sh", "-c", script)))
    return found, int(await until(lambda: runtime.log("beat.1@r1").read_text()))


@pytest.mark.parametrize("how", sorted(LEAVERS))
async def test_a_dead_leader_s_child_is_gone_once_it_is_forgotten(
    runtime: ProcessRuntime, how: str
) -> None:
    found, child = await child_of(runtime, LEAVERS[how])
    assert found.pid
    os.kill(found.pid, signal.SIGKILL)
    await until(lambda: dead(runtime, "beat.1@r1"))
    assert not gone(child), "the leader's death alone is not the end of it"
    await runtime.forget("beat.1@r1")
    assert gone(child)


@pytest.mark.parametrize("how", ["in its session", "in a session of its own"])
async def test_stopped_children_are_gone_as_well(runtime: ProcessRuntime, how: str) -> None:
    found, child = await child_of(runtime, LEAVERS[how])
    assert found.pid
    os.kill(child, signal.SIGSTOP)
    os.kill(found.pid, signal.SIGKILL)
    await until(lambda: dead(runtime, "beat.1@r1"))
    await runtime.forget("beat.1@r1")
    assert gone(child)


async def test_who_left_session_environment_and_parent_is_found_if_seen_before(
    runtime: ProcessRuntime,
) -> None:
    script = f"env -i PATH=/usr/bin:/bin setsid sh -c '{CHILD}' & wait"
    found, child = await child_of(runtime, script)
    assert found.pid
    await until(lambda: (stat := proc.stat(child)) is not None and stat.session == child)
    await runtime.usage(["beat.1@r1"])
    os.kill(found.pid, signal.SIGKILL)
    await until(lambda: dead(runtime, "beat.1@r1"))
    await runtime.forget("beat.1@r1")
    assert gone(child)


async def test_a_program_of_another_stack_is_left_alone(runtime: ProcessRuntime) -> None:
    """One that a program has brought up: it has a mark of its own."""
    script = f"{records.MARK}=other/web.1@r1/x setsid sh -c '{CHILD}' & wait"
    found, child = await child_of(runtime, script)
    assert found.pid
    try:
        os.kill(found.pid, signal.SIGKILL)
        await until(lambda: dead(runtime, "beat.1@r1"))
        await runtime.forget("beat.1@r1")
        assert not gone(child)
    finally:
        os.killpg(child, signal.SIGKILL)


async def test_the_number_of_who_was_given_up_is_watched_no_longer(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for dead while it lives: the next client has its number, and must be heard."""
    found = await runtime.start(Process("beat.1@r1", ("sleep", "600")))
    assert found.pid
    with monkeypatch.context() as patch, contextlib.ExitStack() as open_ones:
        patch.setattr(runtime, "_found", lambda _: replace(found, alive=False))
        patch.setattr(sessions, "kill", lambda *_, **__: True)
        await runtime.forget("beat.1@r1")
        for _ in range(4):  # the lowest free numbers, and so that one
            ours, theirs = map(open_ones.enter_context, socket.socketpair())
            heard = asyncio.Event()
            asyncio.get_running_loop().add_reader(ours, heard.set)
            theirs.send(b"!")
            await asyncio.wait_for(heard.wait(), 10)
            asyncio.get_running_loop().remove_reader(ours)
    os.kill(found.pid, signal.SIGKILL)


FIRST_THREAD_ENDS = """
import ctypes, os, threading, time
threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)]).start()
print(os.getpid(), flush=True)
ctypes.CDLL(None).syscall({number}, 0)
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no number of exit(2)")
async def test_a_program_whose_first_thread_has_ended_is_alive(runtime: ProcessRuntime) -> None:
    """It looks like a zombie in /proc, and works on."""
    number = 60 if os.uname().machine == "x86_64" else 93
    code = FIRST_THREAD_ENDS.format(number=number)
    found = await runtime.start(Process("beat.1@r1", (scratch.interpreter(), "-c", code)))
    assert found.pid
    pid = found.pid
    await until(lambda: (stat := proc.stat(pid)) is not None and stat.state == "Z")
    assert (await find(runtime, "beat.1@r1")).alive
    assert not gone(pid)
    await runtime.signal("beat.1@r1", "KILL")
    await until(lambda: dead(runtime, "beat.1@r1"))
    assert gone(pid)


STARTED = 'await runtime.start(Process("beat.1@r1", {argv!r}, labels={{"kind": "replica"}}))'


def lose(runtime: ProcessRuntime, how: str) -> None:
    place = runtime.state / "procs" / "beat.1@r1.json"
    if how == "removed":
        place.unlink()
    else:
        place.write_text("{")


@pytest.mark.parametrize("how", ["removed", "damaged"])
async def test_a_program_whose_record_is_lost_is_found_and_ended(
    runtime: ProcessRuntime, tmp_path: Path, how: str
) -> None:
    """Else the next controller would start a second one beside it."""
    argv = ("sh", "-c", LEAVERS["in a session of its own"])
    controller(runtime.state, tmp_path / "run", STARTED.format(argv=argv))
    child = int(await until(lambda: runtime.log("beat.1@r1").read_text()))
    lose(runtime, how)
    found = await find(runtime, "beat.1@r1")
    assert found.alive and found.pid and base.LOST in found.labels
    again = await runtime.start(Process("beat.1@r1", ("touch", str(tmp_path / "second"))))
    assert again.pid == found.pid, "the id stays taken"
    await runtime.signal("beat.1@r1", "KILL")
    await until(lambda: dead(runtime, "beat.1@r1"))
    await runtime.forget("beat.1@r1")
    assert gone(child)
    assert not (tmp_path / "second").exists()


async def test_also_when_only_a_child_of_it_is_left(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    body = STARTED.format(argv=("sh", "-c", LEAVERS["in its session"]))
    controller(runtime.state, tmp_path / "run", body)
    child = int(await until(lambda: runtime.log("beat.1@r1").read_text()))
    record = records.Records(runtime.state, "chat").load("beat.1@r1")
    assert record
    os.kill(record.pid, signal.SIGKILL)
    await until(lambda: gone(record.pid))
    lose(runtime, "removed")
    found = await find(runtime, "beat.1@r1")
    assert not found.alive and not gone(child)
    await runtime.forget("beat.1@r1")
    assert gone(child)


async def test_a_stranger_with_our_mark_is_not_ours(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    """A stack of the same name under another roof, say."""
    other = ProcessRuntime(tmp_path / "other" / "chat", tmp_path / "run2", "chat")
    try:
        started = await other.start(Process("beat.1@r1", ("sleep", "600")))
        (other.state / "procs" / "beat.1@r1.json").unlink()
        assert list(await runtime.look()) == []
        assert started.pid and not gone(started.pid)
    finally:
        await other.signal("beat.1@r1", "KILL")
        await until(lambda: dead(other, "beat.1@r1"))
        await other.forget("beat.1@r1")
        other.close()


async def test_a_start_that_takes_long_is_seen(
    runtime: ProcessRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may take it for absent: a second one would be started beside it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    save = records.Records.save

    def slowly(self: records.Records, record: records.Record) -> None:
        gate.read_text()
        save(self, record)

    monkeypatch.setattr(records.Records, "save", slowly)
    start = asyncio.ensure_future(runtime.start(Process("beat.1@r1", ("sleep", "600"))))
    try:
        await until(runtime.look)
        found = await find(runtime, "beat.1@r1")
        assert found.alive and found.pid is None
    finally:
        gate.write_text("go")
    assert (await start).pid
    assert (await find(runtime, "beat.1@r1")).pid
