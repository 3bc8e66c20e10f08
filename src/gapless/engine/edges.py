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


def present(founds: Iterable[Found]) -> Found | None:
    """The one that counts, dead or alive."""
    return next(iter(of(founds)), None)


async def kill(runtime: Runtime) -> None:
    """The one that counts, whatever it does; those before it go on."""
    if (one := present(await runtime.look())) is not None:
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
