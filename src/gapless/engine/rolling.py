"""One rollout to its end: begun, awaited, counted; and the releases that it leaves unneeded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gapless import errors
from gapless.core import goodbye
from gapless.engine import asked, waiting, wishes
from gapless.engine.controller import Controller
from gapless.engine.folder import Folder
from gapless.model.desired import Rollout


class Rolling:
    """For one change at a time: whoever calls sees to that."""

    def __init__(self, controller: Controller, folder: Folder) -> None:
        self.c = controller
        self.folder = folder

    async def roll(self, rollout: Rollout, body: asked.Body) -> dict[str, Any]:
        """The result of its end event. Raises WorkFailed, of a first one, or Refused: undone."""
        before, sockets = await self._counters(), await self._sockets()
        self.c.observer.clear_failures(set(rollout.target))
        self.c.site.journal.add(
            f"{rollout.kind} {rollout.id}",
            cause=", ".join(f"{n} to {g}" for n, g in rollout.target.items()),
            outcome="begun",
            actor=asked.actor(body),
        )
        rollout = replace(rollout, inputs=self.folder.inputs())
        wish = wishes.begun(self.c.desired, rollout, self.c.site.stack(rollout.stack))
        self.c.want(replace(wish, counter=rollout.id))
        await waiting.until(self.c, lambda: self.c.desired.rollout is None)
        outcome = self.c.desired.outcome
        counted = _difference(before, await self._counters())
        if outcome is None or outcome.id != rollout.id or not outcome.held:
            reason = outcome.reason if outcome and outcome.id == rollout.id else "it was replaced"
            self._failed(rollout, reason, counted)
        if body.get("wait"):
            await waiting.until(self.c, lambda: self.c.idle)
        await self.prune(self.c.in_force.keep)
        return {
            "drill": None,
            "held": True,
            "release": self.c.desired.stack,
            "rollout": rollout.id,
            **counted,
            "detail": {"sockets": await self._moved(sockets)},
        }

    async def _sockets(self) -> int:
        """Long connections at present."""
        with contextlib.suppress(errors.GaplessError):
            return sum((await self.c.site.edge.sockets()).values())
        return 0

    async def _moved(self, before: int) -> dict[str, Any]:
        """What has become of them: those that are left are with replicas on their way out."""
        leaving = [r for r in self.c.observed.replicas if goodbye.leaves(r)]
        draining = 0
        with contextlib.suppress(errors.GaplessError):
            now = await self.c.site.edge.sockets() if leaving else {}
            draining = sum(now.get(r.id.server, 0) for r in leaving)
        total = max(before, draining)
        return {"total": total, "moved": total - draining, "draining": draining}

    def _failed(self, rollout: Rollout, reason: str, counted: Mapping[str, Any]) -> None:
        first = not rollout.base
        kept = sum(1 for r in self.c.observed.replicas if r.alive and r.signalled_at is None)
        culprit = self.c.culprit
        hint = self.c.culprit_hint or (f"gapless logs {culprit}" if culprit else "gapless history")
        kind = errors.WorkFailed if first else errors.Refused
        tail = "" if first else f"; kept {kept} old replicas serving"
        raise kind(
            f"{rollout.kind}: {reason}{tail}",
            hint=hint,
            log=self.c.culprit_log,
            result={"held": False, "rollout": rollout.id, **counted},
        )

    async def _counters(self) -> dict[str, int]:
        with contextlib.suppress(errors.GaplessError):
            if (total := (await self.c.site.edge.counters()).get("")) is not None:
                return {"requests": total.requests, "failed": total.failed}
        return {"requests": 0, "failed": 0}

    async def prune(self, keep: int) -> Sequence[int]:
        """All releases go that nothing needs but the newest ``keep``; their numbers."""
        protected = self.c.desired.needed
        protected |= {r.generation.release for r in self.c.observed.replicas}
        protected |= {run.release for run in self.c.observed.jobs}
        gone = self.c.site.releases.surplus(keep, protected)
        if set(gone) & set(self.c.desired.shown):
            self.c.want(wishes.unshown(self.c.desired, gone))
            await waiting.until(self.c, self._files_settled)
        return await asyncio.to_thread(self.c.site.releases.prune, keep, protected)

    def _files_settled(self) -> bool:
        """Whether the files of exactly those releases are served; or nobody serves any."""
        world = self.c.world
        if world is None or world.desired != self.c.desired:
            return False
        return world.static_ready or world.observed.static.state != "running"


def _difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Counts since ``before``; an edge that restarted in between counts from its own zero."""
    return {name: max(0, after[name] - before.get(name, 0)) for name in after}
