"""Puts together what one decision may know: stacks, needs, and the edge configurations wanted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gapless import errors
from gapless.core import capacity
from gapless.core.world import Claims, EdgeConfigs, World
from gapless.edge import config as edge_config
from gapless.edge import shared, static, staticconf, succession
from gapless.engine import claims, clock, machine
from gapless.engine.site import Site
from gapless.model import front
from gapless.model.desired import Desired
from gapless.model.front import Claim
from gapless.model.process import Bridge
from gapless.model.stack import Stack
from gapless.model.static import Static
from gapless.observed import Observed
from gapless.runtimes.base import Bridges
from gapless.stackfile import references

EDGE = "edge"
"""Whom the edge's workers become, where there is a choice."""


def max_connections(stack: Stack) -> int:
    """Connections the edge may hold: two descriptors each, within the hard limit."""
    return capacity.at_edge(limits(stack))


def limits(stack: Stack) -> capacity.Limits:
    """What the machine allows an edge of that stack."""
    aside = static.DESCRIPTORS if stack.edge.static else 0
    return replace(machine.limits(stack.edge.max_connections), aside=aside)


def edge_of(site: Site, number: int, stack: Stack) -> edge_config.Config:
    """The edge configuration that one release's stack asks for by itself."""
    page = None
    if stack.edge.maintenance_page:
        page = _page(site.releases.get(number).tree / stack.edge.maintenance_page)
    packed = stack.edge.image is not None
    config = edge_config.of_stack(
        stack,
        site.private_binds(stack),
        run_dir=str(site.paths.run / edge_config.FOLDER if packed else site.paths.run),
        maxconn=max_connections(stack),
        threads=min(os.cpu_count() or 1, 4),
        maintenance_page=page,
        uid=site.uid(EDGE),
        static_socket=site.static.socket,
    )
    config = replace(config, bridge=site.bridge, image=site.edge_image(number, stack))
    if stack.tls is not None:
        folder = str(site.certificates.home)
        config = edge_config.secured(config, stack, folder, site.tls_bind(stack))
    claim = claim_of(site, stack)
    if claim is None:
        return config
    behind = shared.of_claim(claim, site.front.uid())
    return replace(config, listen=site.public_bind(stack), shared=behind)


def claim_of(site: Site, stack: Stack) -> Claim | None:
    """What a stack asks of the front; None: it has its address for itself."""
    if not stack.edge.shared or not any(service.http for service in stack.services.values()):
        return None
    secure = stack.tls is not None
    return Claim(
        stack=site.paths.stack,
        hosts=stack.hosts,
        state=str(site.paths.state),
        http=(stack.edge.listen,),
        socket=str(site.paths.run / shared.SOCKET),
        tls=(stack.edge.tls_listen,) if secure else (),
        tls_socket=str(site.paths.run / shared.TLS_SOCKET) if secure else "",
    )


def both_ways(
    config: edge_config.Config, wish: Claim | None, seen: Observed, uid: int | None
) -> edge_config.Config:
    """The same edge with its own addresses where it has them and is to be behind the front, and
    behind the front where that has it and it is to have them itself."""
    if wish is not None:
        binds = [edge_config.Bind(a, tls=a in wish.tls) for a in wish.addresses]
        kept = (bind for bind in binds if bind.address in seen.edge.public)
        return replace(config, binds=(*config.binds, *kept))
    if seen.front.claim is not None:
        return replace(config, shared=shared.of_claim(seen.front.claim, uid, parting=True))
    return config


def public_url(site: Site, stack: Stack) -> str:
    """Where the public finds a stack: behind the front that takes a name."""
    claim = claim_of(site, stack)
    return stack.url if claim is None or stack.host else front.urls(claim)[0]


def _page(path: Path) -> str:
    """The page itself: an edge with the same page needs no reload for another release."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.EnvironmentFault(
            f"[edge] maintenance_page: {path} cannot be read: {error}",
            hint="name a text file that the release contains",
        ) from None


class Situation:
    """Builds worlds and keeps the edge configurations by digest."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._by_release: dict[tuple[int, Bridge | None], edge_config.Config] = {}
        self._needs: dict[int, Mapping[str, tuple[str, ...]]] = {}
        self._passwords: Mapping[str, str] = {}

    def world(
        self, desired: Desired, observed: Observed, extra: Mapping[int, Stack] | None = None
    ) -> World:
        """The world of this moment. ``extra``: stacks that are no releases yet (for plans)."""
        numbers = {gen.release for gen in desired.vector.values()}
        # One of a release that is not kept any more goes away by the default times.
        numbers |= {r.generation.release for r in observed.replicas if self.site.table(r.id)}
        if desired.stack is not None:
            numbers.add(desired.stack)
        if desired.rollout is not None:
            numbers |= {gen.release for gen in desired.rollout.target.values()}
            numbers.add(desired.rollout.stack)
        stacks = dict(extra or {})
        for number in numbers - stacks.keys():
            # What serves is not given up for a file that cannot be read; what is to stop, is.
            found = self.site.stack(number) if desired.running else self.site.readable(number)
            if found is not None:
                stacks[number] = found
        configs, wanted = self.configs(desired, observed, stacks), self._claims(desired, stacks)
        uid = self.site.front.uid()
        by_situation = {key: getattr(wanted, key) for key in configs}
        handing = {
            key: both_ways(c, by_situation[key], observed, uid) for key, c in configs.items()
        }
        return World(
            desired=desired,
            stacks=stacks,
            observed=observed,
            now=clock.now(),
            wall=clock.wall(),
            bridges=isinstance(self.site.runtime, Bridges),
            needs=self._stores_needed(desired, stacks),
            edge_configs=EdgeConfigs(**{k: edge_config.digest(c) for k, c in configs.items()}),
            handing_configs=EdgeConfigs(**{k: edge_config.digest(c) for k, c in handing.items()}),
            edge_forms={
                edge_config.digest(c): succession.form(c)
                for c in (*configs.values(), *handing.values())
            },
            claims=wanted,
            static_configs=EdgeConfigs(
                **{key: staticconf.digest(f) for key, f in self.files(desired, stacks).items()}
            ),
        )

    def wanted_edge(self, world: World) -> edge_config.Config:
        """The one that ``world.edge_config`` is the digest of."""
        configs = self.configs(world.desired, world.observed, world.stacks)
        config = configs[world.edge_situation]
        if not world.hands_over:
            return config
        return both_ways(config, world.claim, world.observed, self.site.front.uid())

    def _claims(self, desired: Desired, stacks: Mapping[int, Stack]) -> Claims:
        """``rolling`` and ``switched`` as ``core.world.Claims`` explains."""
        rollout = desired.rollout
        found: dict[int | None, Claim | None] = {
            number: claim_of(self.site, stack) for number, stack in stacks.items()
        }
        target = found.get(rollout.stack) if rollout else None
        base = target if rollout and desired.stack is None else found.get(desired.stack)
        both = claims.united(base, target)
        if rollout is None:
            return Claims(base, base, base, base)
        return Claims(base, both or base, both or target, target)

    def configs(
        self, desired: Desired, observed: Observed, stacks: Mapping[int, Stack]
    ) -> dict[str, edge_config.Config]:
        """``base``, ``rolling`` and ``switched`` as ``core.world.EdgeConfigs`` explains."""
        found = self._configs(desired, observed, stacks)
        program, stapled = self.site.edge.program, self.site.certificates.stapled
        proven = "tls" in desired.proven
        return {
            key: replace(
                self._knowing(edge_config.promising(one, proven, stapled)),
                program="" if one.image else program(one.binary),
                epoch=desired.edge_epoch,
            )
            for key, one in found.items()
        }

    def _knowing(self, config: edge_config.Config) -> edge_config.Config:
        """With today's passwords: another one is another configuration, and so a reload."""
        if not config.counted.logins:
            return config
        # Who cannot read them any more keeps to those that it knew, and lets nobody else in.
        with contextlib.suppress(errors.GaplessError):
            self._passwords = self.site.secrets.all()
        return edge_config.knowing(config, self._passwords)

    def _configs(
        self, desired: Desired, observed: Observed, stacks: Mapping[int, Stack]
    ) -> dict[str, edge_config.Config]:
        rollout = desired.rollout
        target = self._config(rollout.stack, stacks) if rollout else None
        base = target
        if desired.stack is not None and desired.stack in stacks:
            base = self._config(desired.stack, stacks)
        if base is None:
            latest = max(stacks, default=None)
            if latest is None:
                empty = edge_config.Config("", "", (), (), "", 0, 0)
                return {"base": empty, "rolling": empty, "switched": empty}
            base = self._config(latest, stacks)
        base = _with_backends(base, self._still_used(base, observed, stacks))
        if target is None:
            return {"base": base, "rolling": base, "switched": base}
        return {
            "base": base,
            "rolling": _with_static(_with_backends(base, target.backends), target),
            "switched": _with_backends(target, base.backends),
        }

    def files(self, desired: Desired, stacks: Mapping[int, Stack]) -> dict[str, staticconf.Files]:
        """What is to be served as files, in each situation that ``configs`` knows."""
        rollout = desired.rollout
        before = desired.stack if rollout is None else desired.stack or rollout.stack
        if before is None or before not in stacks:
            return dict.fromkeys(("base", "rolling", "switched"), staticconf.Files())
        tables = stacks[before].edge.static
        base = self._files(before, tables, desired, stacks)
        if rollout is None or rollout.stack not in stacks:
            return {"base": base, "rolling": base, "switched": base}
        target = stacks[rollout.stack].edge.static
        return {
            "base": base,
            # New pages ask for what only the new release publishes, while old ones still serve.
            "rolling": self._files(before, {**target, **tables}, desired, stacks),
            "switched": self._files(rollout.stack, target, desired, stacks),
        }

    def _files(
        self,
        first: int,
        tables: Mapping[str, Static],
        desired: Desired,
        stacks: Mapping[int, Stack],
    ) -> staticconf.Files:
        """Each folder of the release in force, then the same of the others that were shown."""
        if not tables:
            return staticconf.Files()
        kept = {release.number for release in self.site.releases.list()} | stacks.keys()
        under_way = () if desired.rollout is None else (desired.rollout.stack,)
        others = {*desired.shown, *under_way, *((desired.stack,) if desired.stack else ())}
        order = [first, *sorted((others & kept) - {first}, reverse=True)]
        known = {n: stacks.get(n) or self.site.readable(n) for n in order}
        mounts = []
        for path, table in sorted(tables.items()):
            cache = float(staticconf.YEAR) if table.cache == "immutable" else table.cache
            root, folders = str(self.site.paths.releases), list[str]()
            if table.store is not None:
                root, folders = self._stored(table.store, known)
            for number, stack in known.items() if table.store is None else ():
                own = stack.edge.static.get(path, table) if stack is not None else table
                if own.store is None:
                    folders.append(_tree(number, own.dir))
            mounts.append(
                staticconf.Mount(
                    path,
                    root,
                    tuple(folders),
                    table.index,
                    table.fallback,
                    cache,
                    lasting=table.store is None,
                )
            )
        return staticconf.Files(tuple(mounts), min(os.cpu_count() or 1, 4))

    def _stored(
        self, place: tuple[str, str], known: Mapping[int, Stack | None]
    ) -> tuple[str, list[str]]:
        """Root and folder of a files store."""
        name, folder = place
        tables = [stack.data[name] for stack in known.values() if stack and name in stack.data]
        store = self.site.stores.get(name) or self.site.store(name, tables[0])
        return store.attributes()["path"], [folder]

    def _config(self, number: int, stacks: Mapping[int, Stack]) -> edge_config.Config:
        key = number, self.site.bridge
        if key not in self._by_release:
            if number not in self.site.stacks:  # no release yet: never kept
                return edge_of(self.site, number, stacks[number])
            self._by_release[key] = edge_of(self.site, number, stacks[number])
        return self._by_release[key]

    def _still_used(
        self, base: edge_config.Config, observed: Observed, stacks: Mapping[int, Stack]
    ) -> tuple[edge_config.Backend, ...]:
        """Backends of removed services whose replicas are still on their way out."""
        known = {backend.name for backend in base.backends}
        used: dict[str, edge_config.Backend] = {}
        for found in observed.replicas:
            name = found.id.service
            kept = found.generation.release in stacks
            if name not in known and found.server is not None and kept:
                config = self._config(found.generation.release, stacks)
                used |= {b.name: b for b in config.backends if b.name == name}
        return tuple(used.values())

    def _stores_needed(
        self, desired: Desired, stacks: Mapping[int, Stack]
    ) -> dict[str, tuple[str, ...]]:
        needs: dict[str, tuple[str, ...]] = {}
        numbers = (desired.stack, desired.rollout.stack if desired.rollout else None)
        for number in numbers:
            if number is None or number not in stacks:
                continue
            stack = stacks[number]
            if number not in self._needs:
                self._needs[number] = references.dependencies(stack)
            for name, wanted in self._needs[number].items():
                needs[name] = tuple(store for store in wanted if store in stack.data)
        return needs


def _tree(number: int, folder: str) -> str:
    return f"r{number}/tree" if folder == "." else f"r{number}/tree/{folder}"


def _with_static(config: edge_config.Config, target: edge_config.Config) -> edge_config.Config:
    """With the target's paths of files as well, and with room for what they need."""
    paths = tuple(sorted({*config.static.paths, *target.static.paths}))
    socket = config.static.socket or target.static.socket
    both = replace(config.static, paths=paths, socket=socket)
    fewer = min(config.maxconn, target.maxconn) if paths and not config.static.paths else None
    return replace(config, static=both, maxconn=config.maxconn if fewer is None else fewer)


def _with_backends(
    config: edge_config.Config, more: tuple[edge_config.Backend, ...]
) -> edge_config.Config:
    known = {backend.name for backend in config.backends}
    extra = tuple(backend for backend in more if backend.name not in known)
    return replace(config, backends=(*config.backends, *extra)) if extra else config
