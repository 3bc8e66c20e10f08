"""The networks of one stack: there with its first container or bridge, gone with the last.

One is for programs, the other, inner one for stores: only who asks for them is in that, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from gapless.errors import RuntimeFault
from gapless.model.process import Bridge, Nets
from gapless.runtimes.docker import holder, seen, spec
from gapless.runtimes.docker.client import Client

_NOT_THERE = "let the engine make bridge networks with IPv4 addresses"
_NOT_INSIDE = (
    "Podman gives none; a store without image is a program of this machine, and is reached"
)


class Networks:
    """``bridge``: the address of this machine in the programs' network; None: it is not open.

    While it is open that network stays, whatever is in it.
    """

    def __init__(self, client: Client, owner: spec.Owner) -> None:
        self.bridge: Bridge | None = None
        self._client = client
        self._owner = owner
        self._holder = holder.Holder(client, owner)
        self._turn = asyncio.Lock()
        self._made: set[str] = set()

    @contextlib.asynccontextmanager
    async def kept(self, nets: Nets) -> AsyncIterator[None]:
        """What a program with such ``nets`` needs is there, and none goes meanwhile."""
        async with self._turn:
            await self._make(self._owner.network)
            if nets != "stack":
                await self._make(self._owner.stores)
            yield

    def first(self, nets: Nets) -> str:
        """The network that its container is made in."""
        return self._owner.stores if nets == "stores" else self._owner.network

    async def join(self, key: str, nets: Nets) -> None:
        """A container that has been made comes into the other one, where it is to be in both."""
        if nets == "both":
            await self._client.connect(self._owner.stores, key)

    def doubt(self) -> None:
        """Somebody may have removed them: they are made again before the next container."""
        self._made.clear()

    async def open(self) -> None:
        """See ``Bridges.open_bridge``."""
        bridge = await self._bridge(self._owner.network, _NOT_THERE)
        await self._holder.hold(bridge.host)
        self.bridge = bridge

    async def inner(self) -> Bridge:
        """The address of this machine in the stores' network. Raises RuntimeFault without one."""
        return await self._bridge(self._owner.stores, _NOT_INSIDE)

    async def close(self) -> None:
        """See ``Bridges.close_bridge``; the network is left for ``tidy``."""
        self.bridge = None
        await self._holder.let_go()

    async def tidy(self, unused: Callable[[], bool]) -> None:
        """Both go unless somebody is in them, or on the way: ``unused`` is asked in our turn."""
        async with self._turn:
            if unused() and self.bridge is None:
                for name in (self._owner.network, self._owner.stores):
                    await self._client.remove_network(name)
                self._made.clear()

    async def _make(self, name: str) -> None:
        if name not in self._made:
            inner = name == self._owner.stores
            await self._client.make_network(name, spec.network(self._owner.labels, inner=inner))
            self._made.add(name)

    async def _bridge(self, name: str, hint: str) -> Bridge:
        async with self._turn:
            self._made.discard(name)
            await self._make(name)
            about = await self._client.network(name)
        found = None if about is None else seen.bridge(about)
        if found is None:
            raise RuntimeFault(f"network {name}: has no address of this machine", hint=hint)
        return found
