"""``plan``: what a command would do, by unrolling the same decision over a simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from gapless import errors
from gapless.core import plan as plans
from gapless.core import simulate, sizing
from gapless.engine import clock, machine, preflight, rollouts, wishes
from gapless.engine.certificates import report as certificates
from gapless.model.desired import Desired
from gapless.model.stack import Stack
from gapless.observed import DataNode

if TYPE_CHECKING:
    from gapless.engine.controller import Controller
    from gapless.engine.operations import Operations


class Planning:
    """Hypothetical records, unrolled. Changes nothing."""

    def __init__(self, controller: Controller, operations: Operations) -> None:
        self.c = controller
        self.operations = operations

    async def plan(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of ``POST /v1/plan``."""
        what = str(body.get("what") or "deploy")
        make = {
            "deploy": self._deploy,
            "up": self._up,
            "rollback": self._rollback,
            "restart": self._restart,
            "scale": self._scale,
            "stop": self._stop,
            "start": self._stop,
            "maintenance": self._maintenance,
            "down": self._down,
        }.get(what)
        if make is None:
            raise errors.UsageError(f'plan: "{what}" has no plan')
        desired, extra, notes = await make(body)
        observed = self.c.observed
        for added in extra.values():
            nodes = {
                name: DataNode(name, table.type, "absent", served=table.runs)
                for name, table in added.data.items()
                if name not in observed.data
            }
            observed = replace(observed, data={**observed.data, **nodes})
        world = self.c.situation.world(desired, replace(observed, faults={}), extra)
        steps = simulate.unroll(world)
        stack = self._stack_of(desired, extra)
        scale = {} if desired.rollout else desired.scale
        return self._answer(steps, stack, notes, scale)

    def _stack_of(self, desired: Desired, extra: Mapping[int, Stack]) -> Stack | None:
        number = desired.rollout.stack if desired.rollout else desired.stack
        if number is None:
            return None
        return extra.get(number) or self.c.site.stack(number)

    def _answer(
        self, steps: plans.Plan, stack: Stack | None, notes: list[str], scale: Mapping[str, int]
    ) -> dict[str, Any]:
        box = machine.now()
        totals: dict[str, Any] = {}
        if stack is not None:
            wanted = sizing.totals(stack, box, scale)
            totals = {
                **asdict(wanted),
                "machine_cpus": box.cpus,
                "machine_memory": box.memory,
                "fits": not sizing.misfit(wanted, box),
            }
            most = sizing.misfit(sizing.ceiling(stack, box), box)
            if most and not sizing.misfit(wanted, box):
                notes.append(f"not all fit that scale allows: {most}")
            notes += [
                f"{name}: pool_url and replica_url are its url (no pooler, no standby)"
                for name, table in stack.data.items()
                if table.type == "postgres"
            ]
            seen = self.c.observed.certificates
            notes += certificates.notes(stack, seen, proven="tls" in self.c.desired.proven)
        shown = [s for s in steps.steps if not isinstance(s, plans.Forget)]
        return {
            "text": str(steps),
            "steps": [{"text": s.text, "cause": s.cause, "subject": s.subject} for s in shown],
            "totals": totals,
            "notes": notes,
        }

    async def _deploy(self, body: Mapping[str, Any]) -> tuple[Desired, dict[int, Stack], list[str]]:
        loaded = self.operations.folder.load(body, keep=False)
        number = self.c.site.releases.next_number()
        if not body.get("force") and await self.operations.folder.unchanged(loaded):
            return self.c.desired, {}, ["the folder holds what runs: a deploy does nothing"]
        park = sizing.room_to_park(loaded.stack, machine.now(), self.c.desired.auto)
        notes = [f"a release r{number} is built first"]
        if not park:
            notes.append("no room for old and new together (undo by restart)")
        rollout = rollouts.deploy(
            self.c.desired,
            number,
            loaded.stack,
            tuple(body.get("services") or ()),
            kind="deploy" if self.c.desired.vector else "up",
            park=park,
            surge_all=bool(body.get("surge_all")),
        )
        desired = wishes.begun(self.c.desired, rollout, loaded.stack)
        return desired, {number: loaded.stack}, notes

    async def _up(self, body: Mapping[str, Any]) -> tuple[Desired, dict[int, Stack], list[str]]:
        if not self.c.desired.vector:
            return await self._deploy(body)
        return replace(self.c.desired, running=True), {}, []

    async def _rollback(
        self, body: Mapping[str, Any]
    ) -> tuple[Desired, dict[int, Stack], list[str]]:
        wanted = body.get("release")
        number = None if wanted is None else int(wanted)
        stack = None if number is None else self.c.site.stack(preflight.kept(self.c.site, number))
        rollout = rollouts.rollback(self.c.desired, self.c.site.stack, number, stack)
        return replace(self.c.desired, rollout=rollout), {}, ["no release jobs run"]

    async def _restart(
        self, body: Mapping[str, Any]
    ) -> tuple[Desired, dict[int, Stack], list[str]]:
        stack = self._running("restart")
        services = tuple(body.get("services") or ())
        if services == ("edge",):
            return wishes.edge_restarted(self.c.desired, stack), {}, []
        preflight.known(stack, services)
        park = sizing.room_to_park(stack, machine.now(), self.c.desired.auto)
        rollout = rollouts.restart(self.c.desired, stack, services, park=park)
        return replace(self.c.desired, rollout=rollout), {}, []

    async def _scale(self, body: Mapping[str, Any]) -> tuple[Desired, dict[int, Stack], list[str]]:
        stack = self._running("scale")
        return wishes.scaled(self.c.desired, stack, dict(body["counts"])), {}, []

    async def _stop(self, body: Mapping[str, Any]) -> tuple[Desired, dict[int, Stack], list[str]]:
        stop = body["what"] == "stop"
        services = tuple(body.get("services") or ())
        stack = self._running(str(body["what"]))
        return wishes.stopped(self.c.desired, stack, services, stop), {}, []

    async def _maintenance(
        self, body: Mapping[str, Any]
    ) -> tuple[Desired, dict[int, Stack], list[str]]:
        stack = self._running("maintenance")
        if "hold" in body:
            wish = wishes.held(
                self.c.desired, stack, float(body["hold"]), clock.now(), clock.wall()
            )
            return wish, {}, ["the edge lets them go by itself when the time is over"]
        return wishes.maintained(self.c.desired, stack, bool(body["on"])), {}, []

    async def _down(self, _: Mapping[str, Any]) -> tuple[Desired, dict[int, Stack], list[str]]:
        return wishes.down(self.c.desired), {}, ["data is kept"]

    def _running(self, what: str) -> Stack:
        stack = self._stack_of(self.c.desired, {})
        if stack is None:
            raise errors.Refused(f"{what}: the stack is not up", hint="gapless up -d")
        return stack

    def releases(self) -> list[dict[str, Any]]:
        """The answer of ``GET /v1/releases``."""
        desired = self.c.desired
        current = {gen.release for gen in desired.vector.values()}
        before = (
            {gen.release for gen in desired.previous.vector.values()} if desired.previous else ()
        )
        return [
            {
                "release": f"r{release.number}",
                "created_at": release.created_at,
                "by": release.by,
                "source": release.source,
                "services": [
                    n for n, gen in desired.vector.items() if gen.release == release.number
                ],
                "state": "current"
                if release.number in current
                else "previous"
                if release.number in before
                else "kept",
            }
            for release in sorted(self.c.site.releases.list(), key=lambda r: r.number)
        ]
