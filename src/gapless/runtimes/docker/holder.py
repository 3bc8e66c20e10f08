"""A container that does nothing, for the address of this machine in a network.

Docker gives a bridge its address when the network is made, Podman when the first container comes
into it, and newer ones take it away with the last. What listens there is started before any.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

from gapless.errors import RuntimeFault
from gapless.runtimes.docker import mirror, spec
from gapless.runtimes.docker.client import Client

PATIENCE = 5.0
"""Seconds until the address has to be there."""
_POLL = 0.05


class Holder:
    """At most one, in the network of a stack; it bears the stack's labels and no id."""

    def __init__(self, client: Client, owner: spec.Owner) -> None:
        self._client = client
        self._owner = owner
        self._key = ""

    async def hold(self, host: str) -> None:
        """See to it that ``host`` is an address of this machine.

        Raises RuntimeFault where a container in the network does not bring that about.
        """
        if here(host):
            return
        body = waiting(await self._client.any_image(), self._owner)
        await self.let_go()
        self._key, _ = await self._client.create("", body)
        held = False
        try:
            held = await self._brought(host)
        finally:
            if not held:
                await self.let_go()
        if not held:
            raise RuntimeFault(
                f"network {self._owner.network}: its address {host} is none of this machine's",
                hint="run gapless on the machine of the engine",
            )

    async def _brought(self, host: str) -> bool:
        await self._client.start(self._key)
        limit = time.monotonic() + PATIENCE
        while not here(host):
            about = await self._client.inspect(self._key)
            living = about is not None and about["State"]["Running"]
            if not living or time.monotonic() > limit:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def let_go(self) -> None:
        """The network may go."""
        if self._key:
            await self._client.remove(self._key, force=True)
            self._key = ""


def here(host: str) -> bool:
    """Whether programs of this machine may listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((host, 0))
        except OSError:
            return False
    return True


def waiting(image: str, owner: spec.Owner) -> dict[str, Any]:
    """The body of its ``create``: of the image nothing runs, but Podman's init waits behind its
    like (``-P``)."""
    errand = spec.errand(image, (mirror.INIT, "-P"), spec.NOBODY, ())
    surroundings = errand["HostConfig"] | {"NetworkMode": owner.network}
    return errand | {"Labels": owner.labels | {spec.ONCE: "1"}, "HostConfig": surroundings}
