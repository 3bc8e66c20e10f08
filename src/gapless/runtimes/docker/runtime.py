"""The container runtime: one container a program, created once, found again by its labels.

Invariants: a program runs only after its container, which is its record, is there; containers that
do not bear this stack's labels are never listed, signalled or removed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gapless.errors import RuntimeFault
from gapless.model.process import Address, Bridge, Process, Signal
from gapless.runtimes.base import Found, Usage
from gapless.runtimes.docker import (
    client,
    containers,
    images,
    inside,
    mirror,
    networks,
    seen,
    spec,
)
from gapless.runtimes.machine import accounts, addresses, files, logs, proc

EDGE = "edge"
"""The identity of the load balancer: the only one that may connect to the services' sockets."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  # of a container, whose network is the stack's own
FIRST_PORT, LAST_PORT = 8000, 32_000


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
        self._networks = networks.Networks(self.client, self.owner)
        self._images = images.Images(self.client)
        self._image = image
        self._inside = inside.Inside(self.client)
        self._mirror = mirror.Mirror(run / "h")
        self._accounts = accounts.Accounts(state, stack)
        self._addresses = addresses.Addresses(run, stack, lambda: self.identity_uid(EDGE))
        self._port = FIRST_PORT
        self._starting: dict[str, _Start] = {}
        self._containers = containers.Containers(
            self.client,
            self.owner,
            self.logs,
            state / "copied",
            self._addresses,
            self._starting.keys,
        )
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
        await self._containers.refresh()
        if (entry := self._containers.entries.get(process.id)) is not None:
            found = entry.container.found
            if found.alive:
                return found
            if process.record_exit:
                raise RuntimeFault(
                    f"{process.id}: has run already ({found.exit})",
                    hint="forget it before it is run again",
                )
            await self._containers.bury(entry)
        known = spec.facts(process, at, proc.boot())
        key = await self._create(process, known)
        try:
            await self._images.check(key, process.image or self._image, process)
            await self.client.start(key)
            container = await self._containers.inspect(key)
        except RuntimeFault as fault:
            self._networks.doubt()  # it may be that what is missing
            await self.client.remove(key, force=True)
            await self._tidy(process.id)
            raise RuntimeFault(f"{process.id}: {fault.message}", hint=fault.hint) from None
        if container is None:
            raise RuntimeFault(f"{process.id}: its container was removed as it started")
        return self._containers.adopt(container).container.found

    async def _create(self, process: Process, known: spec.Facts) -> str:
        user, uid = self._user(process)
        shared = self.shared_group()
        place = spec.Place(
            image=process.image or self._image,
            user=user,
            groups=() if shared is None else (shared,),
            network=self._networks.first(process.nets),
            health=str(self._mirror.place(process.id)),
        )
        self._mirror.make()
        self.logs.make()
        self.log(process.log or process.id).touch(mode=0o600)
        self._addresses.prepare(process.address, uid)
        body = spec.container(process, known, self.owner, place)
        name = self.owner.name(process.id)
        async with self._networks.kept(process.nets):
            try:
                key, self._warnings = await self.client.create(name, body)
            except client.Conflict:
                await self._clear(name)
                key, self._warnings = await self.client.create(name, body)
            await self._networks.join(key, process.nets)
        return key

    @property
    def bridge(self) -> Bridge | None:
        """See ``Bridges.bridge``."""
        return self._networks.bridge

    async def open_bridge(self) -> None:
        """See ``Bridges.open_bridge``. Raises RuntimeFault also where the machine is not in it."""
        await self._containers.refresh()  # what an earlier instance held is swept before
        await self._networks.open()

    async def inner_bridge(self) -> Bridge:
        """See ``Packed.network``."""
        return await self._networks.inner()

    async def close_bridge(self) -> None:
        """See ``Bridges.close_bridge``."""
        await self._networks.close()
        for entry in [one for one in self._containers.entries.values() if not one.container.alive]:
            await self._containers.bury(entry)
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
        container = await self._containers.inspect(name)
        if container is None or container.state != seen.UNBEGUN:
            raise RuntimeFault(
                f"a container {name} is there already, and is none of this stack's",
                hint=f"docker rm {name}",
            )
        await self.client.remove(container.key)

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
        await self._containers.refresh()
        entries = self._containers.entries
        for entry in entries.values():
            # A container's umask is its image's affair, and the edge must get in.
            if entry.container.alive:
                self._addresses.open_to_group(entry.container.facts.address)
        begun = [_begun(start) for id, start in self._starting.items() if id not in entries]
        found = [entry.container.found for entry in entries.values()]
        return sorted((*found, *begun), key=lambda one: one.id)

    async def usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        """See ``Runtime.usage``: the whole container's, without what the kernel only caches."""
        living = self._living(ids)
        bodies = await containers.side_by_side(self.client.stats(o.key) for o in living.values())
        return {
            id: seen.use(body)
            for id, body in zip(living, bodies, strict=True)
            if body is not None and seen.sampled(body)
        }

    async def standstill(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``SeesStandstill.standstill``. Of an engine on another machine nothing is told."""
        return await asyncio.to_thread(_standstill, self._living(ids))

    def _living(self, ids: Iterable[str]) -> dict[str, seen.Container]:
        return {id: one for id in ids if (one := self._containers.living(id)) is not None}

    async def ask(self, id: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        """See ``Asks.ask``."""
        living = self._containers.living(id)
        if living is None:
            return None, "its container does not run"
        return await self._inside.ask(living.key, argv, limit)

    def show_health(self, ready: Mapping[str, bool]) -> None:
        """See ``ShowsHealth.show_health``."""
        self._mirror.show({id: ready[id] for id in self._living(ready)})

    # -- ending ---------------------------------------------------------------------------

    async def signal(self, id: str, signal: Signal | None) -> None:
        """See ``Runtime.signal``. KILL ends everything in the container."""
        if self._containers.living(id) is None:
            await self._containers.refresh()
        if (living := self._containers.living(id)) is not None:
            said = await self._asked(living.key) if signal is None else f"SIG{signal}"
            await self.client.kill(living.key, said)

    async def _asked(self, key: str) -> str:
        about = await self.client.inspect(key) or {}
        return str(about.get("Config", {}).get("StopSignal") or "SIGTERM")

    async def background(self, id: str, on: bool) -> None:
        """See ``Runtime.background``."""
        if (living := self._containers.living(id)) is not None:
            await self.client.update(living.key, {"CpuShares": spec.shares(on)})

    async def forget(self, id: str) -> None:
        """See ``Runtime.forget``. A dead container holds no process any more, of whatever kind."""
        await self._containers.refresh()
        entry = self._containers.entries.get(id)
        if entry is None:
            return
        if entry.container.alive:
            raise RuntimeFault(f"{id}: is alive and cannot be forgotten", hint="end it first")
        await self._containers.bury(entry)
        await self._tidy()

    async def _tidy(self, failed: str = "") -> None:
        """Networks go with the last container; ``failed``: the id of one that never was."""
        await self._networks.tidy(
            lambda: not self._containers.entries and self._starting.keys() <= {failed}
        )

    async def ended(self) -> AsyncIterator[str]:
        """See ``Runtime.ended``."""
        async for id in self._containers.ended():
            yield id

    async def close(self) -> None:
        """Stop watching. The containers go on; another instance may adopt them."""
        await self._containers.close()
        await self._inside.close()
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
        return frozenset(self._containers.entries)

    def rotate(self, limit: int, keep: int) -> Sequence[str]:
        """Bound the logs, as the process runtime does. Blocking. Raises EnvironmentFault."""
        return self.logs.rotate(limit, keep, known=self.known())


def _standstill(living: Mapping[str, seen.Container]) -> dict[str, str]:
    found = {}
    for id, container in living.items():
        pid = container.found.pid
        if container.state == "paused":
            found[id] = "stopped"
        elif pid is not None and proc.in_group(pid, container.key):
            # The init, or the program behind it.
            for one in (pid, *proc.children(pid)[:1]):
                found |= proc.standstill({id: one})
    return found


def _begun(start: _Start) -> Found:
    """One whose start takes long: nobody may take it for absent and start another."""
    process = start.process
    return Found(process.id, True, start.at, dict(process.labels), address=process.address)
