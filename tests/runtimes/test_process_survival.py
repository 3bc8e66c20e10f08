"""The controller dies; the programs, and what is known of them, do not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.runtimes.process_bench import controller, corpse, dead, find, gone, launch, until

from gapless.model.process import Exit, Process
from gapless.runtimes.machine import proc
from gapless.runtimes.process import ProcessRuntime, records


def places(runtime: ProcessRuntime, tmp_path: Path) -> tuple[Path, Path]:
    return runtime.state, tmp_path / "run"


async def test_a_killed_controller_s_programs_are_adopted(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    body = 'await runtime.start(Process("web.1@r1", ("sleep", "600"), labels={"a": "b"}))'
    controller(*places(runtime, tmp_path), body)
    found = await find(runtime, "web.1@r1")
    assert found.alive and found.labels == {"a": "b"} and found.pid
    assert Path(f"/proc/{found.pid}/comm").read_text() == "sleep\n"
    await runtime.signal("web.1@r1", "TERM")
    assert await anext(aiter(runtime.ended())) == "web.1@r1"
    assert (await find(runtime, "web.1@r1")).exit == Exit(), "nobody was there to see it"


async def test_a_job_s_exit_code_survives_the_controller(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.01; done; exit 7"
    body = f"""
await runtime.start(Process("job.1", ("sh", "-c", {script!r}), record_exit=True))
"""
    controller(*places(runtime, tmp_path), body)
    assert (await find(runtime, "job.1")).alive
    gate.touch()
    assert (await until(lambda: dead(runtime, "job.1"))).exit == Exit(code=7)


async def test_a_job_s_timeout_holds_without_a_controller(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    body = """
await runtime.start(Process("job.1", ("sleep", "600"), record_exit=True, timeout=0.3))
"""
    controller(*places(runtime, tmp_path), body)
    found = await until(lambda: dead(runtime, "job.1"))
    assert found.exit == Exit(signal=15, timed_out=True)
    assert "not done after 0.3 s" in runtime.log("job.1").read_text()


async def test_term_reaches_a_job_through_its_keeper(runtime: ProcessRuntime) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    await runtime.start(Process("job.1", ("sh", "-c", script), record_exit=True))
    await until(lambda: runtime.log("job.1").read_text())
    await runtime.signal("job.1", "TERM")
    assert (await until(lambda: dead(runtime, "job.1"))).exit == Exit(code=5)


async def test_killing_a_job_kills_it_and_its_keeper(runtime: ProcessRuntime) -> None:
    started = await runtime.start(
        Process("job.1", ("sh", "-c", "echo $$; sleep 600"), record_exit=True)
    )
    pid = int(await until(lambda: runtime.log("job.1").read_text()))
    assert pid != started.pid
    await runtime.signal("job.1", "KILL")
    assert (await until(lambda: dead(runtime, "job.1"))).exit == Exit(signal=9)
    await until(lambda: gone(pid))


KILLED_BEFORE_RECORD = """
import os, signal
from gapless.runtimes.machine import proc

def die(self, record):
    print(record.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

records.Records.save = die
await runtime.start(Process("web.1@r1", ("touch", TARGET)))
"""


@pytest.mark.parametrize("after_record", [False, True])
async def test_killed_around_the_record_leaves_no_orphan(
    runtime: ProcessRuntime, tmp_path: Path, after_record: bool
) -> None:
    """The program must not run unless its record is there; here the fork is, the order is not."""
    target = tmp_path / "ran"
    body = KILLED_BEFORE_RECORD.replace("TARGET", repr(str(target)))
    if after_record:
        body = body.replace("def die", "save = records.Records.save\ndef die")
        body = body.replace("print(record", "save(self, record); print(record")
    controller(*places(runtime, tmp_path), body, lives=False)
    found = await runtime.look()
    if after_record:
        await until(lambda: dead(runtime, "web.1@r1"))
    else:
        assert list(found) == []
    mark = f"{records.MARK}=starting/web.1@r1"
    await until(lambda: not any(proc.marked(each.pid, mark) for each in proc.scan()))
    assert not target.exists()


async def planted(runtime: ProcessRuntime, pid: int, **changes: object) -> None:
    """A record, as if an earlier controller had written it."""
    found = proc.stat(pid)
    assert found
    facts = {
        "id": "web.1@r1",
        "stack": "chat",
        "pid": pid,
        "start": found.start,
        "boot": proc.boot(),
        "nonce": "0123",
        "labels": {},
        **changes,
    }
    store = records.Records(runtime.state, "chat")
    store.make()
    (store.procs / "web.1@r1.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "change", [{"start": 1}, {"boot": "another/1"}], ids=["pid reused", "another boot"]
)
async def test_a_reused_pid_is_dead_and_never_hit(
    runtime: ProcessRuntime, change: dict[str, object]
) -> None:
    with launch("sleep", "600") as foreign:
        try:
            await planted(runtime, foreign.pid, **change)
            found = await find(runtime, "web.1@r1")
            assert (found.alive, found.exit) == (False, Exit())
            for name in ("TERM", "KILL"):
                await runtime.signal("web.1@r1", name)
            await runtime.forget("web.1@r1")
            assert foreign.poll() is None
        finally:
            foreign.kill()


async def test_the_record_as_it_was_planted_is_believed_when_it_is_true(
    runtime: ProcessRuntime,
) -> None:
    """The counterpart of the test above: without a change the same plant is adopted and hit."""
    with launch("sleep", "600") as program:
        await planted(runtime, program.pid)
        assert (await find(runtime, "web.1@r1")).alive
        await runtime.signal("web.1@r1", "KILL")
        assert program.wait(20) == -signal.SIGKILL


async def test_a_zombie_is_dead(runtime: ProcessRuntime) -> None:
    with corpse() as body:
        await planted(runtime, body.pid)
        assert not (await find(runtime, "web.1@r1")).alive


FAMILY = "sh -c 'echo $$; trap : TERM; while :; do sleep 600; done' & wait"


async def test_what_a_dead_leader_left_is_killed_when_it_is_forgotten(
    runtime: ProcessRuntime,
) -> None:
    started = await runtime.start(Process("web.1@r1", ("sh", "-c", FAMILY)))
    child = int(await until(lambda: runtime.log("web.1@r1").read_text()))
    assert started.pid
    os.kill(started.pid, signal.SIGKILL)
    await until(lambda: dead(runtime, "web.1@r1"))
    assert not gone(child)
    await runtime.forget("web.1@r1")
    assert gone(child)


async def test_also_when_nobody_saw_the_leader_die(runtime: ProcessRuntime, tmp_path: Path) -> None:
    body = f"""
import os, time
found = await runtime.start(Process("web.1@r1", ("sh", "-c", {FAMILY!r})))
while not runtime.log("web.1@r1").read_text():
    await asyncio.sleep(0.01)
os.kill(found.pid, 9)
os.waitpid(found.pid, 0)
"""
    controller(*places(runtime, tmp_path), body)
    child = int(runtime.log("web.1@r1").read_text())
    assert not (await find(runtime, "web.1@r1")).alive
    assert not gone(child)
    await runtime.forget("web.1@r1")
    assert gone(child)


async def test_strangers_in_a_session_of_the_same_number_are_not_hit(
    runtime: ProcessRuntime,
) -> None:
    """Its leader is gone, so the number proves nothing, and they do not carry our mark."""
    with launch("sh", "-c", "sleep 600 & echo $!") as leader:
        assert leader.stdout
        stranger = int(leader.stdout.readline())
        await planted(runtime, leader.pid)
        leader.wait(20)
    try:
        assert not (await find(runtime, "web.1@r1")).alive
        await runtime.forget("web.1@r1")
        assert not gone(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
