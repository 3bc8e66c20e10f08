"""Programs that run to an end and are no part of a stack's record: what makes and checks a store;
and what else it asks of the engine.

Each is a container that bears the stack's labels and no id, so that no look takes it for a program
of the stack; one whose controller died is removed by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gapless.errors import RuntimeFault
from gapless.model.process import Bridge, Mount
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client

LIMIT = 120.0
"""Seconds that one may take."""
_POLL = 0.05


class Once:
    """Runs them, one container each. Implements ``model.packed.Packed``.

    ``owner``: whose they are. ``network``: that of stores alone, made where it is not there.
    """

    def __init__(
        self, client: Client, owner: spec.Owner, network: Callable[[], Awaitable[Bridge]]
    ) -> None:
        self._network = network
        self._client = client
        self._labels = {**owner.labels, spec.ONCE: "1"}

    async def network(self) -> Bridge:
        """See ``Packed.network``."""
        return await self._network()

    async def content(self, image: str) -> str:
        """Its content (``sha256:…``), pulled where it is not here. Raises RuntimeFault."""
        return await self._client.content(image) or await self._client.fetch(image)

    async def once(
        self, image: str, argv: Sequence[str], *, user: str, mounts: Sequence[Mount]
    ) -> tuple[int, str]:
        """(exit code, what it wrote). Raises RuntimeFault, also where it takes too long."""
        body = spec.errand(image, argv, user, mounts) | {"Labels": self._labels}
        key, _ = await self._client.create("", body)
        try:
            async with asyncio.timeout(LIMIT):
                await self._client.start(key)
                code = await self._ended(key)
                pieces = [piece async for piece in self._client.output(key, "0", follow=False)]
        except TimeoutError:
            raise RuntimeFault(f"{argv[0]}: took longer than {LIMIT:g} s") from None
        finally:
            await asyncio.shield(self._client.remove(key, force=True))
        # Before each line the engine writes its time and a space.
        lines = b"".join(pieces).decode(errors="replace").splitlines(keepends=True)
        return code, "".join(line.partition(" ")[2] for line in lines)

    async def _ended(self, key: str) -> int:
        while True:
            about = await self._client.inspect(key)
            if about is None:
                raise RuntimeFault("its container was removed by somebody else")
            if about["State"]["Status"] not in ("created", "running"):
                return int(about["State"]["ExitCode"])
            await asyncio.sleep(_POLL)
