"""Where a stack runs: as processes of the machine, or its images in containers. Remembered."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gapless import errors

if TYPE_CHECKING:
    from gapless.engine.paths import Paths

PROCESS, DOCKER = "process", "docker"
TARGETS = (PROCESS, DOCKER)
"""Those that work in this version; help names no other."""
FILE = "target"


def of(paths: Paths, asked: str | None) -> str:
    """Where the stack runs, or is to run. Raises Refused where it runs elsewhere already."""
    from gapless.engine import durable

    known = None
    with contextlib.suppress(OSError):
        known = (paths.state / FILE).read_text().strip()
    known = known or PROCESS
    if asked is not None and asked != known and durable.load_desired(paths.record).running:
        raise errors.Refused(
            f"{paths.stack}: runs on target {known}, not {asked}",
            hint="gapless down, then gapless up on the other",
        )
    return asked or known


def keep(paths: Paths, target: str) -> None:
    """Remember it. Raises OSError."""
    if target != PROCESS or (paths.state / FILE).exists():
        (paths.state / FILE).write_text(f"{target}\n")
