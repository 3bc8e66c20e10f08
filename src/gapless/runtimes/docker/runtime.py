"""The container runtime: one container a program, created once, found again by its labels.

Invariants: a program runs only after its container, which is its record, is there; containers that
do not bear this stack's labels are never listed, signalled or removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from gapless.errors import GaplessError, RuntimeFault
from gapless.model.process import Address, Bridge, Process, Signal
from gapless.runtimes.base import Found, Usage
from gapless.runtimes.docker import client, follow, holder, inside, mirror, seen, spec
from gapless.runtimes.machine import accounts, addresses, files, logs, proc

_Answer = TypeVar("_Answer")

EDGE = "edge"
"""The identity of the load balancer: the only one that may connect to the services' sockets."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  # of a container, whose network is the stack's own
FIRST_PORT, LAST_PORT = 8000, 32_000
GRACE = 10.0
"""Seconds that a job which ran out of its time gets to end by itself."""
DRAINED = 10.0
"""Seconds that the rest of a dead program's output may take."""
AT_ONCE = 16
"""Questions about single containers that the engine is asked side by side."""
AGAIN_AFTER = 0.5
"""Seconds before an engine that went away is asked again for what happens."""
_NOT_THERE = "let the engine make bridge networks with IPv4 addresses"
_NOT_INSIDE = (
    "Podman gives none; a store without image is a program of this machine, and is reached"
)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class _Entry:
    """A container of ours. ``told``: its end was announced; ``stale``: to be looked at anew."""

    container: seen.Container
    copy: follow.Copy
    copying: asyncio.Task[None]
    told: bool = False
    stale: bool = False
    overdue: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Start:
    """A start under way. ``at``: seconds of CLOCK_BOOTTIME."""

    process: Process
    task: asyncio.Task[Found]
    at: float


class DockerRuntime:
    """Runs the programs of one stack in containers; implements ``runtimes.base.Runtime``.

    ``state`` holds logs, ``run`` sockets, both on the machine of the engine. One instance at a
    time: the holder of the stack's lock. ``image``: for programs that name none.
    """

    def __init__(
        self, state: Path, run: Path, stack: str, *, url: str | None = None, image: str = ""
    ) -> None:
        self.state = state
        self.stack = stack
        self.logs = logs.Logs(state / "logs")
        self.client = client.Client(url)
        self.owner = spec.Owner(stack, files.home(state))
        self._holder = holder.Holder(self.client, self.owner)
        self._image = image
        self._marks = state / "copied"
        self._inside = inside.Inside(self.client)
        self._mirror = mirror.Mirror(run / "h")
        self._accounts = accounts.Accounts(state, stack)
        self._addresses = addresses.Addresses(run, stack, lambda: self.identity_uid(EDGE))
        self._port = FIRST_PORT
        self._entries: dict[str, _Entry] = {}
        self._starting: dict[str, _Start] = {}
        self._looking = asyncio.Lock()
        self._swept = False
        self._network = asyncio.Lock()
        self._networked: set[str] = set()
        self.bridge: Bridge | None = None
        """See ``Bridges.bridge``: while it is open the network stays, whatever is in it."""
        self._runnable: set[tuple[str, str, str]] = set()
        self._images: dict[str, Mapping[str, Any]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._warnings: Sequence[str] = ()

    # -- starting -------------------------------------------------------------------------

    async def start(self, process: Process) -> Found:
        """See ``Runtime.start``. A dead service of that id is replaced; a job that ended is not.

        Cancelled, the start goes on: the next ``start`` or ``look`` finds it.
        """
        start = self._starting.get(process.id)
        if start is None:
            at = time.clock_gettime(time.CLOCK_BOOTTIME)
            task = asyncio.create_task(self._start(process, at))
            start = _Start(process, task, at)
            self._starting[process.id] = start
            task.add_done_callback(lambda _: self._starting.pop(process.id, None))
        return await asyncio.shield(start.task)

    async def _start(self, process: Process, at: float) -> Found:
        files.file_name(process.id)
        await self._refresh()
        if (entry := self._entries.get(process.id)) is not None:
            found = entry.container.found
            if found.alive:
                return found
            if process.record_exit:
                raise RuntimeFault(
                    f"{process.id}: has run already ({found.exit})",
                    hint="forget it before it is run again",
                )
            await self._bury(entry)
        known = spec.facts(process, at, proc.boot())
        key = await self._create(process, known)
        try:
            await self._check_program(key, process)
            await self.client.start(key)
            container = await self._inspect(key)
        except RuntimeFault as fault:
            self._networked.clear()  # it may be that what is missing
            await self.client.remove(key, force=True)
            await self._tidy(process.id)
            raise RuntimeFault(f"{process.id}: {fault.message}", hint=fault.hint) from None
        if container is None:
            raise RuntimeFault(f"{process.id}: its container was removed as it started")
        return self._adopt(container).container.found

    async def _create(self, process: Process, known: spec.Facts) -> str:
        user, uid = self._user(process)
        shared = self.shared_group()
        place = spec.Place(
            image=process.image or self._image,
            user=user,
            groups=() if shared is None else (shared,),
            network=self.owner.stores if process.nets == "stores" else self.owner.network,
            health=str(self._mirror.place(process.id)),
        )
        self._mirror.make()
        self.logs.make()
        self.log(process.log or process.id).touch(mode=0o600)
        self._addresses.prepare(process.address, uid)
        body = spec.container(process, known, self.owner, place)
        name = self.owner.name(process.id)
        async with self._network:
            await self._make_network()
            if process.nets != "stack":
                await self._make_network(inner=True)
            try:
                key, self._warnings = await self.client.create(name, body)
            except client.Conflict:
                await self._clear(name)
                key, self._warnings = await self.client.create(name, body)
            if process.nets == "both":
                await self.client.connect(self.owner.stores, key)
        return key

    async def _make_network(self, *, inner: bool = False) -> None:
        name = self.owner.stores if inner else self.owner.network
        if name not in self._networked:
            await self.client.make_network(name, spec.network(self.owner.labels, inner=inner))
            self._networked.add(name)

    async def open_bridge(self) -> None:
        """See ``Bridges.open_bridge``. Raises RuntimeFault also where the machine is not in it."""
        await self._refresh()  # what an earlier instance held is swept before
        bridge = await self._open(inner=False)
        await self._holder.hold(bridge.host)
        self.bridge = bridge

    async def inner_bridge(self) -> Bridge:
        """See ``Packed.network``."""
        return await self._open(inner=True)

    async def _open(self, *, inner: bool) -> Bridge:
        name = self.owner.stores if inner else self.owner.network
        async with self._network:
            self._networked.discard(name)
            await self._make_network(inner=inner)
            about = await self.client.network(name)
        found = None if about is None else seen.bridge(about)
        if found is None:
            raise RuntimeFault(
                f"network {name}: has no address of this machine",
                hint=_NOT_INSIDE if inner else _NOT_THERE,
            )
        return found

    async def close_bridge(self) -> None:
        """See ``Bridges.close_bridge``."""
        self.bridge = None
        await self._holder.let_go()
        for entry in [one for one in self._entries.values() if not one.container.alive]:
            await self._bury(entry)
        await self._tidy()

    def _user(self, process: Process) -> tuple[str, int | None]:
        """As whom it runs ("": as the image says), and whose its socket's directory is to be.

        Where it needs a directory of ours it must be somebody that we know.
        """
        if process.user is not None:
            number = process.user.partition(":")[0]
            return process.user, int(number) if number.isdigit() and os.geteuid() == 0 else None
        listens = process.address is not None and process.address.socket is not None
        if process.image is not None and not process.sealed and not listens:
            return "", None
        uid = self.identity_uid(process.identity or accounts.SHARED)
        return (f"{os.getuid()}:{os.getgid()}" if uid is None else f"{uid}:{uid}"), uid

    async def _clear(self, name: str) -> None:
        """Make room for a container, where its name is taken by one of ours that never ran."""
        container = await self._inspect(name)
        if container is None or container.state != seen.UNBEGUN:
            raise RuntimeFault(
                f"a container {name} is there already, and is none of this stack's",
                hint=f"docker rm {name}",
            )
        await self.client.remove(container.key)

    async def _check_program(self, key: str, process: Process) -> None:
        """An init would start without its program and tell nobody but the log."""
        image = process.image or self._image
        about = await self._config(image)
        words = spec.words(process, about)
        if not words:
            raise RuntimeFault(f"image {image} has no command of its own", hint="say run")
        name = words[0]
        path = process.env.get("PATH") or _path(about)
        if (image, name, path) in self._runnable:
            return
        here = process.cwd or (about.get("WorkingDir") if process.image else None) or "/"
        folders = [here] if "/" in name else path.split(":")
        for folder in folders:
            mode = await self.client.file(key, str(PurePosixPath(folder, name)))
            if mode is not None and mode & 0o111 and not mode & client.DIRECTORY:
                self._runnable.add((image, name, path))
                return
        raise RuntimeFault(f"cannot run {name}: there is no such program in image {image}")

    async def _config(self, image: str) -> Mapping[str, Any]:
        if image not in self._images:
            about = await self.client.image(image) or {}
            self._images[image] = about.get("Config") or {}
        return self._images[image]

    def unconfined(self) -> str:
        """See ``Confines.unconfined``: the engine's own warnings."""
        return "; ".join(self._warnings)

    def identity_uid(self, name: str) -> int | None:
        """The uid (and gid) that an identity has as root, for the owner of its directories.

        None when we are not root. Raises EnvironmentFault when none is free.
        """
        return self._accounts.uid(name)

    def shared_group(self) -> int | None:
        """The gid that every program of the stack has beside its own; None when not root."""
        return self._accounts.uid(accounts.SHARED)

    # -- looking --------------------------------------------------------------------------

    async def look(self) -> Sequence[Found]:
        """See ``Runtime.look``; sorted by id. One question, and one more for each that changed."""
        await self._refresh()
        for entry in self._entries.values():
            # A container's umask is its image's affair, and the edge must get in.
            if entry.container.alive:
                self._addresses.open_to_group(entry.container.facts.address)
        begun = [_begun(start) for id, start in self._starting.items() if id not in self._entries]
        found = [entry.container.found for entry in self._entries.values()]
        return sorted((*found, *begun), key=lambda one: one.id)

    async def _refresh(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        async with self._looking:
            listed = await self.client.containers(self.owner.labels)
            first, self._swept = not self._swept, True
            if first:
                await self._sweep(listed)
            listed = [body for body in listed if spec.ONCE not in body["Labels"]]
            states = {body["Id"]: body["State"] for body in listed}
            known = {entry.container.key: entry for entry in self._entries.values()}
            for key in known.keys() - states.keys():
                await self._vanished(known[key])
            changed = [key for key, state in states.items() if _changed(known.get(key), state)]
            for container in await _side_by_side(self._inspect(key) for key in changed):
                if container is not None and container.state != seen.UNBEGUN:
                    # What was dead before the first look is told by it, and wakes nobody.
                    self._adopt(container, told=first and not container.alive)

    async def _sweep(self, listed: Sequence[Mapping[str, Any]]) -> None:
        """What an earlier instance made and did not come to start is nobody's."""
        names = {self.owner.name(id) for id in self._starting}
        for body in listed:
            ours = {name.removeprefix("/") for name in body["Names"]}
            if spec.ONCE in body["Labels"]:
                await self.client.remove(body["Id"], force=True)
            elif body["State"] == seen.UNBEGUN and not ours & names:
                await self.client.remove(body["Id"])

    async def _vanished(self, entry: _Entry) -> None:
        """Somebody removed the container by other means."""
        self._tell(entry)
        await self._drop(entry)

    async def _inspect(self, key: str) -> seen.Container | None:
        body = await self.client.inspect(key)
        return None if body is None else seen.read(body, self.owner.network, proc.boot())

    def _adopt(self, container: seen.Container, *, told: bool = False) -> _Entry:
        entry = self._entries.get(container.id)
        if entry is None or entry.container.key != container.key:
            entry = self._follow(container, told)
            self._entries[container.id] = entry
        entry.container, entry.stale = container, False
        if not container.alive:
            entry.copy.ended()
            self._tell(entry)
        return entry

    def _follow(self, container: seen.Container, told: bool) -> _Entry:
        files.make_folder(self._marks, 0o700)
        self.logs.make()
        copy = follow.Copy(
            self.client,
            container.key,
            self.log(container.facts.log or container.id),
            follow.place(self._marks, container.key),
        )
        copying = asyncio.create_task(copy.run(lambda: self._lives(container)))
        entry = _Entry(container, copy, copying, told)
        if container.alive and container.facts.timeout is not None:
            entry.overdue = asyncio.create_task(self._end_in_time(container))
        return entry

    def _lives(self, container: seen.Container) -> bool:
        entry = self._entries.get(container.id)
        return entry is None or (entry.container.key == container.key and entry.container.alive)

    def _tell(self, entry: _Entry) -> None:
        if not entry.told:
            entry.told = True
            self._ended.put_nowait(entry.container.id)

    async def _watch(self) -> None:
        """Mark what ends as stale, and look at it; after a gap, look at everything."""
        while True:
            with contextlib.suppress(GaplessError):
                async for event in self.client.events(self.owner.labels):
                    key = event.get("Actor", {}).get("ID")
                    for entry in self._entries.values():
                        entry.stale |= entry.container.key == key
                    await self._refresh()
            await asyncio.sleep(AGAIN_AFTER)

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``. One consumer; ends that happened before the first look are in
        what ``look`` says, not here. An engine that does not answer is waited for.
        """
        with contextlib.suppress(GaplessError):
            await self._refresh()
        while True:
            yield await self._ended.get()

    async def usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        """See ``Runtime.usage``: the whole container's, without what the kernel only caches."""
        living = {id: self._entries[id].container.key for id in ids if self._is_alive(id)}
        bodies = await _side_by_side(self.client.stats(key) for key in living.values())
        return {
            id: seen.use(body)
            for id, body in zip(living, bodies, strict=True)
            if body is not None and seen.sampled(body)
        }

    def _is_alive(self, id: str) -> bool:
        entry = self._entries.get(id)
        return entry is not None and entry.container.alive

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``SeesStandstill.standstill``. Of an engine on another machine nothing is told."""
        return await asyncio.to_thread(self._standstill, [id for id in ids if self._is_alive(id)])

    def _standstill(self, ids: Sequence[str]) -> dict[str, str]:
        found = {}
        for id in ids:
            container = self._entries[id].container
            pid = container.found.pid
            if container.state == "paused":
                found[id] = "stopped"
            elif pid is not None and proc.in_group(pid, container.key):
                # The init, or the program behind it.
                for one in (pid, *proc.children(pid)[:1]):
                    found |= proc.standstill({id: one})
        return found

    async def ask(self, id: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        """See ``Asks.ask``."""
        if not self._is_alive(id):
            return None, "its container does not run"
        return await self._inside.ask(self._entries[id].container.key, argv, limit)

    def show_health(self, ready: Mapping[str, bool]) -> None:
        """See ``ShowsHealth.show_health``."""
        self._mirror.show({id: well for id, well in ready.items() if self._is_alive(id)})

    # -- ending ---------------------------------------------------------------------------

    async def signal(self, id: str, signal: Signal) -> None:
        """See ``Runtime.signal``. KILL ends everything in the container."""
        if not self._is_alive(id):
            await self._refresh()
        if self._is_alive(id):
            await self.client.kill(self._entries[id].container.key, f"SIG{signal}")

    async def background(self, id: str, on: bool) -> None:
        """See ``Runtime.background``."""
        if self._is_alive(id):
            key = self._entries[id].container.key
            await self.client.update(key, {"CpuShares": spec.shares(on)})

    async def forget(self, id: str) -> None:
        """See ``Runtime.forget``. A dead container holds no process any more, of whatever kind."""
        await self._refresh()
        entry = self._entries.get(id)
        if entry is None:
            return
        if entry.container.alive:
            raise RuntimeFault(f"{id}: is alive and cannot be forgotten", hint="end it first")
        await self._bury(entry)
        await self._tidy()

    async def _tidy(self, failed: str = "") -> None:
        """The network goes with the last container; ``failed``: the id of one that never was."""
        async with self._network:
            unused = not self._entries and self._starting.keys() <= {failed}
            if unused and self.bridge is None:
                for name in (self.owner.network, self.owner.stores):
                    await self.client.remove_network(name)
                self._networked.clear()

    async def _bury(self, entry: _Entry) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(entry.copying), DRAINED)
        await self.client.remove(entry.container.key)
        await self._drop(entry)

    async def _drop(self, entry: _Entry) -> None:
        for task in (entry.copying, entry.overdue):
            if task is not None:
                task.cancel()
        entry.copy.forget()
        container = entry.container
        if self._entries.get(container.id) is entry:
            del self._entries[container.id]
        self._addresses.give_back(container.id, container.facts.address)

    async def _end_in_time(self, container: seen.Container) -> None:
        """A job that has run out of its time is asked to end, then made to."""
        timeout = container.facts.timeout or 0.0
        # By the engine's clock, as its end will be judged.
        await asyncio.sleep(max(0.0, container.begun + timeout - time.time()))
        for name in ("SIGTERM", "SIGKILL"):
            with contextlib.suppress(RuntimeFault):
                await self.client.kill(container.key, name)
            await asyncio.sleep(GRACE)

    async def close(self) -> None:
        """Stop watching. The containers go on; another instance may adopt them."""
        tasks = [self._watching] if self._watching is not None else []
        for entry in self._entries.values():
            tasks += [task for task in (entry.copying, entry.overdue) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._inside.close()
        self._watching = None
        self._entries.clear()
        await self.client.close()

    # -- places ---------------------------------------------------------------------------

    def address(self, id: str, kind: Literal["socket", "port"]) -> Address:
        """See ``Runtime.address``. A port is the container's own: where it is reached, ``look``
        tells once it runs. Different ones are for the eye only.
        """
        if kind == "socket":
            return self._addresses.fresh_socket(id)
        self._port = FIRST_PORT if self._port >= LAST_PORT else self._port + 1
        return Address(host=EVERYWHERE, port=self._port)

    def log(self, id: str) -> Path:
        """See ``Runtime.log``. After a rotation it begins with a hole: ``logs.open_at_start``."""
        return self.logs.path(id)

    def flooded(self, limit: int) -> bool:
        """Whether any log takes more room than ``limit`` bytes; quick."""
        return self.logs.flooded(limit)

    def known(self) -> frozenset[str]:
        """The programs that have a log which may not be taken for a forgotten one's."""
        return frozenset(self._entries)

    def rotate(self, limit: int, keep: int) -> Sequence[str]:
        """Bound the logs, as the process runtime does. Blocking. Raises EnvironmentFault."""
        return self.logs.rotate(limit, keep, known=self.known())


def _path(image: Mapping[str, Any]) -> str:
    found = [line for line in image.get("Env") or () if line.startswith("PATH=")]
    return str(found[0]).partition("=")[2] if found else DEFAULT_PATH


def _changed(entry: _Entry | None, state: str) -> bool:
    return entry is None or entry.stale or entry.container.state != state


def _begun(start: _Start) -> Found:
    """One whose start takes long: nobody may take it for absent and start another."""
    process = start.process
    return Found(process.id, True, start.at, dict(process.labels), address=process.address)


async def _side_by_side(questions: Iterable[Awaitable[_Answer]]) -> list[_Answer]:
    """The answers in order; a few questions at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(question: Awaitable[_Answer]) -> _Answer:
        async with turns:
            return await question

    return await asyncio.gather(*(ask(question) for question in questions))
