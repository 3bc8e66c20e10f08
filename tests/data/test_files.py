"""The shared folder: who owns it, who may write, who may not even look."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real import stores

from gapless.data import base, files
from gapless.errors import DataFault

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
WEB, WORKER, STRANGER, SHARED = 71_001, 71_002, 71_003, 71_900


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


def place(roof: Path, *, uid: int | None, group: int | None = None, **other: Any) -> base.Place:
    return stores.place(roof, "media", uid=uid, group=group, **other)


def as_user(uid: int, group: int | None, *argv: str) -> int:
    groups = [] if group is None else [group]
    who: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": groups, "umask": 0o077}
    return subprocess.run(argv, cwd="/", capture_output=True, check=False, **who).returncode


async def test_alone(roof: Path) -> None:
    store = files.Files("media", place(roof, uid=None))
    assert not store.created()
    assert "No such file" in await store.probe()
    await store.create()
    await store.create()
    path = Path(store.attributes()["path"])
    assert store.created()
    assert await store.probe() == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with pytest.raises(DataFault, match="no shell"):
        store.shell()
    path.chmod(0o500)
    assert "lets nobody write" in await store.probe()


@needs_root
@pytest.mark.parametrize("group", [SHARED, None])
async def test_services_share_whatever_their_umask(roof: Path, group: int | None) -> None:
    store = files.Files("media", place(roof, uid=WEB, group=group))
    await store.create()
    path = store.attributes()["path"]
    file = f"{path}/sub/a.txt"
    write = ("/bin/sh", "-c", 'mkdir -p "${0%/*}" && echo one >> "$0"', file)
    assert as_user(WEB, group, *write) == 0
    assert as_user(WORKER, group, "/bin/cat", file) == 0
    assert as_user(WORKER, group, *write) == 0
    assert as_user(WORKER, group, "/bin/rm", file) == 0
    # Nobody else gets in: not into the folder of a group, not to a name that cannot be listed.
    if group is not None:
        assert as_user(STRANGER, None, "/bin/ls", path) != 0
    assert as_user(STRANGER, None, "/bin/ls", str(Path(path).parent)) != 0
    # The same folder is found again.
    again = files.Files("media", place(roof, uid=WEB, group=group))
    assert again.created()
    assert again.attributes()["path"] == path


@needs_root
async def test_a_group_that_comes_later_keeps_the_files(roof: Path) -> None:
    store = files.Files("media", place(roof, uid=WEB))
    await store.create()
    path = Path(store.attributes()["path"])
    (path / "kept").write_text("x")
    later = files.Files("media", place(roof, uid=WEB, group=SHARED))
    assert not later.created()
    await later.create()
    assert Path(later.attributes()["path"]) == path
    assert (path / "kept").exists()
    assert path.stat().st_gid == SHARED
    assert stat.S_IMODE(path.stat().st_mode) == 0o2770


class Containers:
    """That there are some is all that counts here."""


@needs_root
async def test_who_became_somebody_in_a_container_reads_what_another_one_made(roof: Path) -> None:
    store = files.Files("media", place(roof, uid=WEB, group=SHARED, packed=Containers()))
    await store.create()
    path = store.attributes()["path"]
    write = ("/bin/sh", "-c", 'umask 022; echo one > "$0"', f"{path}/a.txt")
    assert as_user(WEB, SHARED, *write) == 0
    assert as_user(STRANGER, None, "/bin/cat", f"{path}/a.txt") == 0
    assert as_user(STRANGER, None, "/bin/ls", str(Path(path).parent)) != 0


@needs_root
async def test_a_folder_that_an_image_made_its_own_stays_so(roof: Path) -> None:
    store = files.Files("media", place(roof, uid=WEB, group=SHARED, packed=Containers()))
    await store.create()
    path = Path(store.attributes()["path"])
    path.chmod(0o700)
    assert not store.created()  # it is half-made
    os.chown(path, STRANGER, STRANGER)
    assert store.created()
    assert await store.probe() == ""
