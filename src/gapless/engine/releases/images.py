"""Images of a release: found, pulled or built when it is made, and then the same for ever.

A release names an image by its content; a tag that moves on changes no release. A tag of our own
(``gapless/STACK-HOME:NAME-rN``) keeps what a release needs from being cleared away as unused.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gapless.engine import target
from gapless.engine.releases import context, environments, library, recipe
from gapless.engine.releases.work import in_thread
from gapless.errors import Refused, RuntimeFault
from gapless.model.image import Build
from gapless.model.stack import Stack
from gapless.runtimes.machine import files

if TYPE_CHECKING:
    from gapless.engine.paths import Paths
    from gapless.engine.releases.setup import Progress
    from gapless.engine.secrets import Secrets
    from gapless.runtimes.docker.client import Client
    from gapless.runtimes.docker.spec import Owner

EDGE = "edge"
"""Whose image is the load balancer's: no service may be called that."""
LAST = 20
"""Lines of a build that failed which an error keeps."""
_TAG = re.compile(r"[a-z0-9-]+-r([0-9]+)")


def named(stack: Stack) -> dict[str, str]:
    """Service, job or ``EDGE`` to the image that the file names for it, or for what it is built
    on."""
    found = {} if stack.edge.image is None else {EDGE: stack.edge.image}
    for name, table in {**stack.services, **stack.jobs}.items():
        image = table.image or (table.build.base if table.build is not None else None)
        if image is not None:
            found[name] = image
    return found


@dataclass(slots=True)
class Logins:
    """As whom a stack pulls: with today's passwords, of the registries that it named last."""

    secrets: Secrets
    stack: Stack

    def now(self) -> Mapping[str, tuple[str, str]]:
        """(user, password) by the registry's host. One without a value pulls as nobody."""
        found = {}
        for place, registry in self.stack.registries.items():
            if (value := self.secrets.get(registry.password)) is not None:
                found[place] = (registry.user, value)
        return found


@dataclass(frozen=True, slots=True)
class Taken:
    """``images``: what runs, by service or job; ``given``: of those the contents that the source
    does not tell: of images that the file names."""

    images: Mapping[str, str]
    given: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """What a release is built from: its tree, and the paths of its files."""

    number: int
    tree: Path
    files: Collection[str]


class Images:
    """The images of one stack, at the engine that ``client`` speaks to."""

    def __init__(self, client: Client, owner: Owner, logins: Logins) -> None:
        self._client = client
        self._logins = logins
        client.logins = logins.now
        self._labels = owner.labels
        self._repository = owner.repository

    async def known(self, stack: Stack) -> Mapping[str, str]:
        """Contents of those that the file names and that are here now; "" for one that would
        have to be pulled."""
        return {name: await self._client.content(image) for name, image in named(stack).items()}

    async def take(self, stack: Stack, source: Source, progress: Progress) -> Taken:
        """Contents of all, pulled or built, and kept for a release.

        Raises Refused, naming the service and saying what the engine says.
        """
        self._logins.stack = stack
        given: dict[str, str] = {}
        found: dict[str, str] = {}
        built: dict[str, str] = {}
        if stack.edge.image is not None:
            given[EDGE] = found[EDGE] = await self._of_edge(stack.edge.image, source, progress)
        for name, table in {**stack.services, **stack.jobs}.items():
            try:
                if (image := named(stack).get(name)) is not None:
                    given[name] = found[name] = await self._given(name, image, progress)
                if table.build is not None:
                    # Services that are built alike are one image.
                    alike = table.build.model_dump_json()
                    if alike not in built:
                        base = given.get(name, "")
                        built[alike] = await self._build(
                            stack, name, table.build, base, source, progress
                        )
                    found[name] = built[alike]
                if name in found:
                    tag = f"{name}-r{source.number}"
                    await self._client.tag(found[name], self._repository, tag)
            except RuntimeFault as fault:
                what = "build" if table.build is not None else f"image {table.image}"
                raise Refused(f"{name}: {what}: {fault.message}", **fault.detail) from None
        return Taken(found, given)

    async def _of_edge(self, image: str, source: Source, progress: Progress) -> str:
        try:
            content = await self._given(EDGE, image, progress)
            await self._client.tag(content, self._repository, f"{EDGE}-r{source.number}")
        except RuntimeFault as fault:
            raise Refused(f"[edge] image {image}: {fault.message}", **fault.detail) from None
        return content

    async def _given(self, name: str, image: str, progress: Progress) -> str:
        content = await self._client.content(image)
        if not content:
            progress(f"{name}: pulling {image}")
            content = await self._client.fetch(image)
        progress(f"{name}: {image} is {_short(content)}")
        return content

    async def _build(
        self, stack: Stack, name: str, build: Build, base: str, source: Source, progress: Progress
    ) -> str:
        if base:
            made = await in_thread(lambda: _derived(stack, base, source))
        else:
            made = _dockered(build, source)
        progress(f"{name}: building its image")
        tag = f"{self._repository}:{name}-r{source.number}"
        last: deque[str] = deque(maxlen=LAST)
        with await in_thread(lambda: context.archive(made.folders, made.files)) as archive:
            try:
                told = self._client.build(archive, tag, query=made.query, labels=self._labels)
                async for line in told:
                    last.append(line)
                    progress(line)
            except RuntimeFault as fault:
                raise RuntimeFault(fault.message, lines=list(last)) from None
        content = await self._client.content(tag)
        progress(f"{name}: its image is {_short(content)}")
        return content

    async def release(self, kept: Collection[int]) -> None:
        """Let go of what only releases had that are not kept any more."""
        await _let_go(self._client, self._repository, kept)


async def forget(paths: Paths, kept: Collection[int] = ()) -> None:
    """``Images.release`` of a stack that is down: all but ``kept``, releases of its state.

    Raises RuntimeFault, EnvironmentFault.
    """
    if target.of(paths, None) == target.PROCESS:
        return
    from gapless.runtimes.docker.client import Client
    from gapless.runtimes.docker.spec import Owner

    client = Client()
    try:
        owner = Owner(paths.stack, files.home(paths.state))
        await _let_go(client, owner.repository, kept)
    finally:
        await client.close()


async def _let_go(client: Client, repository: str, kept: Collection[int]) -> None:
    for tag in await client.tags(repository):
        number = _TAG.fullmatch(tag)
        if number is not None and int(number[1]) not in kept:
            await client.untag(f"{repository}:{tag}")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What the engine is sent (see ``context.archive``), and the choices of its ``build``."""

    folders: Mapping[str, Path]
    files: Mapping[str, bytes] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


def _dockered(build: Build, source: Source) -> _Recipe:
    """A folder with a Dockerfile of its own."""
    query = {"dockerfile": build.dockerfile or "Dockerfile"}
    if build.target is not None:
        query["target"] = build.target
    if build.args:
        query["buildargs"] = json.dumps(build.args)
    return _Recipe({"": source.tree / build.context}, query=query)


def _derived(stack: Stack, base: str, source: Source) -> _Recipe:
    """Source and setup on top of an image."""
    read = environments.inputs(source.tree, list(source.files), stack.setup)
    contents = {path: (source.tree / path).read_bytes() for path in read}
    texts = environments.texts(source.tree, source.files, stack.setup)
    first = bool(stack.setup) and recipe.apart(stack.setup, texts)
    files = {f"{recipe.INPUTS}/{path}": content for path, content in contents.items() if first}
    lent = library.files() if environments.may_be_python(stack.setup) else {}
    files |= {f"{recipe.LENDING}/{path}": content for path, content in lent.items()}
    files["Dockerfile"] = recipe.dockerfile(base, stack.setup, inputs_first=first).encode()
    return _Recipe({recipe.SOURCE: source.tree}, files)


def _short(content: str) -> str:
    return content.removeprefix("sha256:")[:12]
