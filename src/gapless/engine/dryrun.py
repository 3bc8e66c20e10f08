"""A plan without a controller: what ``up`` would do where nothing runs. It leaves nothing behind.

Where replicas run, only a controller knows which of them are ready, and a plan that guessed would
be worth nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless import errors, stackfile
from gapless.engine import main, offline
from gapless.engine.controller import Controller
from gapless.engine.front import Front
from gapless.engine.operations import Operations
from gapless.engine.paths import Paths
from gapless.engine.planning import Planning


async def plan(file: Path, overlay: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of ``POST /v1/plan``. Raises NoController when something runs unwatched."""
    stack = stackfile.load(file, overlay).stack
    paths = Paths.of(stack.id)
    if offline.anything_runs(offline.status(paths)):
        raise errors.NoController(
            f"{stack.id}: replicas run, but no controller that knows which are ready",
            hint="gapless up -d starts one; it adopts them",
        )
    with tempfile.TemporaryDirectory(prefix="gapless-plan-") as scratch:
        if not paths.state.exists():
            paths = Paths(stack.id, Path(scratch) / "state", Path(scratch) / "run")
            paths.make()
        site = main.site(paths, stack, file.absolute().parent)
        try:
            controller = Controller(site)
            seen = await controller.observer.look(controller.desired)
            front = await Front(Paths.of(stack.id)).look()
            controller.observed = replace(seen, front=front)
            planning = Planning(controller, Operations(controller, file, overlay))
            return await planning.plan({**body, "what": _asked(body, controller)})
        finally:
            site.journal.close()


def _asked(body: Mapping[str, Any], controller: Controller) -> str:
    """A deploy of what is not up begins with its first ``up``."""
    what = str(body.get("what") or "deploy")
    if not controller.desired.vector and what not in ("deploy", "up", "down", "rollback"):
        raise errors.Refused(f"{what}: the stack is not up", hint="gapless up -d")
    return "up" if what == "deploy" and not controller.desired.vector else what
