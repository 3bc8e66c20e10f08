"""Looking without a controller: real programs with real records, and nobody who answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest

from gapless.engine import offline, secrets
from gapless.engine.journal import Journal
from gapless.model.process import Process
from gapless.runtimes.process import ProcessRuntime

from .conftest import Folder

SLEEPER = (
    "import os, time\nprint('hello', os.environ.get('KEY', ''), flush=True)\ntime.sleep(600)\n"
)


@pytest.fixture
async def running(folder: Folder) -> AsyncIterator[Folder]:
    """Two replicas of web: 1 lives, 2 has been killed. The runtime that started them is gone."""
    folder.paths.make()
    folder.paths.record.write_text(json.dumps({"vector": {"web": {"release": 7}}, "stack": 7}))
    runtime = ProcessRuntime(folder.paths.state, folder.paths.run, "shop")
    for name in ("web.1@r7", "web.2@r7"):
        await runtime.start(
            Process(
                id=name,
                argv=(sys.executable, "-c", SLEEPER),
                env={"SERVER_ID": name, "KEY": "hunter2-hunter2"},
                cwd=str(folder.path),
                labels={"kind": "replica", "epoch": "0"},
            )
        )
    await runtime.signal("web.2@r7", "KILL")
    async for name in runtime.ended():
        if name == "web.2@r7":
            break
    log = runtime.log("web.1@r7")
    deadline = asyncio.get_running_loop().time() + 20
    while b"hello" not in log.read_bytes():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    yield folder
    await runtime.signal("web.1@r7", "KILL")
    async for _ in runtime.ended():
        break


async def run(folder: Folder, *words: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(folder.gapless, *words)
    return done.code, done.out, done.err


async def test_ps_tells_the_living_from_the_dead(running: Folder) -> None:
    code, text, _ = await run(running, "ps", "--json")
    status = json.loads(text)
    assert (code, status["controller"], status["release"]) == (0, "dead", "r7")
    one, two = status["services"][0]["replicas"]
    assert (one["id"], one["state"]) == ("web.1@r7", "running")
    assert (two["id"], two["state"], two["pid"]) == ("web.2@r7", "stopped", None)
    os.kill(one["pid"], 0)
    assert abs(time.time() - one["started_at"]) < 60


async def test_ps_says_so_in_words(running: Folder) -> None:
    code, text, err = await run(running, "ps")
    assert code == 0
    assert text.startswith("shop at r7 · controller: dead")
    assert "gapless up -d" in err


async def test_a_record_of_another_boot_is_dead_whatever_has_its_pid(running: Folder) -> None:
    record = running.paths.state / "procs" / "web.1@r7.json"
    body = json.loads(record.read_text())
    was = dict(body)
    body["boot"] = "another"
    record.write_text(json.dumps(body))
    try:
        assert [p.alive for p in offline.programs(running.paths)] == [False, False]
    finally:
        record.write_text(json.dumps(was))


async def test_a_pid_that_was_reused_is_dead(running: Folder) -> None:
    record = running.paths.state / "procs" / "web.1@r7.json"
    body = json.loads(record.read_text())
    record.write_text(json.dumps({**body, "start": body["start"] - 1}))
    try:
        assert not any(p.alive for p in offline.programs(running.paths))
    finally:
        record.write_text(json.dumps(body))


async def test_describe_and_top_and_logs(running: Folder) -> None:
    code, text, _ = await run(running, "describe", "web.1", "--json")
    assert (code, json.loads(text)["id"]) == (0, "web.1@r7")
    code, text, _ = await run(running, "top", "--json")
    rows = json.loads(text)["rows"]
    assert [row["id"] for row in rows] == ["web.1@r7"]
    assert rows[0]["memory"] > 1_000_000
    code, text, _ = await run(running, "logs", "web.1")
    assert text == "web.1@r7 | hello hunter2-hunter2\n"


async def test_logs_hide_the_values_of_secrets(running: Folder) -> None:
    secrets.Secrets(running.paths).set("KEY", "hunter2-hunter2")
    _, text, _ = await run(running, "logs", "web.1")
    assert text == "web.1@r7 | hello ***\n"


async def test_grep_cannot_be_used_to_guess_a_secret(running: Folder) -> None:
    secrets.Secrets(running.paths).set("KEY", "hunter2-hunter2")
    _, text, _ = await run(running, "logs", "web.1", "--grep", "hunter2")
    assert text == ""


async def test_exec_runs_beside_the_replica(running: Folder) -> None:
    script = "import os; print(os.getcwd(), os.environ['KEY'], 'GAPLESS_PROCESS' in os.environ)"
    code, text, _ = await run(running, "exec", "web.1", "--", sys.executable, "-c", script)
    assert (code, text.split()) == (0, [str(running.path), "hunter2-hunter2", "False"])
    code, _, _ = await run(running, "exec", "web.1@r7", "--", "sh", "-c", "exit 9")
    assert code == 9


async def test_exec_of_what_is_not_there(running: Folder) -> None:
    code, _, err = await run(running, "exec", "web.1", "--", "/no/such/program")
    assert (code, "/no/such/program: cannot be run" in err) == (2, True)
    code, _, err = await run(running, "exec", "web.2", "--", "true")
    assert (code, 'no running replica "web.2"' in err) == (2, True)


async def test_exec_refuses_an_environment_that_was_overwritten(folder: Folder) -> None:
    folder.paths.make()
    runtime = ProcessRuntime(folder.paths.state, folder.paths.run, "shop")
    found = await runtime.start(
        Process(id="web.1@r1", argv=("sleep", "600"), env={"SERVER_ID": "something else"})
    )
    try:
        code, _, err = await run(folder, "exec", "web.1", "--", "true")
        assert (code, "overwritten its environment" in err) == (1, True)
        assert "gapless run web -- COMMAND" in err
    finally:
        assert found.pid is not None
        os.kill(found.pid, signal.SIGKILL)
        async for _ in runtime.ended():
            break


async def test_history_is_read_from_the_journal(running: Folder) -> None:
    journal = Journal(running.paths.journal)
    journal.add("web.1@r7 start", cause="release 7", actor="ada")
    code, text, _ = await run(running, "history", "--json")
    journal.close()
    assert code == 0
    assert json.loads(text)[0] | {"at": 0} == {
        "at": 0,
        "actor": "ada",
        "what": "web.1@r7 start",
        "cause": "release 7",
        "outcome": "done",
    }


async def test_a_damaged_journal_is_one_clear_message(running: Folder) -> None:
    running.paths.journal.write_bytes(b"not a database at all" * 100)
    code, _, err = await run(running, "history")
    assert (code, "journal.db: cannot be read" in err) == (4, True)


async def test_the_lock_is_looked_at_and_not_taken(running: Folder) -> None:
    import fcntl

    running.paths.lock.write_text("pid 1 of ada")
    with running.paths.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _, text, _ = await run(running, "lock", "status", "--json")
        assert json.loads(text) == {"held": True, "holder": "pid 1 of ada"}
    _, text, _ = await run(running, "lock", "status", "--json")
    assert json.loads(text) == {"held": False, "holder": ""}


async def test_a_damaged_record_does_not_hide_what_runs(running: Folder) -> None:
    running.paths.record.write_text("{")
    code, text, _ = await run(running, "ps", "--json")
    assert (code, json.loads(text)["services"][0]["replicas"][0]["state"]) == (0, "running")
