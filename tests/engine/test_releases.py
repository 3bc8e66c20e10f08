"""A release is what the folder was, complete, read-only and alone; or it is not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.release_bench import Bench
from tests.runtimes.process_bench import reachable

from gapless.engine.releases import owned, release
from gapless.engine.releases.store import DRILL
from gapless.errors import Damaged, EnvironmentFault, Refused, UsageError

ROOT = os.geteuid() == 0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with reachable() as home:
        yield Bench(home)


async def test_a_release_is_what_the_folder_was(bench: Bench) -> None:
    bench.write({"app.py": "one\n", "static/a.css": "body {}\n"})
    (bench.folder / "go.sh").write_text("#!/bin/sh\n")
    (bench.folder / "go.sh").chmod(0o4755)
    (bench.folder / "link").symlink_to("static/a.css")
    first = await bench.build(note="the first")
    bench.write({"app.py": "two\n"})
    second = await bench.build()
    assert (first.number, second.number) == (1, 2)
    assert (first.tree / "app.py").read_text() == "one\n"
    assert (second.tree / "app.py").read_text() == "two\n"
    assert (first.tree / "link").readlink() == Path("static/a.css")
    assert bench.names(first) == {"app.py", "static/a.css", "go.sh", "link"}
    assert first.digest != second.digest
    assert (first.services, first.note, first.venv, first.env) == (("web",), "the first", None, "")
    assert bench.lines[0] == "r1: 4 files, 22 B"


async def test_it_is_read_only_and_without_setuid(bench: Bench) -> None:
    bench.write({"app.py": "", "folder/b": ""})
    (bench.folder / "go.sh").touch()
    (bench.folder / "go.sh").chmod(0o6755)
    made = await bench.build()
    for path in (made.tree, *made.tree.rglob("*")):
        mode = path.stat().st_mode
        assert not mode & (0o222 | stat.S_ISUID | stat.S_ISGID), path
        assert not mode & 0o007, "others on the machine have no business in it"
        assert path.stat().st_uid == os.geteuid()
    assert (made.tree / "go.sh").stat().st_mode & 0o100
    assert not (made.tree / "app.py").stat().st_mode & 0o111


async def test_what_containers_are_given_is_readable_in_them_alone(bench: Bench) -> None:
    bench.write({"site/a/b.html": "", "one.txt": "", "secret.txt": ""})
    (bench.folder / "site" / "link").symlink_to("../secret.txt")
    volumes = '{ "/a" = "site", "/b" = "./one.txt", "/c" = ".", "/d" = "nowhere" }'
    made = await bench.build(f'[job.j]\nimage = "x"\nvolumes = {volumes}')
    others = {
        path.relative_to(made.tree).as_posix(): path.lstat().st_mode & 0o007
        for path in (made.tree, *made.tree.rglob("*"))
        if not path.is_symlink() and "__pycache__" not in path.parts
    }
    assert others == {
        ".": 0, "site": 5, "site/a": 5, "site/a/b.html": 4, "one.txt": 4, "secret.txt": 0,
    }  # fmt: skip


async def test_releases_are_found_again(bench: Bench) -> None:
    bench.write({"app.py": ""})
    made = [await bench.build(), await bench.build('secrets = ["KEY"]')]
    again = bench.again()
    assert list(again.list()) == made
    assert again.load_stack(1).secrets == ()
    assert again.load_stack(2).secrets == ("KEY",)
    with pytest.raises(UsageError, match=r"r3 is not kept \(have: r1, r2\)"):
        again.get(3)


async def test_the_manifest_says_what_is_listed(bench: Bench) -> None:
    bench.write({"app.py": ""})
    made = await bench.build()
    body = json.loads((bench.paths.releases / "r1" / "release.json").read_text())
    assert body["release"] == 1
    assert body["services"] == ["web"]
    assert body["by"] == made.by
    assert made.source.startswith(body["source"])
    assert stat.S_IMODE((bench.paths.releases / "r1" / "stack.toml").stat().st_mode) == 0o600


async def test_a_damaged_manifest_is_named(bench: Bench) -> None:
    bench.write({"app.py": ""})
    await bench.build()
    (bench.paths.releases / "r1" / "release.json").write_text("{")
    bench.write({"app.py": "pass"})
    again = bench.again()
    assert list(again.list()) == []
    with pytest.raises(Damaged, match=r"r1/release\.json: is damaged"):
        again.get(1)


# -- what belongs to it -----------------------------------------------------------------------


async def test_gitignore_is_honoured_as_git_does(bench: Bench) -> None:
    bench.write(
        {
            ".gitignore": "*.log\n/build\n!keep.log\nnode_modules/\n",
            "app.py": "",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "src/build/x": "",
            "src/.gitignore": "*.tmp\n!b.log\n",
            "src/a.tmp": "",
            "src/b.log": "",
            "other/a.tmp": "",
            "node_modules/m/index.js": "",
            ".git/HEAD": "",
            ".venv/x": "",
            "env/pyvenv.cfg": "",
            "env/bin/x": "",
            "src/__pycache__/x.pyc": "",
        }
    )
    made = await bench.build()
    assert bench.names(made) == {
        *(".gitignore", "app.py", "keep.log", "src/.gitignore", "src/b.log", "src/build/x"),
        "other/a.tmp",
    }


async def test_rules_of_the_repository_above_count(bench: Bench) -> None:
    bench.write(
        {
            ".git/HEAD": "",
            ".gitignore": "*.log\n/server/cache/\n",
            "server/app.py": "",
            "server/a.log": "",
            "server/cache/x": "",
            "server/deep/cache/x": "",
        }
    )
    made = await bench.build('source = "server"')
    assert bench.names(made) == {"app.py", "deep/cache/x"}


async def test_include_adds_built_files_back(bench: Bench) -> None:
    bench.write(
        {
            ".gitignore": "dist/\n*.map\n",
            "web/dist/a.js": "",
            "web/dist/deep/b.js": "",
            "web/dist/a.map": "",
            "dist/other": "",
            "x.map": "",
        }
    )
    made = await bench.build('include = ["web/dist/**/*.js", "x.map"]')
    assert bench.names(made) == {".gitignore", "web/dist/a.js", "web/dist/deep/b.js", "x.map"}
    whole = await bench.build('include = ["web/dist"]')
    assert "web/dist/a.map" in bench.names(whole)
    assert "dist/other" not in bench.names(whole)


async def test_the_state_is_never_part_of_what_it_holds(bench: Bench) -> None:
    bench.folder = bench.folder.parent
    bench.write({"app.py": ""})
    await bench.build()
    assert bench.names(await bench.build()) == {"app.py"}


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../outside", "../a/../../outside", "er/../../.."]
)
async def test_a_link_that_leaves_is_refused(bench: Bench, target: str) -> None:
    bench.write({"app.py": "", "deep/er/x": ""})
    (bench.folder / "deep" / "bad").symlink_to(target)
    with pytest.raises(Refused, match="deep/bad: is a link that leaves"):
        await bench.build()
    assert list(bench.paths.releases.iterdir()) == []


async def test_a_special_file_is_refused_unless_it_is_ignored(bench: Bench) -> None:
    bench.write({"app.py": ""})
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(bench.folder / "app.sock"))
    with pytest.raises(Refused, match=r"app\.sock: is a special file"):
        await bench.build()
    bench.write({".gitignore": "*.sock\n"})
    assert bench.names(await bench.build()) == {".gitignore", "app.py"}


async def test_a_missing_source_is_named(bench: Bench) -> None:
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        await bench.build('source = "nowhere"')


# -- digests ----------------------------------------------------------------------------------


async def test_the_plan_tells_what_the_build_would_be(bench: Bench) -> None:
    bench.write({"app.py": "print()\n", "b": "b"})
    before = await bench.plan()
    made = await bench.build()
    after = await bench.plan()
    assert before == after
    assert (before.digest, before.files, before.size) == (made.digest, 2, 9)


@pytest.mark.parametrize("change", ["content", "name", "mode", "link", "stack"])
async def test_every_change_shows_in_the_digest(bench: Bench, change: str) -> None:
    bench.write({"app.py": "a\n", "b": ""})
    (bench.folder / "link").symlink_to("b")
    before = (await bench.plan()).digest
    if change == "content":
        bench.write({"app.py": "b\n"})
    elif change == "name":
        (bench.folder / "b").rename(bench.folder / "c")
    elif change == "mode":
        (bench.folder / "b").chmod(0o755)
    elif change == "link":
        (bench.folder / "link").unlink()
        (bench.folder / "link").symlink_to("app.py")
    after = (await bench.plan('secrets = ["K"]' if change == "stack" else "")).digest
    assert after != before


async def test_times_and_caches_do_not_show_in_the_digest(bench: Bench) -> None:
    bench.write({"app.py": "a\n"})
    before = await bench.plan()
    os.utime(bench.folder / "app.py", (1, 1))
    bench.write({"__pycache__/app.pyc": "x", ".git/index": "x"})
    assert await bench.plan() == before


# -- nothing half -----------------------------------------------------------------------------


async def test_a_killed_build_leaves_no_release_and_is_cleared_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write({"app.py": ""})
    first = await bench.build()

    class Killed(BaseException):
        pass

    def killed(folder: Path, group: int | None) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        # Killed, it cannot clear up after itself either.
        patch.setattr(bench.releases, "_sweep", lambda: None)
        patch.setattr(owned, "seal", killed)
        with pytest.raises(Killed):
            await bench.build()
    assert (bench.paths.releases / "r2" / "tree" / "app.py").exists()
    again = bench.again()
    assert list(again.list()) == [first]
    bench.releases = again
    bench.write({"app.py": "x"})
    second = await bench.build()
    assert second.number == 2
    assert (second.tree / "app.py").read_text() == "x"


async def test_a_full_disk_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write({"app.py": "", "b": ""})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        await bench.build()
    assert list(bench.paths.releases.iterdir()) == []
    assert list(bench.releases.list()) == []


async def test_a_full_disk_at_the_last_step_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write({"app.py": ""})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release, "write", full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        await bench.build()
    assert list(bench.paths.releases.iterdir()) == []


async def test_a_link_that_another_link_bends_is_refused(bench: Bench) -> None:
    """As it is written it stays inside; as it resolves it does not."""
    bench.write({"app.py": "", "a/b/x": ""})
    (bench.folder / "a" / "b" / "top").symlink_to("../..")
    (bench.folder / "a" / "b" / "bad").symlink_to("top/../c")
    with pytest.raises(Refused, match="a/b/bad: is a link that leaves"):
        await bench.build()


async def test_a_file_that_never_rests_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write({"busy.db": "x"})
    real = hashlib.sha256

    def touching(*data: bytes) -> object:
        with (bench.folder / "busy.db").open("a") as busy:
            busy.write("x")
        return real(*data)

    monkeypatch.setattr(hashlib, "sha256", touching)
    with pytest.raises(Refused, match=r"busy\.db: changes while it is copied"):
        await bench.build()


@pytest.mark.skipif(ROOT, reason="root can read everything")
async def test_an_unreadable_file_is_named(bench: Bench) -> None:
    bench.write({"app.py": "", "closed": ""})
    (bench.folder / "closed").chmod(0)
    with pytest.raises(Refused, match="closed: cannot be read: Permission denied"):
        await bench.build()


# -- pruning ----------------------------------------------------------------------------------


async def test_what_a_drill_made_goes_first_and_its_number_is_never_given_again(
    bench: Bench,
) -> None:
    await bench.build()
    bench.write({"app.py": "of a drill"})
    await bench.build(note=DRILL)
    assert list(bench.releases.prune(5, {1})) == [2]
    assert bench.again().next_number() == 3


async def test_the_newest_and_the_protected_are_kept(bench: Bench) -> None:
    for n in range(6):
        bench.write({"app.py": str(n)})
        await bench.build()
    assert list(bench.releases.prune(2, {1, 3})) == [2, 4]
    for known in (bench.releases, bench.again()):
        assert [made.number for made in known.list()] == [1, 3, 5, 6]
    assert sorted(path.name for path in bench.paths.releases.iterdir()) == ["r1", "r3", "r5", "r6"]
    assert list(bench.releases.prune(2, {1, 3})) == []
    assert list(bench.releases.prune(0, {3})) == [1, 5, 6]
    assert bench.releases.kept == {3}
