"""Images of a release: found or pulled when it is made, and then the same for ever.

A release names an image by its content; a tag that moves on changes no release. A tag of our own
(``gapless/STACK-HOME:NAME-rN``) keeps what a release needs from being cleared away as unused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from gapless.errors import Refused, RuntimeFault
from gapless.model.stack import Stack

if TYPE_CHECKING:
    from gapless.engine.releases.setup import Progress
    from gapless.runtimes.docker.client import Client
    from gapless.runtimes.docker.spec import Owner

_TAG = re.compile(r"[a-z0-9-]+-r([0-9]+)")


def named(stack: Stack) -> dict[str, str]:
    """Service or job to the image that the file names for it."""
    tables = {**stack.services, **stack.jobs}
    return {name: table.image for name, table in tables.items() if table.image is not None}


class Images:
    """The images of one stack, at the engine that ``client`` speaks to."""

    def __init__(self, client: Client, owner: Owner) -> None:
        self._client = client
        self._repository = f"gapless/{owner.stack}-{owner.home}"

    async def known(self, stack: Stack) -> Mapping[str, str]:
        """Contents of those that are here now; "" for one that would have to be pulled."""
        return {name: await self._content(image) for name, image in named(stack).items()}

    async def take(self, stack: Stack, number: int, progress: Progress) -> Mapping[str, str]:
        """Contents of all, pulled where they are not here, and kept for release ``number``.

        Raises Refused, naming the service and saying what the engine says.
        """
        found = {}
        for name, image in named(stack).items():
            try:
                content = await self._content(image)
                if not content:
                    progress(f"{name}: pulling {image}")
                    await self._client.pull(image)
                    content = await self._content(image)
                await self._client.tag(content, self._repository, f"{name}-r{number}")
            except RuntimeFault as fault:
                raise Refused(f"{name}: image {image}: {fault.message}") from None
            progress(f"{name}: {image} is {content.removeprefix('sha256:')[:12]}")
            found[name] = content
        return found

    async def release(self, kept: Collection[int]) -> None:
        """Let go of what only releases had that are not kept any more."""
        for tag in await self._client.tags(self._repository):
            number = _TAG.fullmatch(tag)
            if number is not None and int(number[1]) not in kept:
                await self._client.untag(f"{self._repository}:{tag}")

    async def _content(self, image: str) -> str:
        about = await self._client.image(image)
        return "" if about is None else str(about["Id"])
