"""One-off commands with a service's code and environment, and the shells of stores."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapless import errors
from gapless.engine import asked, jobs, logfiles
from gapless.model.process import Process

if TYPE_CHECKING:
    from gapless.engine.controller import Controller

POLL = 0.1
"""Seconds between two looks at the output of a one-off."""


class Inside:
    """Runs beside the stack, never as part of the plan: nothing desired depends on it."""

    def __init__(self, controller: Controller) -> None:
        self.c = controller
        self._number = 0
        self.under_way: list[str] = []
        """Names of the one-offs that run now."""

    async def run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job, or a command with a service's environment; its output goes to the events."""
        name = str(body.get("name") or "")
        argv = tuple(str(word) for word in body.get("argv") or ())
        runtime = self.c.site.runtime
        known = {found.id for found in await runtime.look()}
        process = self._process(name, argv)
        while process.id in known:  # left by a controller that died beside it
            process = self._process(name, argv)
        declared = name in self.c.site.stack(self.c.desired.stack or 0).jobs and not argv
        log = runtime.log(process.id)
        offset = logfiles.size(log)
        self.c.site.journal.add(f"run {name}", cause=" ".join(argv[:1]), actor=asked.actor(body))
        if not declared:
            await runtime.start(process)
        elif other := await jobs.start(self.c.site, process):
            raise errors.Refused(
                f"run {name}: {other} is under way; a job never runs twice at once",
                hint=f"gapless logs -f {name}",
            )
        self.under_way.append(name)
        try:
            while True:
                found = next((f for f in await runtime.look() if f.id == process.id), None)
                offset = self._output(log, offset, id(body))
                if found is None or not found.alive:
                    break
                await asyncio.sleep(POLL)
        finally:
            self.under_way.remove(name)
            await self._end(process.id)
        end = found.exit if found else None
        if end is None or end.code != 0:
            raise errors.WorkFailed(f"{name}: {end or 'ended unseen'}", result={"exit": str(end)})
        return {"exit": 0}

    def _process(self, name: str, argv: tuple[str, ...]) -> Process:
        """What to start. Raises Refused, UsageError."""
        desired = self.c.desired
        if desired.stack is None:
            raise errors.Refused(f"run {name}: the stack is not up", hint="gapless up -d")
        stack = self.c.site.stack(desired.stack)
        if name in stack.services and not argv:
            raise errors.UsageError(
                f"run: {name} is a service: say what to run with its code and environment",
                hint=f"gapless run {name} -- COMMAND",
            )
        if name not in stack.jobs and name not in stack.services:
            have = ", ".join((*stack.jobs, *stack.services))
            raise errors.UsageError(
                f'run: nothing is named "{name}" (have: {have})',
                hint="gapless run SERVICE -- COMMAND",
            )
        generation = desired.vector.get(name)
        release = generation.release if generation else desired.stack
        self._number -= 1  # rollouts count up from 1: a one-off is never taken for one's job
        return self.c.site.job(name, release, str(self._number), argv)

    def _output(self, log: Any, offset: int, owner: int) -> int:
        size = logfiles.size(log)
        if size <= offset:
            return offset
        with log.open("rb") as stream:
            stream.seek(offset)
            raw = stream.read(size - offset)
        text = raw.decode("utf-8", "replace")
        self.c.events.publish({"event": "output", "text": text, "for": owner})
        return offset + len(raw)

    async def _end(self, id: str) -> None:
        """Clear the one-off away, killed first when whoever ran it gave up."""
        runtime = self.c.site.runtime
        for found in await runtime.look():
            if found.id == id:
                if found.alive:
                    await runtime.signal(id, "KILL")
                    return
                await runtime.forget(id)

    def connect(self, name: str, actor: str = "operator") -> dict[str, Any]:
        """(argv, env) of a store's shell. The access is written to the history."""
        store = self.c.site.stores.get(name)
        if store is None:
            have = ", ".join(self.c.site.stores) or "none"
            raise errors.UsageError(f'no store is named "{name}" (have: {have})')
        argv, env = store.shell()
        self.c.site.journal.add(f"connect {name}", actor=actor)
        return {"argv": list(argv), "env": dict(env)}
