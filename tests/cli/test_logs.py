"""Logs from files: which, how much, since when, in which order; also cut ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gapless.cli import logs
from gapless.engine import logfiles
from gapless.runtimes.machine import logs as rotation

from .conftest import Folder


def write(folder: Folder, name: str, text: str, age: float = 0.0) -> Path:
    folder.paths.logs.mkdir(parents=True, exist_ok=True)
    path = folder.paths.logs / f"{name}.log"
    path.write_text(text)
    at = time.time() - age
    os.utime(path, (at, at))
    return path


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_previous_shows_what_has_ended(folder: Folder) -> None:
    write(folder, "web.1@r1", "one\ntwo\n")
    assert folder.gapless("logs").out == ""
    assert lines(folder.gapless("logs", "--previous").out) == ["web.1@r1 | one", "web.1@r1 | two"]


@pytest.mark.parametrize("name", ["web", "web.1", "web.1@r2"])
def test_a_name_that_only_the_dead_bear_shows_the_newest_of_them(folder: Folder, name: str) -> None:
    write(folder, "web.1@r1", "old\n", age=60)
    write(folder, "web.1@r2", "crashed\n")
    answer = folder.gapless("logs", name)
    assert lines(answer.out) == ["web.1@r2 | crashed"]
    assert "web.1@r2 has ended" in answer.err


def test_tail_counts_lines_and_all_means_all(folder: Folder) -> None:
    write(folder, "web.1@r1", "".join(f"line {n}\n" for n in range(500)))
    default = folder.gapless("logs", "--previous").out.splitlines()
    assert (len(default), default[0][-8:], default[-1][-8:]) == (100, "line 400", "line 499")
    assert len(folder.gapless("logs", "--previous", "--tail", "3").out.splitlines()) == 3
    assert len(folder.gapless("logs", "--previous", "--tail", "all").out.splitlines()) == 500
    assert folder.gapless("logs", "--previous", "--tail", "0").out == ""


def test_grep_searches_everything(folder: Folder) -> None:
    write(folder, "web.1@r1", "".join(f"line {n}\n" for n in range(500)))
    answer = folder.gapless("logs", "--previous", "--grep", r"line \d$")
    assert len(answer.out.splitlines()) == 10


def test_merge_goes_by_the_lines_own_times(folder: Folder) -> None:
    write(folder, "web.1@r1", "2026-01-01T10:00:00Z a\n  more of a\n2026-01-01T10:00:02Z c\n")
    write(folder, "web.2@r1", "[2026-01-01 10:00:01+00:00] b\n")
    text = folder.gapless("logs", "--previous", TZ="UTC").out
    assert [line.split()[-1] for line in text.splitlines()] == ["a", "a", "b", "c"]


def test_since_goes_by_times_where_there_are_any_and_says_where_not(folder: Folder) -> None:
    def stamp(ago: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - ago))

    write(folder, "web.1@r1", f"{stamp(3600)} old\n{stamp(10)} new\n")
    write(folder, "web.2@r1", "undated\n")
    write(folder, "web.3@r1", "long ago\n", age=7200)
    answer = folder.gapless("logs", "--previous", "--since", "5m")
    assert sorted(line.split()[-1] for line in answer.out.splitlines()) == ["new", "undated"]
    assert "web.2@r1: lines carry no time" in answer.err
    assert "web.1@r1: lines" not in answer.err


def test_control_characters_do_not_reach_the_terminal(folder: Folder) -> None:
    write(folder, "web.1@r1", "\x1b]0;owned\x07text\n")
    assert "\x1b" not in folder.gapless("logs", "--previous").out


@pytest.mark.parametrize("tail", [None, 5, 150, 250])
def test_a_rotated_log_is_read_as_one(tmp_path: Path, tail: int | None) -> None:
    kept = rotation.Logs(tmp_path)
    path = tmp_path / "web.1@r1.log"
    every = []
    for block in range(3):
        with path.open("a") as file:
            for n in range(100):
                every.append(f"block {block} line {n} {'x' * 100}")
                file.write(every[-1] + "\n")
        if block < 2:
            assert kept.rotate(1000, 50, known=frozenset({"web.1@r1"}))
    got, offset = logfiles.read(path, tail)
    assert got == (every if tail is None else every[-tail:])
    assert offset == path.stat().st_size


def test_a_torn_last_line_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"whole\nto\xffrn")
    assert logfiles.read(path, None)[0] == ["whole", "to�rn"]


@pytest.mark.parametrize(
    ("line", "dated"),
    [
        ("2026-01-01T10:00:00Z x", True),
        ("2026-01-01 10:00:00,123 x", True),
        ("[2026-01-01 10:00:00,123: INFO/MainProcess] x", True),
        ("INFO 2026-01-01 10:00:00 x", True),
        ("2026-13-01 10:00:00 x", False),
        ("at 2026-01-01 10:00:00 something", False),
        ("", False),
    ],
)
def test_moments(line: str, dated: bool) -> None:
    assert (logs.moment(line) is not None) == dated


def test_follow_shows_lines_as_they_come(folder: Folder) -> None:
    path = write(folder, "controller", "first\n")
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "gapless", "logs", "controller", "-f"],
        cwd=folder.path,
        env=dict(folder.env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    try:
        assert running.stdout.readline() == "controller | first\n"
        with path.open("a") as file:
            file.write("half")
            file.flush()
            file.write(" and whole\nnext\n")
        assert running.stdout.readline() == "controller | half and whole\n"
        assert running.stdout.readline() == "controller | next\n"
    finally:
        running.terminate()
        running.wait()
        running.stdout.close()
