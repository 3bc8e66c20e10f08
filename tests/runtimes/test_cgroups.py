"""Control groups: on this machine where we may make some, and version 2 on a made-up tree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.runtimes.process.cgroups import Cgroups

MINE = f"test-{os.getpid()}"


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    made = Cgroups(MINE)
    if lacking := {name: why for name, why in made.kept().items() if why}:
        pytest.skip(f"no control groups here: {lacking}")
    yield made
    assert Cgroups(MINE).kept() == {"memory": "", "cpu": ""}


def test_what_reaches_its_wall_is_killed_and_told_from_others(groups: Cgroups) -> None:
    waits = "import sys; sys.stdin.read(); x = bytearray(b'x') * (200 << 20)"
    greedy = subprocess.Popen(["/usr/bin/python3", "-c", waits], stdin=subprocess.PIPE)
    groups.confine("web.1@r1", greedy.pid, 100 << 20, 0.5)
    assert groups.fault == ""
    assert not groups.ran_out("web.1@r1")
    greedy.communicate()
    assert greedy.returncode == -9
    assert groups.ran_out("web.1@r1")
    assert not groups.ran_out("web.2@r1")
    groups.remove("web.1@r1")
    assert not groups.ran_out("web.1@r1")


def test_it_leaves_nothing_behind(groups: Cgroups) -> None:
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    groups.confine("web.1@r1", sleeper.pid, 100 << 20, 0.5)
    assert _left()
    groups.remove("web.1@r1")
    assert _left(), "a group with a living program stays"
    sleeper.kill()
    sleeper.wait()
    groups.remove("web.1@r1")
    groups.remove("web.1@r1")
    assert not _left()


def _left() -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"*gapless-{MINE}"),
            *Path("/sys/fs/cgroup").glob(f"*/gapless-{MINE}")]  # fmt: skip


def test_a_machine_without_groups_says_so_and_lets_it_run(tmp_path: Path) -> None:
    none = tmp_path / "mounts"
    none.write_text("proc /proc proc rw 0 0\n")
    groups = Cgroups("chat", none)
    assert groups.kept() == {
        "memory": "this machine offers no control groups for memory",
        "cpu": "this machine offers no control groups for cpu",
    }
    groups.confine("web.1@r1", 1, None, 2.0)
    assert groups.fault.startswith("limits.cpu is not enforced: this machine offers no")
    assert not groups.ran_out("web.1@r1")
    groups.remove("web.1@r1")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A version 2 hierarchy made of plain files, as far as those can be one."""
    top = tmp_path / "cgroup"
    top.mkdir()
    (top / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (top / "cgroup.subtree_control").write_text("memory\n")
    (tmp_path / "mounts").write_text(f"cgroup2 {top} cgroup2 rw,nosuid 0 0\n")
    (tmp_path / "own").write_text("0::/\n")
    return tmp_path


def test_version_2_is_handed_down_and_limited(tree: Path) -> None:
    groups = Cgroups("chat", tree / "mounts", tree / "own")
    groups.confine("web.1@r1", 4711, 100, 1.5)
    assert groups.fault == ""
    chat = tree / "cgroup/gapless-chat"
    assert (tree / "cgroup/cgroup.subtree_control").read_text() == "+cpu"
    assert (chat / "cgroup.subtree_control").read_text() in ("+cpu", "+memory")
    files = {path.name: path.read_text() for path in (chat / "web.1@r1").iterdir()}
    assert files == {"memory.max": "100", "cpu.max": "150000 100000", "cgroup.procs": "4711"}
    (chat / "web.1@r1/memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 0\n")
    assert not groups.ran_out("web.1@r1")
    (chat / "web.1@r1/memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\n")
    assert groups.ran_out("web.1@r1")


def test_what_fails_halfway_is_a_fault_and_no_exception(tree: Path) -> None:
    groups = Cgroups("chat", tree / "mounts", tree / "own")
    (tree / "cgroup/gapless-chat").write_text("in the way")
    groups.confine("web.1@r1", 4711, 100, None)
    assert groups.fault.startswith("limits.memory is not enforced: ")
