"""Removing what a stack that is down does not need: as the one writer, without a controller."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gapless import errors
from gapless.engine import durable, lock, wishes
from gapless.engine.paths import Paths
from gapless.engine.releases import images
from gapless.engine.releases.store import Releases


def prune(paths: Paths, keep: int) -> tuple[Sequence[int], Sequence[int]]:
    """Releases removed, and those that are left: what ``up`` starts again, what a rollback goes
    back to, and the newest ``keep``.

    Raises Locked, NoController where something is to run and nobody watches it, Damaged,
    RuntimeFault, EnvironmentFault.
    """
    with lock.take(paths):
        desired = durable.load_desired(paths.record)
        if desired.running:
            raise errors.NoController(
                f"{paths.stack}: it runs without a controller", hint="gapless up -d"
            )
        releases = Releases(paths)
        gone = releases.surplus(keep, desired.needed)
        # Before they go: pages of a release that is not there could not be served.
        durable.save_desired(paths.record, wishes.unshown(desired, gone))
        releases.prune(keep, desired.needed)
        asyncio.run(images.forget(paths, releases.kept))
        return gone, sorted(releases.kept)
