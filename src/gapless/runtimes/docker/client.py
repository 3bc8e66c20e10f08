"""The engine's API as the runtime needs it: typed, bounded in time, with faults of ours.

The library finds the engine (``DOCKER_HOST``, contexts, the usual sockets), speaks to it over Unix
sockets, TCP with TLS or ssh, and agrees on a version of the API.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import aiodocker
import aiohttp

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model import image as named

OLDEST = (1, 41)
"""The version of the API that is needed (Docker 20.10, Podman 4)."""
ANSWER_SECONDS = 60.0
"""How long an answer may take; a container's start on a busy machine takes seconds."""
SAID = 2000
"""Bytes of what a command within a container wrote last that are kept."""
HEADER = 8
"""Bytes before each piece of a stream of output: which stream it is, and its length."""
ENDS = ["die", "died"]
"""What an end is called where events are asked for: Podman answers to its own word alone (and tells
of it in Docker's). Docker passes over what it does not know."""
DIRECTORY = 1 << 31
"""The bit of the engine's file mode that says directory."""


class Client:
    """One engine. Nothing is connected before the first question."""

    def __init__(self, url: str | None = None) -> None:
        """``url``: ``unix://``, ``tcp://`` or ``ssh://``; None: as the engine's own tools do."""
        self.logins: Callable[[], Mapping[str, tuple[str, str]]] = dict
        """(user, password) by the registry's host: asked anew for each pull and build, and told
        in a header of that one question alone."""
        self._url = url
        self._docker: aiodocker.Docker | None = None
        self._connecting = asyncio.Lock()

    async def engine(self) -> aiodocker.Docker:
        """Raises EnvironmentFault when none answers, or one that is too old."""
        async with self._connecting:
            if self._docker is None:
                self._docker = await self._connect()
            return self._docker

    async def _connect(self) -> aiodocker.Docker:
        try:
            docker = aiodocker.Docker(self._url)
        except (AssertionError, ValueError, OSError, aiodocker.DockerError) as error:
            reason = str(error) or "no socket of an engine is there"
            raise EnvironmentFault(f"docker: {reason}", hint=_HINT) from None
        # Each program's output is a connection that stays: the usual limit of 100 would be one.
        docker.connector._limit = 0
        # An engine that is told to end takes no new connections, but answers on those that it has:
        # what is started by one would live on unseen, until the next engine ends it.
        docker.connector._force_close = isinstance(docker.connector, aiohttp.UnixConnector)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                about = await docker.version()
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            await docker.close()
            reason = getattr(error, "message", None) or str(error) or "no answer"
            raise EnvironmentFault(f"docker: no engine answers: {reason}", hint=_HINT) from None
        version = tuple(int(part) for part in about["ApiVersion"].split("."))
        if version < OLDEST:
            await docker.close()
            raise EnvironmentFault(
                f"docker: the engine speaks version {about['ApiVersion']} of the API, "
                f"1.{OLDEST[1]} is needed",
                hint="install Docker 20.10 or newer",
            )
        return docker

    async def close(self) -> None:
        """Close all connections; nothing that runs is touched."""
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    # -- containers -------------------------------------------------------------------------

    async def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """All containers with these labels, running or not, in short."""
        query = {"all": "1", "filters": json.dumps({"label": _pairs(labels)})}
        found: list[dict[str, Any]] = await self._ask("containers/json", query=query)
        return found

    async def inspect(self, key: str) -> dict[str, Any] | None:
        """Everything about one; None: it is gone."""
        found: dict[str, Any] | None = await self._ask(f"containers/{key}/json", missing=True)
        return found

    async def create(self, name: str, body: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Its key, and what the engine warns of. ``name`` "": the engine finds one. Raises
        Conflict when the name is taken."""
        query = {"name": name} if name else {}
        try:
            answer = await self._ask("containers/create", "POST", query=query, body=body)
        except RuntimeFault as fault:
            if name and await self.inspect(name) is not None:
                raise Conflict(fault.message) from None
            if "No such image" in fault.message:
                raise RuntimeFault(fault.message, hint=_ANEW) from None
            raise
        return answer["Id"], answer.get("Warnings") or []

    async def start(self, key: str) -> None:
        await self._ask(f"containers/{key}/start", "POST")

    async def kill(self, key: str, signal: str) -> None:
        """Already dead or gone: no error."""
        query = {"signal": signal}
        try:
            await self._ask(f"containers/{key}/kill", "POST", query=query, missing=True)
        except RuntimeFault:
            about = await self.inspect(key)
            if about is not None and about["State"]["Pid"]:
                raise

    async def update(self, key: str, body: Mapping[str, Any]) -> None:
        """Change its limits while it runs; gone: no error."""
        await self._ask(f"containers/{key}/update", "POST", body=body, missing=True)

    async def remove(self, key: str, *, force: bool = False) -> None:
        """With its anonymous volumes; ``force``: also while it runs. Already gone: no error."""
        query = {"v": "1", "force": "1" if force else "0"}
        await self._ask(f"containers/{key}", "DELETE", query=query, missing=True)

    async def stats(self, key: str) -> dict[str, Any] | None:
        """One sample of its use; None: it is gone."""
        query = {"stream": "0", "one-shot": "1"}
        async with self._stream(f"containers/{key}/stats", "GET", query) as answer:
            # Podman does not say that this is JSON; the library would not read it.
            body = b"" if answer is None else await asyncio.wait_for(answer.read(), ANSWER_SECONDS)
        found: dict[str, Any] | None = json.loads(body) if body else None
        return found

    async def file(self, key: str, path: str) -> int | None:
        """The mode of a file in it (bits of permission and ``DIRECTORY``); None: there is none."""
        query = {"path": path}
        async with self._stream(f"containers/{key}/archive", "HEAD", query) as answer:
            about = "" if answer is None else answer.headers["X-Docker-Container-Path-Stat"]
        if not about:
            return None
        body = json.loads(base64.b64decode(about))
        return 0o777 if body.get("linkTarget") else int(body["mode"])

    async def inside(self, key: str, argv: Sequence[str]) -> tuple[int, str]:
        """(exit code, end of its output) of a command in a container that runs, as its user.

        Takes as long as the command. Raises RuntimeFault where it cannot be started.
        """
        docker = await self.engine()
        with _faults():
            asked = await docker.containers.container(key).exec(list(argv))
            said = b""
            async with asked.start(detach=False) as stream:
                while (piece := await stream.read_out()) is not None:
                    said = (said + piece.data)[-SAID:]
            code = (await asked.inspect())["ExitCode"]
        if code is None:
            raise RuntimeFault(f"{argv[0]}: nobody saw its end")
        return int(code), said.decode("utf-8", "replace").strip()

    async def output(self, key: str, since: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Pieces of output, each with its time before it; ``follow``: until its end, else what
        there is.

        ``since``: seconds since 1970, as a decimal fraction. Gone: nothing. Raises RuntimeFault
        when the engine goes away.
        """
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "since": since}
        query["follow"] = "1" if follow else "0"
        async with self._stream(f"containers/{key}/logs", "GET", query) as answer:
            while answer is not None:
                try:
                    header = await answer.content.readexactly(HEADER)
                except asyncio.IncompleteReadError:
                    return
                yield await answer.content.readexactly(int.from_bytes(header[4:], "big"))

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Containers with these labels that end, from now on; the first item, empty, says that
        now has come. Raises RuntimeFault when the engine goes away.
        """
        wanted = {"type": ["container"], "event": ENDS, "label": _pairs(labels)}
        query = {"filters": json.dumps(wanted)}
        async with self._stream("events", "GET", query) as answer:
            yield {}
            while answer is not None and (line := await answer.content.readline()):
                yield json.loads(line)

    # -- networks and images ------------------------------------------------------------------

    async def networks(self, labels: Mapping[str, str]) -> Sequence[str]:
        """The names of those that have these labels."""
        query = {"filters": json.dumps({"label": _pairs(labels)})}
        found = await self._ask("networks", query=query)
        return [network["Name"] for network in found]

    async def network(self, name: str) -> dict[str, Any] | None:
        """Everything about one; None: there is none."""
        found: dict[str, Any] | None = await self._ask(f"networks/{name}", missing=True)
        return found

    async def make_network(self, name: str, body: Mapping[str, Any]) -> None:
        """Already there: no error."""
        wanted = {"Name": name, "CheckDuplicate": True, **body}
        try:
            await self._ask("networks/create", "POST", body=wanted)
        except RuntimeFault:
            if await self.network(name) is None:
                raise

    async def connect(self, network: str, key: str) -> None:
        """One more network for a container. Raises Conflict where it is in it."""
        await self._ask(f"networks/{network}/connect", "POST", body={"Container": key})

    async def remove_network(self, name: str) -> None:
        """Gone, or somebody else's container is in it: no error."""
        with contextlib.suppress(RuntimeFault):
            await self._ask(f"networks/{name}", "DELETE", missing=True)

    async def image(self, name: str) -> dict[str, Any] | None:
        """Everything about an image that is here; None: it is not."""
        found: dict[str, Any] | None = await self._ask(f"images/{name}/json", missing=True)
        return found

    async def any_image(self) -> str:
        """The content of one that is here, whichever. Raises RuntimeFault where there is none."""
        found = await self._ask("images/json")
        if not found:
            raise RuntimeFault("docker: the engine has no image yet")
        return str(found[0]["Id"])

    async def content(self, image: str) -> str:
        """What an image is (``sha256:…``); "" when it is not here."""
        about = await self.image(image)
        return "" if about is None else str(about["Id"])

    async def fetch(self, image: str) -> str:
        """Pull it from its registry; its content. Raises RuntimeFault with what that says."""
        docker = await self.engine()
        place = named.registry(image)
        login = self.logins().get(place)
        auth = None if login is None else _login(place, *login)
        # The library wants the registry named where it is told a login.
        whole = image if image.startswith(f"{place}/") else f"{place}/{image}"
        try:
            with _faults():
                await docker.images.pull(whole if auth else image, auth=auth, timeout=None)
        except RuntimeFault as fault:
            raise RuntimeFault(f"{image} is not here, and no registry gave it: {fault}") from None
        return await self.content(image)

    async def build(
        self, archive: IO[bytes], name: str, *, query: Mapping[str, str], labels: Mapping[str, str]
    ) -> AsyncIterator[str]:
        """Make an image of what is in a tar file, and name it; lines of what is done, as they
        come. ``query``: more choices of the engine's ``build``.

        Raises RuntimeFault with the words of the step that failed.
        """
        asked = {"t": name, "rm": "1", "forcerm": "1", "labels": json.dumps(labels), **query}
        logins = {place: _login(place, *login) for place, login in self.logins().items()}
        headers = {"X-Registry-Config": _header(logins)} if logins else {}
        async with self._stream("build", "POST", asked, sent=archive, headers=headers) as answer:
            async for line in _lines(answer):
                told = json.loads(line)
                if "error" in told:
                    raise RuntimeFault(f"docker: {told['error'].strip()}")
                for text in told.get("stream", "").splitlines():
                    if text.strip():
                        yield text.rstrip()

    async def tag(self, content: str, repository: str, tag: str) -> None:
        """One more name for an image."""
        query = {"repo": repository, "tag": tag}
        await self._ask(f"images/{content}/tag", "POST", query=query)

    async def tags(self, repository: str) -> Sequence[str]:
        """Those that images have in a repository."""
        query = {"filters": json.dumps({"reference": [f"{repository}:*"]})}
        found = await self._ask("images/json", query=query)
        names = [name for image in found for name in image.get("RepoTags") or ()]
        # Podman tells all names with their registry.
        own = [name.removeprefix(f"{named.HUB}/").rpartition(":") for name in names]
        return [tag for where, _, tag in own if where == repository]

    async def untag(self, name: str) -> None:
        """The image goes with its last name; one that a container has stays. Gone: no error."""
        with contextlib.suppress(Conflict):
            await self._ask(f"images/{name}", "DELETE", missing=True)

    # -- the wire -----------------------------------------------------------------------------

    async def _ask(
        self,
        path: str,
        method: str = "GET",
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        missing: bool = False,
    ) -> Any:
        """``missing``: None for what is not there. Raises RuntimeFault with the engine's words."""
        docker = await self.engine()
        with _faults():
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await docker._query_json(path, method, params=query, data=body)
            except aiodocker.DockerError as error:
                if missing and error.status == 404:
                    return None
                raise

    @contextlib.asynccontextmanager
    async def _stream(
        self,
        path: str,
        method: str,
        query: Mapping[str, str],
        sent: IO[bytes] | None = None,
        headers: Mapping[str, str] = types.MappingProxyType({}),
    ) -> AsyncIterator[aiohttp.ClientResponse | None]:
        """An answer that is read piece by piece, for as long as it takes; None: not there.

        ``sent``: a tar file; sending it may take as long as it takes.
        """
        docker = await self.engine()
        headers = {**headers, **({} if sent is None else {"Content-Type": "application/x-tar"})}
        with _faults():
            try:
                async with asyncio.timeout(ANSWER_SECONDS if sent is None else None):
                    answer = await docker._do_query(
                        path, method, params=query, data=sent, headers=headers, timeout=None
                    )
            except json.JSONDecodeError:
                # An error in answer to HEAD has no body, where the library looks for one.
                yield None
                return
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                yield None
                return
            try:
                yield answer
            finally:
                answer.close()


class Conflict(RuntimeFault):
    """What is asked does not fit the state that things are in.

    Docker has a number for that (409), Podman only words of its own (500). So where it makes a
    difference the state is looked at after a fault, and not how the engine puts it.
    """


async def _lines(answer: aiohttp.ClientResponse | None) -> AsyncIterator[bytes]:
    """However long they are."""
    rest = b""
    if answer is not None:
        async for piece in answer.content.iter_any():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line
    if rest:
        yield rest


def _login(place: str, user: str, password: str) -> dict[str, str]:
    return {"username": user, "password": password, "serveraddress": place}


def _header(body: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


def _pairs(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        kind = Conflict if error.status == 409 else RuntimeFault
        raise kind(f"docker: {error.message.strip()}") from None
    except TimeoutError:
        raise RuntimeFault(f"docker: no answer within {ANSWER_SECONDS:g} s", hint=_HINT) from None
    except (aiohttp.ClientError, OSError, EOFError, json.JSONDecodeError) as error:
        raise RuntimeFault(f"docker: the engine went away: {error}", hint=_HINT) from None


_HINT = "is Docker running, and may you use it? docker version"
_ANEW = "somebody removed it: gapless deploy --force makes another release, and its images"
