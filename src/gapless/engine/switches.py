"""What the edge is told by hand: maintenance, holds, certificates, a worker anew.

Each leaves a record and returns once the edge is seen to follow it.
"""

from __future__ import annotations

from typing import Any

from gapless import errors
from gapless.engine import asked, clock, preflight, status, waiting, wishes
from gapless.engine.controller import Controller


async def maintenance(c: Controller, body: asked.Body) -> dict[str, Any]:
    """The page and 503 for all but allowed addresses, on or off; or requests held."""
    if "hold" in body:
        return await hold(c, body, float(body["hold"]))
    wanted = bool(body["on"])
    preflight.running(c.desired, "maintenance")
    wish = wishes.maintained(c.desired, c.in_force, wanted)
    c.site.journal.add(f"maintenance {'on' if wanted else 'off'}", actor=asked.actor(body))
    c.want(wish)
    await waiting.until(
        c, lambda: c.observed.edge.maintenance == wanted and c.observed.edge.held_until is None
    )
    return {"maintenance": wanted}


async def proven(c: Controller, body: asked.Body) -> dict[str, Any]:
    """A drill tells that it has held: what waits for it comes into force."""
    drill = str(body["drill"])
    preflight.running(c.desired, "proven")
    wish = wishes.proven(c.desired, drill)
    c.site.journal.add(f"drill {drill} held", actor=asked.actor(body))
    c.want(wish)
    await waiting.until(c, lambda: c.world is not None and c.world.edge_ready)
    return {"proven": list(wish.proven)}


async def renew(c: Controller, body: asked.Body) -> dict[str, Any]:
    """Other certificates, now, and shown; all of them, or the named ones.

    With ``again`` those in force are put in force once more, and no authority is troubled.

    Raises UsageError where there are none, WorkFailed with the authority's words.
    """
    preflight.running(c.desired, "renew")
    names = tuple(body.get("certificates") or c.observed.certificates)
    if strange := [name for name in names if name not in c.observed.certificates]:
        raise errors.UsageError(f"renew: there is no certificate {strange[0]}")
    if not names:
        raise errors.UsageError("renew: the edge has no certificates")
    c.site.journal.add(f"renew {', '.join(names)}", actor=asked.actor(body))
    before = dict(c.site.certificates.installed)
    for name in names:
        if body.get("again"):
            c.site.certificates.again(name)
        else:
            c.site.certificates.ask(name)
    again = bool(body.get("again"))
    await waiting.until(c, lambda: all(_renewed(c, n, before.get(n, 0), again) for n in names))
    return {"renewed": list(names)}


def _renewed(c: Controller, name: str, before: int, again: bool) -> bool:
    now = c.observed.certificates.get(name)
    if now is None:
        raise errors.WorkFailed(f"certificate {name}: it is not wanted any more")
    if now.failures is not None and not (now.asked or again):
        raise errors.WorkFailed(now.failures.reason or f"certificate {name}: not renewed")
    newer = c.site.certificates.installed.get(name, 0) > before
    return newer and not now.fresh and now.served == now.serial


async def hold(c: Controller, body: asked.Body, seconds: float) -> dict[str, Any]:
    """Requests wait at the edge; ``in_flight``: those that were let through before."""
    preflight.running(c.desired, "maintenance")
    wish = wishes.held(c.desired, c.in_force, seconds, clock.now(), clock.wall())
    hold = wish.hold
    assert hold is not None  # noqa: S101  # just made
    c.site.journal.add(f"maintenance hold {seconds:g} s", actor=asked.actor(body))
    c.want(wish)

    def done() -> bool:
        over = clock.wall() >= hold.until or c.desired.hold != hold
        return over or c.observed.edge.held_until == hold.until

    await waiting.until(c, done)
    if c.observed.edge.held_until != hold.until:
        raise errors.WorkFailed("maintenance: the edge did not begin to hold requests in time")
    in_flight = sum(server.in_flight for server in c.observed.edge.servers.values())
    return {"hold": hold.until, "in_flight": in_flight}


async def restart_edge(c: Controller, body: asked.Body) -> dict[str, Any]:
    """A new worker takes over from the one that runs, which ends what it has."""
    c.site.journal.add("restart edge", actor=asked.actor(body))
    epoch = c.desired.edge_epoch + 1
    c.want(wishes.edge_restarted(c.desired, c.in_force))

    def done() -> bool:
        world = c.world
        over = world is not None and world.desired.edge_epoch == epoch and world.edge_ready
        return over or "edge" in c.observed.faults

    await waiting.until(c, done)
    if fault := c.observed.faults.get("edge"):
        raise errors.WorkFailed(f"restart edge: {fault}")
    return status.serving(c)
