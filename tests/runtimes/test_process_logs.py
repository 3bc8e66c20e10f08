"""Logs are bounded while programs write to them, and no line is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.runtimes.process_bench import dead, until

from gapless.errors import EnvironmentFault
from gapless.model.process import Process
from gapless.runtimes.machine import logs
from gapless.runtimes.process import ProcessRuntime

LINES = 200_000


def everything(store: logs.Logs, id: str) -> bytes:
    text = b""
    for part in store.parts(id):
        with logs.open_at_start(part) as file:
            text += file.read()
    return text


async def test_rotation_under_a_live_writer_loses_nothing(runtime: ProcessRuntime) -> None:
    script = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done"
    await runtime.start(Process("a", ("sh", "-c", script)))
    cut = 0
    while await dead(runtime, "a") is None:
        cut += len(runtime.rotate(50_000, keep=10_000))
    assert cut >= 3, "nothing was rotated while it wrote"
    lines = everything(runtime.logs, "a").decode().splitlines()
    assert lines == [f"line {n}" for n in range(LINES)]


async def test_room_is_given_back_and_old_parts_are_few(runtime: ProcessRuntime) -> None:
    await runtime.start(Process("a", ("sh", "-c", "seq 300000; echo more; sleep 600")))
    await until(lambda: runtime.log("a").read_bytes().endswith(b"more\n"))
    size = runtime.log("a").stat().st_size
    assert runtime.rotate(100_000, keep=2) == ["a"]
    assert runtime.log("a").stat().st_size == size, "the writer's end must not move"
    assert runtime.log("a").stat().st_blocks * 512 < 10_000
    for _ in range(4):
        with runtime.log("a").open("ab") as more:
            more.write(b"x\n" * 100_000)
        assert runtime.rotate(100_000, keep=2) == ["a"]
    assert [part.name for part in runtime.logs.parts("a")] == ["a.log.2", "a.log.1", "a.log"]
    assert runtime.rotate(100_000, keep=2) == []


def store_with(tmp_path: Path, text: bytes) -> logs.Logs:
    store = logs.Logs(tmp_path / "logs")
    store.make()
    store.path("a").write_bytes(text)
    return store


@pytest.mark.parametrize("same", [False, True], ids=["lines differ", "all lines alike"])
def test_killed_between_copy_and_cut_nothing_is_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Alike lines are the trap: what the last part holds cannot be told from what follows it."""
    text = b"".join(b"line %d\n" % (0 if same else n) for n in range(10_000))
    store = store_with(tmp_path, text)
    punch = logs._punch

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "_punch", killed)
    with pytest.raises(KeyboardInterrupt):
        store.rotate(50_000, 9, known=frozenset())
    monkeypatch.setattr(logs, "_punch", punch)
    with store.path("a").open("ab") as live:
        live.write(text)
    store.rotate(50_000, 9, known=frozenset())
    assert everything(store, "a") == text + text


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"line\n" * 10_000
    store = store_with(tmp_path, text)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        store.rotate(10_000, 9, known=frozenset())
    monkeypatch.undo()
    assert everything(store, "a") == text
    assert [part.name for part in store.parts("a")] == ["a.log"]


def test_a_flood_is_bounded_and_the_newest_lines_are_kept(tmp_path: Path) -> None:
    lines = [b"line %07d\n" % n for n in range(100_000)]
    store = store_with(tmp_path, b"".join(lines))
    assert store.flooded(10_000)
    store.rotate(10_000, 3, known=frozenset())
    sizes = [part.stat().st_size for part in store.parts("a")[:-1]]
    assert len(sizes) == 3 and max(sizes) <= 10_000
    assert store.path("a").stat().st_blocks * 512 < 10_000
    assert not store.flooded(10_000)
    kept = everything(store, "a")
    assert kept == b"".join(lines)[-len(kept) :]
    assert len(kept) > 29_900


async def test_a_program_that_floods_its_log_takes_bounded_room(runtime: ProcessRuntime) -> None:
    await runtime.start(Process("a", ("sh", "-c", "yes flood")))
    rounds = 0
    while rounds < 3:
        await until(lambda: runtime.flooded(1 << 20))
        runtime.rotate(1 << 20, 2)
        old = runtime.logs.parts("a")[:-1]
        assert sum(part.stat().st_size for part in old) <= 2 << 20
        rounds += 1


def test_a_half_line_stays_in_the_live_file(tmp_path: Path) -> None:
    store = store_with(tmp_path, b"line\n" * 10_000 + b"half")
    store.rotate(1000, 1, known=frozenset())
    with logs.open_at_start(store.path("a")) as live:
        assert live.read() == b"half"


def test_logs_of_the_gone_are_kept_up_to_a_number(tmp_path: Path) -> None:
    store = store_with(tmp_path, b"x")
    os.utime(store.path("a"), (0, 0))
    for n in range(logs.FORGOTTEN + 5):
        store.path(f"web.{n}").write_bytes(b"x")
        os.utime(store.path(f"web.{n}"), (n + 1, n + 1))
    store.rotate(1000, 1, known=frozenset({"a"}))
    left = {path.name for path in store.folder.iterdir()}
    assert "a.log" in left, "the living are kept, however old"
    assert len(left) == logs.FORGOTTEN + 1
    assert "web.4.log" not in left and "web.5.log" in left
