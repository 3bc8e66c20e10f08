"""The parts of one stack on one machine, put together: runtime, edge, stores, releases, secrets.

It resolves what a release's table says into processes to start: placeholders, environment,
addresses. Values of secrets pass through here into process environments, and into files of an
owner-only folder that containers are given; nowhere else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from gapless import data, errors
from gapless.core import heal
from gapless.data import base as data_base
from gapless.edge import base as edge_base
from gapless.edge import staticserver
from gapless.engine import durable, listeners, releases, secrets
from gapless.engine.certificates.keeper import Keeper
from gapless.engine.front import Front
from gapless.engine.journal import Journal
from gapless.engine.paths import Paths
from gapless.engine.releases import images, recipe
from gapless.model.data import Data
from gapless.model.desired import Generation
from gapless.model.packed import Packed
from gapless.model.process import Address, Bridge, Mount, Process, ReplicaId
from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.runtimes import base as runtime_base
from gapless.runtimes.machine import files
from gapless.stackfile import references

EVERYWHERE = "0.0.0.0"  # noqa: S104  # of a container
PORT = 8000
"""Where an image listens that is told by ${port}."""


@dataclass(slots=True)
class Site:
    """Everything that the loop has hands for. One instance per controller."""

    paths: Paths
    runtime: runtime_base.Runtime
    edge: edge_base.Edge
    front: Front
    static: staticserver.StaticServer
    releases: releases.Releases
    secrets: secrets.Secrets
    notebook: durable.Notebook
    journal: Journal
    stacks: dict[int, Stack] = field(default_factory=dict)
    stores: dict[str, data_base.Store] = field(default_factory=dict)
    tables: dict[str, Data] = field(default_factory=dict)
    """The table that each known store was opened with."""
    job_gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a run of a job is begun: never two of one job."""
    stale: set[str] = field(default_factory=set)
    """Stores whose table has changed since their server was told."""
    folder: Path = Path()
    """Where the stack file is."""
    packed: Packed | None = None
    """Where stores and the edge can run in containers."""
    certificates: Keeper = field(init=False)

    def __post_init__(self) -> None:
        home = self.paths.state / "edge"
        self.certificates = Keeper(home, self.folder, self.secrets, self.edge)

    def stack(self, release: int) -> Stack:
        """The stack that a release was made from."""
        if release not in self.stacks:
            self.stacks[release] = self.releases.load_stack(release)
        return self.stacks[release]

    def table(self, id: ReplicaId) -> Service | None:
        """The table that a replica was started from; None: of a release that is not kept."""
        stack = self.readable(id.release)
        return None if stack is None else stack.services.get(id.service)

    def readable(self, release: int) -> Stack | None:
        """The stack of a release; None where it is not kept, or damaged."""
        try:
            return self.stack(release)
        except (errors.UsageError, errors.Damaged):
            return None

    @property
    def bridge(self) -> Bridge | None:
        """The network of programs that have one of their own; None: there is none, or not yet."""
        runtime = self.runtime
        return runtime.bridge if isinstance(runtime, runtime_base.Bridges) else None

    async def network_of(self, store: str) -> Bridge | None:
        """Where others reach that store beside this machine's loopback interface; None: nowhere.

        Raises RuntimeFault.
        """
        if self.packed is not None and self.tables[store].contained:
            return await self.packed.network()
        return self.bridge

    # -- ports and addresses ----------------------------------------------------------------

    def port(self, owner: str) -> int:
        """A loopback port that belongs to ``owner`` for good."""
        if owner not in self.notebook.ports:
            address = self.runtime.address(owner, "port")
            assert address.port is not None  # noqa: S101  # asked for a port
            self.notebook.keep_port(owner, address.port)
        return self.notebook.ports[owner]

    async def renew_ports(self) -> list[str]:
        """Forget the ports that strangers took while nothing of ours ran; what there is to say.

        Not while a program of ours lives: it may listen there, or have been told of it.
        """
        if any(found.alive for found in await self.runtime.look()):
            return []
        said = []
        for owner, port in list(self.notebook.ports.items()):
            if listeners.taken(port):
                who = listeners.holder(port) or "somebody else"
                self.notebook.forget_port(owner)
                said.append(f"{owner}: gets another port: {who} listens on {port}")
        return said

    def public_bind(self, stack: Stack) -> str:
        """Where the edge itself listens. Behind the front that is a loopback address for those
        on this machine, who need no host name there: the stack's other services."""
        return f"127.0.0.1:{self.port('edge')}" if stack.edge.shared else stack.edge.listen

    def tls_bind(self, stack: Stack) -> str:
        """The same for TLS."""
        shared = stack.edge.shared
        return f"127.0.0.1:{self.port('edge.tls')}" if shared else stack.edge.tls_listen

    def private_bind(self, service: str) -> str:
        """The stable loopback listener of a private service."""
        return f"127.0.0.1:{self.port(f'service.{service}')}"

    def private_binds(self, stack: Stack) -> dict[str, str]:
        """One for each private HTTP service of a stack."""
        return {
            name: self.private_bind(name)
            for name, service in stack.services.items()
            if service.http and service.route is None
        }

    def replica_address(self, id: ReplicaId, service: Service) -> Address | None:
        """Where a replica is to listen; None for services that do not."""
        if not service.http:
            return None
        texts = (*service.run, *(service.entrypoint or ()), *service.env.values())
        if service.packed and not any("${socket}" in text for text in texts):
            # Of a network that is its own: the same for all. Where that is, a look tells.
            return Address(host=EVERYWHERE, port=service.port or PORT)
        if service.port is not None:
            return Address(host="127.0.0.1", port=service.port)
        kind = "socket" if any("${socket}" in text for text in texts) else "port"
        return self.runtime.address(str(id), "socket" if kind == "socket" else "port")

    def edge_image(self, number: int, stack: Stack) -> str:
        """The content of the edge's image, "" without one. What is no release yet is taken to have
        what the last one had by that name; where none had, it is the name."""
        wanted = stack.edge.image
        for one in sorted(self.releases.list(), key=lambda r: (r.number != number, -r.number)):
            alike = one.number == number or self._same_edge(one.number, wanted)
            if wanted is not None and alike and images.EDGE in one.images:
                return one.images[images.EDGE]
        return wanted or ""

    def _same_edge(self, number: int, image: str | None) -> bool:
        stack = self.readable(number)
        return stack is not None and stack.edge.image == image

    # -- stores -------------------------------------------------------------------------------

    def store(self, name: str, table: Data) -> data_base.Store:
        """The store with that table. One opened with another table is stale from now on."""
        if self.tables.get(name) != table:
            if name in self.stores:
                self.stale.add(name)
            self.stores[name] = self._open_store(name, table)
            self.tables[name] = table
        return self.stores[name]

    def _open_store(self, name: str, table: Data) -> data_base.Store:
        if table.url is not None:
            url = references.substitute(table.url, self._value)
            return data.open(name, table, None, url=url)
        identity = f"data-{name}"
        uid = self.uid(identity)
        place = data_base.Place(
            home=self.paths.data / name,
            run=self.paths.run / "d",
            slot=self.port(f"data.{name}") if table.port and table.contained else None,
            engines=self.paths.engines,
            port=0 if table.type == "files" else table.port or self.port(f"data.{name}"),
            password=self.secrets.ensure(f"data.{name}.password"),
            identity=identity if uid is not None else None,
            uid=uid,
            group=self.group(),
            packed=self.packed,
        )
        return data.open(name, table, place)

    def uid(self, identity: str) -> int | None:
        """The unprivileged uid of an identity; None where we have no right to choose."""
        maps = getattr(self.runtime, "identity_uid", None)
        return None if maps is None else maps(identity)

    def group(self) -> int | None:
        """The group that all programs of the stack share; None where we cannot choose."""
        shared = getattr(self.runtime, "shared_group", None)
        return None if shared is None else shared()

    # -- what placeholders stand for -----------------------------------------------------------

    def _value(self, reference: references.Reference) -> str:
        """A secret or a captured environment value."""
        if reference.kind == "secret":
            value = self.secrets.get(reference.name)
            if value is None:
                raise errors.UsageError(
                    f"secret {reference.name}: has no value",
                    hint=f"gapless secret set {reference.name}",
                )
            return value
        held = self.secrets.get(f"{secrets.ENV_PREFIX}{reference.name}")
        known = {} if held is None else {reference.name: held}
        return references.environment(reference, known)

    def _resolver(
        self, stack: Stack, table: Service | Job, own: Mapping[str, str]
    ) -> Callable[[references.Reference], str]:
        """What placeholders stand for, as a program of that table sees it."""
        host = self.bridge.host if table.packed and self.bridge is not None else None
        return lambda reference: self._lookup(stack, own, reference, host)

    def _lookup(
        self,
        stack: Stack,
        own: Mapping[str, str],
        reference: references.Reference,
        machine: str | None,
    ) -> str:
        """``machine``: how who asks calls this machine; None: it is on it."""
        if reference.kind == "own":
            return own[reference.name]
        if reference.kind in ("secret", "env"):
            return self._value(reference)
        if reference.name in stack.data:
            name = reference.name
            store = self.stores.get(name) or self.store(name, stack.data[name])
            return store.attributes(machine)[reference.attribute]
        return self.service_attributes(stack, reference.name, machine)[reference.attribute]

    def service_attributes(
        self, stack: Stack, name: str, machine: str | None = None
    ) -> dict[str, str]:
        """``url``, ``host`` and ``port`` of a service: the edge's listener for it. ``machine``:
        how who asks calls this machine; None: it is on it."""
        service = stack.services[name]
        if service.route is not None and (stack.tls is not None or stack.domains):
            parts = urlsplit(url := stack.url_from(machine))
            port = str(parts.port or (443 if parts.scheme == "https" else 80))
            return {"url": url, "host": parts.hostname or "", "port": port}
        public = service.route is not None
        bind = self.public_bind(stack) if public else self.private_bind(name)
        host, _, port = bind.rpartition(":")
        host = "127.0.0.1" if host in ("*", "0.0.0.0") else host  # noqa: S104  # compared only
        host = machine or host
        return {"url": f"http://{host}:{port}", "host": host, "port": port}

    # -- processes -----------------------------------------------------------------------------

    def replica(self, id: ReplicaId, generation: Generation) -> Process:
        """The process of one replica, everything resolved."""
        stack = self.stack(generation.release)
        service = stack.services[id.service]
        address = self.replica_address(id, service)
        own = {"replica": str(id), "release": f"r{id.release}"} | _listening(address)
        env = self._environment(stack, service, id.release, own)
        process = Process(
            id=str(id),
            argv=_argv(service.run, self._resolver(stack, service, own)),
            env=env | {"GAPLESS_NOTICE": str(self.notice(str(id)))},
            cwd=self._cwd(id.release, service.cwd),
            identity=id.service,
            alias=id.service,
            aliases=service.aliases,
            stop=service.signal,
            address=address,
            labels={"kind": "replica", "epoch": str(generation.epoch)},
            memory_limit=heal.wall(service.limits.memory),
            cpu_limit=service.limits.cpu,
        )
        return self._in_image(stack, service, id.release, own, process)

    def _in_image(
        self,
        stack: Stack,
        table: Service | Job,
        release: int,
        own: Mapping[str, str],
        process: Process,
    ) -> Process:
        """The same program from its image; as it is where it is of the release's files."""
        if not table.packed:
            return process
        name = process.identity or ""
        notices = self.paths.run / "n"
        notices.mkdir(mode=0o711, exist_ok=True)
        mounts = [Mount(str(notices), str(notices))]
        for place, volume in table.volumes.items():
            if volume.secret is not None:
                mounts.append(Mount(str(self._shown(volume.secret)), place))
                continue
            given = references.substitute(volume.source, self._resolver(stack, table, own))
            source = self.releases.get(release).tree / given  # an absolute one is itself
            mounts.append(Mount(str(source), place, writable=not volume.read_only))
        entrypoint = table.entrypoint
        cwd = table.cwd
        if table.derived:
            cwd = f"{recipe.HOME}/{cwd}" if cwd else recipe.HOME
        return replace(
            process,
            image=self.releases.get(release).images[name],
            entrypoint=None
            if entrypoint is None
            else _argv(entrypoint, self._resolver(stack, table, own)),
            user=table.user,
            sealed=table.derived,
            shown=table.start if isinstance(table, Service) else None,
            cwd=cwd,
            hosts=table.hosts,
            mounts=tuple(mounts),
            nets="both" if references.contained(stack, table) else "stack",
        )

    def _shown(self, name: str) -> Path:
        """A secret's value as a file. Whoever runs in the container that is given it may read it;
        on the machine its folder is ours alone."""
        value = self._value(references.Reference("secret", name))
        folder = self.paths.run / "s"
        files.make_folder(folder, 0o700)
        made = folder / name
        if not made.exists() or made.read_text() != value:
            # Replaced, never written into: who has the old one keeps it until the next start.
            files.write_durably(made, value)
            made.chmod(0o444)
        return made

    def notice(self, id: str) -> Path:
        """The file that appears once a replica is leaving and still has work in flight."""
        return self.paths.run / "n" / id

    def contained(self, id: ReplicaId, generation: Generation) -> bool:
        """Whether a replica is in a container of its own."""
        return self.stack(generation.release).services[id.service].packed

    def probe_command(
        self, id: ReplicaId, generation: Generation, command: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Mapping[str, str], str]:
        """(argv, env, cwd) of a command probe."""
        stack = self.stack(generation.release)
        service = stack.services[id.service]
        own = {"replica": str(id), "release": f"r{id.release}"}
        env = self._environment(stack, service, id.release, own)
        env.setdefault("HOME", "/")
        env.setdefault("LANG", os.environ.get("LANG", "C.UTF-8"))
        return (
            _argv(command, self._resolver(stack, service, own)),
            env,
            self._cwd(id.release, service.cwd),
        )

    def job(self, name: str, release: int, label: str, argv: tuple[str, ...] = ()) -> Process:
        """The process of a job; ``label`` makes its id unique. ``argv`` replaces its command.

        ``name`` may be a service: a one-off with the service's code and environment.
        """
        stack = self.stack(release)
        table: Job | Service = stack.jobs[name] if name in stack.jobs else stack.services[name]
        own = {"replica": f"{name}@r{release}", "release": f"r{release}"}
        command = argv or _argv(table.run, self._resolver(stack, table, own))
        process = Process(
            id=f"{name}@r{release}.{label}",
            argv=command,
            env=self._environment(stack, table, release, own),
            cwd=self._cwd(release, table.cwd),
            identity=name,
            labels={"kind": "job", "job": name, "rollout": label, "release": str(release)},
            record_exit=True,
            timeout=table.timeout if isinstance(table, Job) else None,
        )
        return self._in_image(stack, table, release, own, process)

    def due_job(self, name: str, release: int, due: float) -> Process:
        """The process of a scheduled run: all runs of a job write to one log."""
        process = self.job(name, release, f"{due:.0f}")
        labels = {**process.labels, "rollout": "0", "due": f"{due:.0f}"}
        return replace(process, labels=labels, log=name)

    def _environment(
        self, stack: Stack, table: Service | Job, release: int, own: Mapping[str, str]
    ) -> dict[str, str]:
        asked = stack.secrets if table.secrets is None else table.secrets
        env = {} if table.packed else dict(self.releases.get(release).environment())
        env |= {
            "RELEASE": own["release"],
            "REPLICA": own["replica"],
            "SERVER_ID": own["replica"],
            "PYTHONUNBUFFERED": "1",
        }
        if "host" in own:
            env |= {"HOST": own["host"], "PORT": own["port"]}
        env |= {name: self._value(references.Reference("secret", name)) for name in asked}
        for name, text in {**stack.env, **table.env}.items():
            env[name] = references.substitute(text, self._resolver(stack, table, own))
        return env

    def _cwd(self, release: int, cwd: str | None) -> str:
        tree = self.releases.get(release).tree
        return str(tree / cwd if cwd else tree)

    def local_url(self, stack: Stack) -> str:
        """The stack's public address as this machine reaches it, whatever names resolve to: of
        its edge, or of the front, which has to be asked for one of the stack's names."""
        secure = stack.tls is not None
        bind = stack.edge.tls_listen if secure else stack.edge.listen
        host, _, port = bind.rpartition(":")
        host = "127.0.0.1" if host in ("*", "0.0.0.0") else host  # noqa: S104  # compared only
        return f"http{'s' if secure else ''}://{host}:{port}"


def _argv(
    words: tuple[str, ...], resolve: Callable[[references.Reference], str]
) -> tuple[str, ...]:
    return tuple(references.substitute(word, resolve) for word in words)


def _listening(address: Address | None) -> dict[str, str]:
    if address is None:
        return {}
    if address.socket is not None:
        return {"socket": address.socket}
    return {"host": str(address.host), "port": str(address.port)}
