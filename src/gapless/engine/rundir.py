"""Run directories below the machine's temporary folder: cleared when their stack is gone.

A stack whose state has a long path gets its sockets in ``gapless-UID-HASH/STACK`` of the temporary
folder. Each such directory names the state it belongs to. One whose state does not exist any more
can never be adopted, and where no socket in it is bound nobody serves there either: it may go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gapless.engine.paths import Paths

OWNER = "state"
"""File of a run directory: the path of the state that it belongs to."""
SOCKETS = Path("/proc/net/unix")


def mark(paths: Paths) -> None:
    """Name the state that a run directory belongs to."""
    with contextlib.suppress(OSError):
        (paths.run / OWNER).write_text(str(paths.state))


def remove(paths: Paths) -> None:
    """Take away a run directory of ours: nothing of its stack runs any more."""
    with contextlib.suppress(OSError):
        shutil.rmtree(paths.run)
        # Shared by the stacks of one state: it goes with the last.
        paths.run.parent.rmdir()


def sweep(paths: Paths) -> list[Path]:
    """Remove the run directories beside ours that nobody can use again; what was removed.

    Only those of our own uid that name a state that is gone and in which no socket is bound.
    """
    bound = _bound()
    removed = []
    for place in _others(paths):
        if _dead(place, bound):
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
                place.parent.rmdir()
            removed.append(place)
    return removed


def _others(paths: Paths) -> Iterator[Path]:
    home = paths.run.parent
    prefix = f"gapless-{os.geteuid()}-"
    if not home.name.startswith(prefix):
        return
    for folder in home.parent.glob(f"{prefix}*"):
        # In a folder that everybody may write to, a name alone is nobody's promise.
        with contextlib.suppress(OSError):
            if not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
                yield from (place for place in folder.iterdir() if place != paths.run)


def _dead(place: Path, bound: frozenset[str]) -> bool:
    try:
        state = (place / OWNER).read_text()
    except (OSError, UnicodeDecodeError):
        return False
    if not state.startswith("/") or os.path.lexists(state):
        return False
    return not any(path.startswith(f"{place}/") for path in bound)


def _bound() -> frozenset[str]:
    """Paths of all sockets that are bound here."""
    lines = SOCKETS.read_text("utf-8", "surrogateescape").splitlines()
    return frozenset(words[7] for line in lines if len(words := line.split(None, 7)) == 8)
