"""Which of a stack's programs are its edge: one, and those that another image has taken over from,
which go on for as long as they have connections."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from gapless.edge import programs
from gapless.model.process import Process
from gapless.runtimes.base import Found, Runtime


def of(founds: Iterable[Found]) -> list[Found]:
    """All of them, the one started last first."""
    # No service may be called that, and an id is known also where the record is lost.
    ours = [one for one in founds if one.id.partition(".")[0] == programs.ID]
    return sorted(ours, key=lambda one: -one.started_at)


def serving(founds: Iterable[Found], pid: int | None) -> tuple[Found | None, Found | None]:
    """The one that counts, dead or alive, and one that is to take over from it and has not yet.

    ``pid``: of the one that answers; None: none does.
    """
    ours = of(founds)
    newest = next(iter(ours), None)
    answers = next((one for one in ours if one.alive and one.pid == pid), newest)
    if newest is None or newest is answers or not newest.alive:
        return answers, None
    return answers, newest


async def kill(runtime: Runtime) -> None:
    """The one started last, whatever it does; those before it go on."""
    for one in of(await runtime.look())[:1]:
        await runtime.signal(one.id, "KILL")


async def end(runtime: Runtime) -> None:
    """All are told to end."""
    for one in of(await runtime.look()):
        await runtime.signal(one.id, "TERM")


async def start(runtime: Runtime, process: Process) -> None:
    """Start one beside those that live; the dead are forgotten."""
    alive = set()
    for one in of(await runtime.look()):
        if one.alive:
            alive.add(one.id)
        else:
            await runtime.forget(one.id)
    names = (f"{process.id}.{n}" if n > 1 else process.id for n in itertools.count(1))
    free = next(name for name in names if name not in alive)
    await runtime.start(replace(process, id=free, log=process.id))
