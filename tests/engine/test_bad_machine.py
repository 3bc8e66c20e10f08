"""A machine that refuses, and state that was damaged: named in one line, or worked around."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless import stackfile
from gapless.engine import durable, listeners, lock, preflight
from gapless.engine.journal import Journal
from gapless.engine.paths import Paths
from gapless.errors import Damaged, EnvironmentFault, Locked, UsageError, WorkFailed
from gapless.model.desired import Generation
from gapless.model.process import Address, ReplicaId
from gapless.observed import Observed, Replica


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "7", '{"vector": {"web": 1}}', '{"running": "perhaps"}', "\udcff", ""],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Damaged) as fault:
        durable.load_desired(path)
    assert fault.value.message.startswith(f"{path}: the record of what is wanted is damaged: ")
    assert "\n" not in fault.value.message
    assert "pydantic" not in fault.value.message
    assert fault.value.exit_code == 4


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"boot": "x", "marks": [], "attempts": {}, "ports": {}}',
        '{"boot": "x", "marks": {"web.1@r1": 7}, "attempts": {}, "ports": {}}',
        '{"boot": "x", "marks": {}, "attempts": {"nobody": 2}, "ports": {}}',
        '{"boot": "x", "marks": {}, "attempts": {}, "ports": {"a": "b"}}',
    ],
)
def test_a_damaged_notebook_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notebook.json"
    path.write_text(text)
    book = durable.Notebook.load(path)
    assert (book.marks, book.attempts, book.ports) == ({}, {}, {})
    book.of("web.1@r1").ever_ready = True
    book.attempts["web.1@r1"] = 2
    book.save()
    again = durable.Notebook.load(path)
    assert again.marks["web.1@r1"].ever_ready
    assert again.attempts == {"web.1@r1": 2}


@pytest.mark.parametrize("body", [b"no database" * 200, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_journal_is_put_aside(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(body)
    journal = Journal(path)
    journal.add("up")
    assert [entry["what"] for entry in journal.tail(2)][-1] == "up"
    journal.close()
    assert (tmp_path / "journal.db.damaged").read_bytes() == body


def test_a_journal_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(EnvironmentFault, match="cannot be opened"):
        Journal(tmp_path / "journal.db")


def test_who_listens_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"(pid {os.getpid()})" in listeners.holder(port)
    assert listeners.holder(port) == ""


def test_a_listener_of_a_stack_is_told_with_its_name() -> None:
    serve = (
        "import socket,time;s=socket.create_server(('127.0.0.1',0));"
        "print(s.getsockname()[1],flush=True);time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", serve],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GAPLESS_PROCESS": "shop-staging/edge/abc"},
    )
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert listeners.holder(port).endswith(f"(pid {child.pid}) of the stack shop-staging")
    finally:
        child.kill()
        child.communicate()


def test_its_controller_is_not_told_in_its_place() -> None:
    """It may hold the same socket, and may have the lower pid."""
    children = []
    with socket.create_server(("127.0.0.1", 0)) as held:
        for mark in ("controller/shop-staging", "shop-staging/edge/abc"):
            env = {**os.environ, "GAPLESS_PROCESS": mark}
            children.append(
                subprocess.Popen(["/bin/sleep", "60"], env=env, pass_fds=[held.fileno()])
            )
        port = held.getsockname()[1]
    try:
        own = children[1].pid
        assert listeners.holder(port) == f"sleep (pid {own}) of the stack shop-staging"
    finally:
        for child in children:
            child.kill()
            child.wait()


def replica(place: Path, *, alive: bool = True) -> Observed:
    id = ReplicaId("web", 1, 1)
    return Observed(
        replicas=(
            Replica(
                id=id,
                generation=Generation(1),
                alive=alive,
                started_at=0.0,
                address=Address(socket=str(place)),
                ever_ready=True,
            ),
        )
    )


def test_a_socket_that_was_removed_is_told(tmp_path: Path) -> None:
    place = tmp_path / "s"
    with pytest.raises(WorkFailed, match="the run directory was cleared") as fault:
        preflight.reachable(replica(place), ("web",))
    assert "gapless restart" in str(fault.value.hint)
    preflight.reachable(replica(place), ("other",))
    preflight.reachable(replica(place, alive=False), ("web",))
    place.touch()
    preflight.reachable(replica(place), ("web",))


def test_what_a_container_is_given_must_be_there(tmp_path: Path) -> None:
    text = """\
gapless = 1
name = "shop"
secrets = ["KEY"]
source = "code"
[service.web]
image = "web"
volumes = { "/a" = "conf", "/b" = "${kept.path}", "/c" = "%s/out", "/d" = "${secret.KEY}" }
[data.kept]
type = "files"
"""
    stack = stackfile.parse(text % tmp_path).stack
    (tmp_path / "code" / "conf").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"\[service.web\] volumes./c: /.* is not there") as fault:
        preflight.mounted(tmp_path, stack)
    assert "mkdir -p /" in str(fault.value.hint)
    (tmp_path / "out").mkdir()
    preflight.mounted(tmp_path, stack)
    (tmp_path / "code" / "conf").rmdir()
    with pytest.raises(UsageError, match=r"volumes./a: conf is not there"):
        preflight.mounted(tmp_path, stack)


MOUNT, UMOUNT = "/bin/mount", "/bin/umount"


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that is full."""
    if os.geteuid() != 0 or not Path(MOUNT).exists():
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine mounts nothing")
    try:
        yield place
    finally:
        subprocess.run([UMOUNT, "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "filling").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return


def test_a_full_disk_is_a_fault_and_the_old_content_stays(full: Path) -> None:
    path = full / "desired.json"
    durable.write(path, "old")
    fill(full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        durable.write(path, "new" * 3000)
    assert path.read_text() == "old"
    assert [entry.name for entry in full.iterdir() if entry.name.startswith(".")] == []


def test_the_lock_holds_on_a_full_disk(full: Path) -> None:
    paths = Paths("shop", full, full)
    (full / "lock").touch()
    fill(full)
    with lock.take(paths), pytest.raises(Locked, match="another controller holds the lock"):
        lock.take(paths)


def test_ports_outlive_a_damaged_notebook(tmp_path: Path) -> None:
    path = tmp_path / "notebook.json"
    durable.Notebook.load(path).keep_port("data.db", 12_345)
    for damaged in ("", "{", "[]"):
        path.write_text(damaged)
        assert durable.Notebook.load(path).ports == {"data.db": 12_345}
    durable.Notebook.load(path).save()
    (tmp_path / durable.PORTS).write_text("{")
    assert durable.Notebook.load(path).ports == {"data.db": 12_345}
    path.write_text("{")
    with pytest.raises(Damaged, match="ports of stores and services are lost"):
        durable.Notebook.load(path)
