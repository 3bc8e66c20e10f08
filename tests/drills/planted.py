"""Engines with one fault each: ``python -m tests.drills.planted FAULT cli|controller ARGS``.

The shipped code has no switch for any of this. Here the hands of the engine are swapped for
clumsy ones; as ``cli`` it is the command line, whose ``up`` starts such a controller.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless.cli import lifecycle
from gapless.cli import main as cli
from gapless.core import balancer, certificates, plan
from gapless.core.autoscale import behaviour, deciding
from gapless.data import redisqueue
from gapless.edge import files, judging, private, render, spelling, static, tls
from gapless.engine import controller, execute, situation
from gapless.engine import main as engine
from gapless.model.process import Exit, Process, ReplicaId
from gapless.observed import Observed
from gapless.runtimes.base import Found
from gapless.runtimes.machine import proc
from gapless.runtimes.process import ProcessRuntime, sessions

ROOT = Path(__file__).parents[2]
LADEN = 5
"""Requests in flight: one in three of the load is a POST."""


class SignalFirst(execute.Executor):
    """Once, it kills a replica before the edge has been told, with requests in flight on it."""

    struck = False

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, plan.Leave) and not self.struck and await self._laden(step.id):
            self.struck = True
            await self.site.runtime.signal(str(step.id), "KILL")
        await super().perform(step, observed)

    async def _laden(self, id: ReplicaId) -> bool:
        """Hold the replica up until requests pile up on it, some of which nobody may repeat.

        Where no load runs, none come, and it goes on.
        """
        found = {one.id: one.pid for one in await self.site.runtime.look()}
        pid = found.get(str(id))
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        for _ in range(200):
            server = (await self.site.edge.look()).servers.get(id.server)
            if server is not None and server.in_flight >= LADEN:
                return True
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        return False


class KillsFirst(execute.Executor):
    """It kills whoever leaves before the edge is told."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, plan.Leave):
            await self.site.runtime.signal(str(step.id), "KILL")
        await super().perform(step, observed)


class ForgetsEnvironment(execute.Executor):
    """Starts replicas without the variables of the release."""

    def __init__(self, site: Any, *more: Any) -> None:
        super().__init__(site, *more)
        start = site.runtime.start

        async def bare(process: Process) -> Any:
            env = {k: v for k, v in process.env.items() if k != "GAPLESS_DRILL"}
            return await start(replace(process, env=env))

        site.runtime.start = bare


class TouchesOthers(execute.Executor):
    """Taking one replica out, it kills another that nobody asked it to touch."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        await super().perform(step, observed)
        if isinstance(step, plan.Leave):
            other = ReplicaId(step.id.service, 1, step.id.release)
            found = [r.id for r in observed.replicas if r.id.ordinal == other.ordinal]
            await self.site.runtime.signal(str(found[0]), "KILL")


class MovesClients(execute.Executor):
    """Whenever a replica enters, the first one leaves for a while: its clients have to move."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        await super().perform(step, observed)
        if isinstance(step, plan.Enter):
            others = [r.id for r in observed.replicas if r.id != step.id and r.ready]
            for other in others[:1]:
                await self.site.edge.leave(other.service, other.server)
                await asyncio.sleep(1.0)
                await self.site.edge.enter(await self._member(other))


class TakesAllAlong(execute.Executor):
    """Its replicas do not outlive the controller: when that dies, a watchdog kills them."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        await super().perform(step, observed)
        if isinstance(step, plan.StartReplica):
            found = {one.id: one.pid for one in await self.site.runtime.look()}
            watch(found[str(step.id)])


class ShutsAllAtOnce(execute.Executor):
    """It has no pace: at the first occasion the edge shuts every socket of a leaving replica."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, plan.ShutSockets):
            step = plan.ShutSockets(tuple((id, 1_000_000) for id, _ in step.counts))
        await super().perform(step, observed)


class LeavesTheDead(execute.Executor):
    """Whatever dies or stands still stays where it is, as long as others serve."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        others = any(one.server is not None and one.server.takes_work for one in observed.replicas)
        if isinstance(step, plan.StartReplica):
            spared = step.id.attempt > 1
        else:
            of = {str(r.id): r for r in observed.replicas}.get(str(getattr(step, "id", "")))
            found = None if of is None else proc.stat(of.pid or 0)
            spared = of is not None and (found is None or found.state in "TtZ")
        if not (others and spared):
            await super().perform(step, observed)


class BadToWorkers(execute.Executor):
    """Whom no edge has, it kills where it should tell it to end; nor does it follow any queue,
    or count what was taken from it."""

    def __init__(self, site: Any, *more: Any) -> None:
        super().__init__(site, *more)
        blind_to_taken()
        never_scales()

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, plan.Signal):
            await self.site.runtime.signal(str(step.id), "KILL")
        await super().perform(step, observed)


class LosesServers(execute.Executor):
    """After it has started an edge, nobody enters that one any more."""

    started = 0

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, balancer.StartEdge):
            self.started += 1
            observed = replace(observed, replicas=())
        if not (isinstance(step, plan.Enter) and self.started > 1):
            await super().perform(step, observed)


class KillsAtLimit(execute.Executor):
    """One that is over its limit is killed at once, whatever it serves."""

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        if isinstance(step, plan.StartReplica) and "memory limit" in step.cause:
            await self.site.runtime.signal(step.cause.split()[0], "KILL")
        await super().perform(step, observed)


class CarelessWithTls(execute.Executor):
    """Its policy lets TLS 1.1 in; a new certificate is in force once the edge was started again."""

    def __init__(self, site: Any, *more: Any) -> None:
        super().__init__(site, *more)
        speaks_old_tls()

    async def perform(self, step: plan.Step, observed: Observed) -> None:
        await super().perform(step, observed)
        if isinstance(step, certificates.InstallCertificate):
            await self.site.runtime.signal("edge", "KILL")


def watch(pid: int | None) -> None:
    """Have a process killed when this one is gone: nobody else holds the pipe's other end."""
    code = f"import os, sys; sys.stdin.read(); os.kill({pid}, 9)"
    read, _ = os.pipe()
    subprocess.Popen([sys.executable, "-c", code], stdin=read, start_new_session=True)
    os.close(read)


def blind_to_bad_answers() -> None:
    """An edge that takes nothing out of rotation for bad answers: the limit is never reached."""
    judging.ERROR_LIMIT = judging.SLOW_LIMIT = 1_000_000


def repeats_everything() -> None:
    """An edge that sends a POST again when the connection ends: it may have been done."""
    judging.REPEATABLE = ("METH_GET", "METH_OPTIONS", "METH_POST")


def gives_up() -> None:
    """An edge that sends nothing to another replica."""
    judging.RETRY_ON = ("none",)


def first_come() -> None:
    """An edge that fills the first replica before it turns to the next."""
    edited(r"balance \w+", "balance first")


def bad_edge() -> None:
    """An edge that hangs up on idle clients when it reloads, and on whom it should show the page;
    that answers 503 where requests should wait, and has lost its servers after a crash."""
    edited(r"option idle-close-on-response", "no option idle-close-on-response")
    edited(
        r"http-request return status 503(.*) if (.*) maintenance",
        r"http-request silent-drop if \2 maintenance",
    )
    edited(r"http-request lua\.gapless_hold", "http-request return status 503")
    vars(controller)["Executor"] = LosesServers


def bad_hold() -> None:
    """An edge that holds for ever, unless somebody lets go, and does what nobody waits for."""
    sound = files.script
    faults = {
        "hold.lua": {"tonumber(till) - lines.now()": "999", "ticks > 0": "true"},
        "line.lua": {"parted(mine.peer, peers)": "false"},
    }

    def script(name: str) -> str:
        text = sound(name)
        for old, new in faults.get(name, {}).items():
            if old not in text:
                raise AssertionError(f"{name} has no such line any more: {old}")
            text = text.replace(old, new)
        return text

    vars(files)["script"] = script


def edited(pattern: str, new: str) -> None:
    """An edge whose configuration says something else."""
    sound = render.text

    def text(*given: Any) -> str:
        return re.sub(pattern, new, sound(*given))

    vars(render)["text"] = text


def nobody_waits() -> None:
    """An edge that answers 503 at once where a service has nobody left."""
    edited(r"http-request lua\.gapless_await", "http-request return status 503 #")


def forgets_too_early() -> None:
    """A runtime that takes the leader's death for the end of its whole family."""
    vars(sessions)["kill"] = lambda *_, **__: True


def takes_stopped_for_dead() -> None:
    """A runtime for which a program that stands still has ended, and nothing is left of it."""
    sound = ProcessRuntime._found

    def found(self: ProcessRuntime, entry: Any) -> Found:
        seen = sound(self, entry)
        stat = None if seen.pid is None else proc.stat(seen.pid)
        if stat is None or stat.state != "T":
            return seen
        return replace(seen, alive=False, pid=None, exit=Exit())

    patched: Any = ProcessRuntime
    patched._found = found
    forgets_too_early()


def never_scales() -> None:
    """An autoscaler whose formula always gives the count that there is."""
    vars(deciding)["recommend"] = lambda _, count: count


def speaks_old_tls() -> None:
    """An edge whose policy lets TLS 1.1 in."""
    ciphers = ("ECDHE-ECDSA-AES128-SHA@SECLEVEL=0", *tls.POLICY.ciphers)
    vars(tls)["POLICY"] = replace(tls.POLICY, least="TLSv1.1", ciphers=ciphers)


def forgets_its_window() -> None:
    """An autoscaler that follows each recommendation at once, downwards too."""
    vars(behaviour)["stabilised"] = lambda wanted, *_: wanted


def blind_to_taken() -> None:
    """A store that counts what waits in a queue, and not what workers have taken from it."""

    async def none(*_: Any) -> int:
        return 0

    vars(redisqueue)["_unacknowledged"] = none


def forgets_old_files() -> None:
    """A server of files that has those of the release in force, and no others."""
    sound = situation.Situation._files

    def files(self: situation.Situation, first: int, tables: Any, *more: Any) -> Any:
        found = sound(self, first, tables, *more)
        mounts = (replace(one, folders=one.folders[:1]) for one in found.mounts)
        return replace(found, mounts=tuple(mounts))

    vars(situation)["Situation"]._files = files


def files_last() -> None:
    """An edge that gives a request for a file to the service that has the rest of the site."""
    vars(static)["rules"] = lambda *_: []


def reads_paths_as_sent() -> None:
    """An edge whose rules about paths take each spelling for another page."""
    vars(spelling)["lines"] = lambda: ["http-request set-var(txn.read) path"]


def counts_no_guess() -> None:
    """An edge at which one may guess passwords for ever."""
    counted = private._who

    def who(*given: Any) -> list[str]:
        return [line for line in counted(*given) if "sc-inc-gpc0" not in line]

    vars(private)["_who"] = who


def keeps_by_name() -> None:
    """An edge that keeps files in memory by their path, whatever is served meanwhile."""
    sound = static._way

    def way(*args: Any) -> list[str]:
        lines = [re.sub(r"(cache-store static) if .*", r"\1", line) for line in sound(*args)]
        at = next(n for n, line in enumerate(lines) if "cache-use" in line)
        return [*lines[:at], f"http-request set-header Host {static.HOST}", *lines[at:]]

    vars(static)["_way"] = way


PARTS = {
    "counts-no-guess": counts_no_guess,
    "reads-paths-as-sent": reads_paths_as_sent,
    "blind": blind_to_bad_answers,
    "first-come": first_come,
    "repeats-everything": repeats_everything,
    "gives-up": gives_up,
    "nobody-waits": nobody_waits,
    "forgets-too-early": forgets_too_early,
    "takes-stopped-for-dead": takes_stopped_for_dead,
    "never-scales": never_scales,
    "forgets-its-window": forgets_its_window,
    "forgets-old-files": forgets_old_files,
    "files-last": files_last,
    "keeps-by-name": keeps_by_name,
    "bad-edge": bad_edge,
    "bad-hold": bad_hold,
}


HANDS: dict[str, type[execute.Executor]] = {
    "signal-first": SignalFirst,
    "kills-at-limit": KillsAtLimit,
    "kills-first": KillsFirst,
    "forgets-environment": ForgetsEnvironment,
    "touches-others": TouchesOthers,
    "moves-clients": MovesClients,
    "takes-all-along": TakesAllAlong,
    "leaves-the-dead": LeavesTheDead,
    "shuts-all-at-once": ShutsAllAtOnce,
    "bad-to-workers": BadToWorkers,
    "careless-with-tls": CarelessWithTls,
}


def plant(name: str) -> None:
    """Make this process's engine a faulty one."""
    if name in PARTS:
        PARTS[name]()
    else:
        vars(controller)["Executor"] = HANDS[name]


def command(name: str, role: str) -> tuple[str, ...]:
    """How to run such an engine's command line, or the controller itself."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.drills import planted"
    return (sys.executable, "-c", f"{start}; sys.exit(planted.main())", name, role)


def main() -> int:
    name, role, *words = sys.argv[1:]
    sys.argv = [sys.argv[0], *words]
    if role == "controller":
        plant(name)
        return engine.main()
    usual = lifecycle.controller_command
    lifecycle.controller_command = (
        lambda session: [  # the planted fault
            *command(name, "controller"),
            *usual(session)[usual(session).index("--file") :],
        ]
    )
    cli.main()
    return 0
