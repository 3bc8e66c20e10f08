"""A running front: what its table holds, and changing that without a reload."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless.edge import asking, front, talk, wire
from gapless.model.front import Claim

POLL_SECONDS = 0.02
LOOK_SECONDS = 1.0
"""A front that stands still must not hold up whoever looks after his own stack."""
RELOAD_SECONDS = 10.0
_ENTRY = re.compile(r"^0x[0-9a-f]+ (\S+) (\S+)$", re.MULTILINE)
_MAXCONN = re.compile(r"^Maxconn: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seen:
    """``config``: what it calls itself. ``worker``: the pid of the one who says so. ``table``: as
    ``front.table``. ``servers``: by backend and name, whether each takes connections."""

    config: str
    worker: int
    maxconn: int
    table: Mapping[str, str]
    servers: Mapping[tuple[str, str], bool]

    def holds(self, claim: Claim) -> bool:
        """Whether it passes on exactly what a stack has claimed."""
        wanted = front.table([claim])
        return front.ours(self.table, claim.stack) == wanted and all(
            self.servers.get((kind, front.server(claim, kind))) for kind in front.kinds(claim)
        )


class Doors(asking.Asking):
    """The client of the front whose sockets lie in ``run``."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, front.STACK)

    async def look(self) -> Seen:
        """One exchange. Raises talk.SilentError when nobody answers, EdgeRefused."""
        line = wire.line([wire.INFO, _SHOW, wire.SERVERS])
        answer = await talk.exchange(self._stats, line, LOOK_SECONDS)
        maxconn = _MAXCONN.search(answer)
        info = self._info(answer)
        return Seen(
            config=info.digest,
            worker=info.pid,
            maxconn=int(maxconn[1]) if maxconn else 0,
            table=dict(_ENTRY.findall(answer)),
            servers={
                (seen.server.backend, seen.server.name): seen.server.admin == "ready"
                for seen in wire.servers(answer)
            },
        )

    async def steered(self) -> None:
        """Raises EdgeRefused while its master takes no orders: that begins after it serves."""
        await self._known_workers()

    async def finishing(self) -> bool:
        """Whether workers from before a reload still have connections. Raises EdgeRefused."""
        return bool((await self._known_workers()).old)

    async def put(self, claim: Claim) -> None:
        """Let in what a stack has claimed, and that alone of it. Raises EdgeRefused."""
        seen = await self._seen()
        orders = []
        for kind in front.kinds(claim):
            server = front.server(claim, kind)
            if (kind, server) not in seen.servers:
                keywords = front.server_words(claim, kind, seen.maxconn)
                orders.append(wire.command("add", "server", f"{kind}/{server}", *keywords))
            orders.append(wire.state(kind, server, "ready"))
        await self._order(orders)
        await self._change(seen, claim.stack, front.table([claim]))
        await self._forget(seen, claim.stack, {front.server(claim, k) for k in front.kinds(claim)})

    async def drop(self, stack: str) -> None:
        """No new connection for a stack; what it has goes on. Raises EdgeRefused."""
        seen = await self._seen()
        await self._change(seen, stack, {})
        await self._forget(seen, stack, set())

    async def reload(self, config: str) -> None:
        """Another worker, of the text that lies there; the old one finishes what it has.

        Raises EdgeRefused; then the old one goes on.
        """
        before = await self._known_workers()
        answer = await talk.exchange(self._master, "reload\n", RELOAD_SECONDS)
        if "Success=0" in answer:
            raise talk.refused("reload", " ".join(answer.split()))
        deadline = time.monotonic() + RELOAD_SECONDS
        while time.monotonic() < deadline:
            try:
                current = (await self._workers()).current
                if current not in (None, before.current) and (await self.look()).config == config:
                    return
            except talk.SilentError:
                pass  # the master is between two lives
            await asyncio.sleep(POLL_SECONDS)
        raise talk.refused("reload", "no new worker took over")

    async def _seen(self) -> Seen:
        try:
            return await self.look()
        except talk.SilentError as silent:
            raise talk.refused(_SHOW, str(silent)) from None

    async def _change(self, seen: Seen, stack: str, wanted: Mapping[str, str]) -> None:
        orders = []
        for act, key, value in front.changes(front.ours(seen.table, stack), wanted):
            # A key that another stack left behind is set, not added a second time.
            verb = "set" if act == "add" and key in seen.table else act
            words = (key,) if verb == "del" else (key, value)
            orders.append(wire.command(verb, "map", front.TABLE, *words))
        await self._order(orders)

    async def _forget(self, seen: Seen, stack: str, wanted: set[str]) -> None:
        """Its servers that nothing leads to any more. One with connections is kept until the next
        time: it gets no new ones."""
        for kind, server in _surplus(seen, stack, wanted):
            await self._order([wire.state(kind, server, "maint")])
            answer = await self._answer([wire.delete(kind, server)])
            if problems := [p for p in wire.refusals(answer) if wire.ATTACHED not in p]:
                raise talk.refused(f"del server {kind}/{server}", "; ".join(problems))


def _surplus(seen: Seen, stack: str, wanted: set[str]) -> Sequence[tuple[str, str]]:
    return [
        (kind, server)
        for kind, server in seen.servers
        if front.owner(server) == stack and server not in wanted
    ]


_SHOW = wire.command("show", "map", front.TABLE)
