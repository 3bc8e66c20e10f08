"""Images that are another one and a mark: they do what it does, and are another content."""

from __future__ import annotations

import contextlib

from gapless import errors
from gapless.engine.releases import context


async def make(image: str, name: str, variable: str, value: str) -> None:
    """``name`` is from now on ``image`` with one more variable. Raises RuntimeFault."""
    from gapless.runtimes.docker.client import Client

    recipe = f"FROM {image}\nENV {variable}={value}\n".encode()
    client = Client()
    try:
        with context.archive({}, {"Dockerfile": recipe}) as archive:
            async for _ in client.build(archive, name, query={}, labels={}):
                pass
    finally:
        await client.close()


async def remove(*names: str) -> None:
    """Those names of images; what is not there is left."""
    from gapless.runtimes.docker.client import Client

    client = Client()
    try:
        for name in names:
            with contextlib.suppress(errors.RuntimeFault):
                await client.untag(name)
    finally:
        await client.close()
