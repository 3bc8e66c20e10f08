"""Times of served files: other contents have other times, the same ones keep theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gapless.engine.releases import stamps
from gapless.engine.releases.release import Release
from gapless.errors import Refused
from gapless.model.static import Static

TABLES = {"/static": Static(dir="web"), "/up": Static(dir="${files.path}")}
OLD = 1_000_000_000


def release(home: Path, number: int, at: float) -> Release:
    return Release(
        number=number,
        created_at=at,
        by="",
        digest="",
        source="",
        env="",
        tree=home / f"r{number}" / "tree",
        venv=None,
        text="",
        overlay=None,
        services=(),
    )


def write(one: Release, name: str, text: str, at: float = OLD) -> Path:
    file = one.tree / "web" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (at, at))
    return file


def test_a_build_that_gives_all_files_one_time(tmp_path: Path) -> None:
    now = time.time()
    first, second = release(tmp_path, 1, now - 50), release(tmp_path, 2, now - 1)
    write(first, "index.html", "app-1.js")
    write(first, "same.css", "x", at=OLD + 5)
    page = write(second, "index.html", "app-2.js")
    same = write(second, "same.css", "x")
    fresh = write(second, "new.css", "x")
    late = write(second, "late.css", "x", at=now + 500)
    stamps.settle(TABLES, second.tree, first)
    assert page.stat().st_mtime >= now - 50
    assert fresh.stat().st_mtime >= now - 50
    assert same.stat().st_mtime == OLD + 5
    assert late.stat().st_mtime == pytest.approx(now + 500)
    # Back to what it was, and yet another: never a time that clients have for other contents.
    third = release(tmp_path, 3, now)
    back = write(third, "index.html", "app-1.js")
    later = write(third, "late.css", "y", at=now + 500)
    stamps.settle(TABLES, third.tree, second)
    assert back.stat().st_mtime > page.stat().st_mtime - 1e-3
    assert later.stat().st_mtime > late.stat().st_mtime


def test_the_first_release_and_links_are_left_alone(tmp_path: Path) -> None:
    one, two = release(tmp_path, 1, time.time()), release(tmp_path, 2, time.time())
    file = write(one, "a", "x")
    stamps.settle(TABLES, one.tree, None)
    assert file.stat().st_mtime == OLD
    write(two, "b", "x")
    (two.tree / "web" / "a").symlink_to(file)
    stamps.settle(TABLES, two.tree, one)
    assert file.stat().st_mtime == OLD


def test_a_folder_that_is_missing_is_no_release(tmp_path: Path) -> None:
    one = release(tmp_path, 1, 0.0)
    one.tree.mkdir(parents=True)
    with pytest.raises(Refused, match="no folder web"):
        stamps.settle(TABLES, one.tree, None)
