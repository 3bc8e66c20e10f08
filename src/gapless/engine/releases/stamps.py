"""Times of the files that are served: other contents never have the time of those before.

Clients are told whether a file has changed by its time and size. Builds that give every file the
same time would have them keep yesterday's page for ever, for its size is often the same.
"""

from __future__ import annotations

import filecmp
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from gapless.engine.releases.release import Release
from gapless.errors import EnvironmentFault, Refused
from gapless.model.static import Static


def settle(tables: Mapping[str, Static], tree: Path, before: Release | None) -> None:
    """In the folders that ``tables`` publish: what is as it was keeps its time, all else gets a
    later one than anything of the release ``before``.

    Raises Refused where such a folder is missing: everything in it would be missing.
    """
    now = time.time_ns()
    for path, table in tables.items():
        if table.store is not None:
            continue
        folder = tree / table.dir
        if not folder.is_dir():
            raise Refused(
                f"[edge] static: the release has no folder {table.dir}, which {path} publishes",
                hint="build it before the deploy, and name it in include if git ignores it",
            )
        if before is None:
            continue
        try:
            for file in _files(folder):
                _stamp(file, before.tree / file.relative_to(tree), before.created_at, now)
        except OSError as error:
            raise EnvironmentFault(f"{folder}: {error.strerror}") from None


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (file for name in names if not (file := Path(here, name)).is_symlink())


def _stamp(file: Path, earlier: Path, since: float, now: int) -> None:
    seen, latest = file.stat(), since
    if earlier.is_file() and not earlier.is_symlink():
        old = earlier.stat()
        if old.st_size == seen.st_size and filecmp.cmp(file, earlier, shallow=False):
            if old.st_mtime_ns != seen.st_mtime_ns:
                os.utime(file, ns=(old.st_mtime_ns, old.st_mtime_ns))
            return
        latest = max(since, old.st_mtime)
    if seen.st_mtime <= latest:
        # A time to come, of a clock that was wrong, is later still.
        later = max(now, int(latest + 1) * 1_000_000_000)
        os.utime(file, ns=(later, later))
