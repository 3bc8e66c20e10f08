"""The releases of one stack.

``releases/rN/`` holds ``tree`` (read-only), ``stack.toml`` and, written last and atomically,
``release.json``: without it there is no release, only what an interrupted build left, which the
next build clears away. So a tree is made where it stays, and what setup writes into scripts and
path files is right for ever. Environments are made in ``envs/rN`` and may serve later releases.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapless import stackfile
from gapless.engine import durable
from gapless.engine.paths import Paths
from gapless.engine.releases import environments, owned, recipe, select, snapshot, stamps
from gapless.engine.releases.images import Source, Taken
from gapless.engine.releases.prepare import Environments
from gapless.engine.releases.release import Release, publish, read, user
from gapless.engine.releases.setup import Progress
from gapless.engine.releases.work import in_thread
from gapless.errors import Damaged, EnvironmentFault, GaplessError, UsageError
from gapless.model.tls import GivenCertificate

if TYPE_CHECKING:
    from gapless.engine.releases.images import Images
    from gapless.model.stack import Stack


DRILL = "drill"
"""The note of a release that a drill has made."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a build would make now. ``size`` in bytes; ``reuses``: the release whose environment
    serves; ``commands``: those of setup that would run.
    """

    digest: str
    files: int
    size: int
    reuses: int | None
    commands: tuple[tuple[str, ...], ...]


class Releases:
    """Builds, lists and prunes. One instance at a time; builds one after the other.

    ``identity_uid`` and ``shared_group`` are the runtime's: as root, setup runs unprivileged and
    the release belongs to the group that all programs of the stack have.
    """

    def __init__(
        self,
        paths: Paths,
        identity_uid: Callable[[str], int | None] = lambda _: None,
        shared_group: Callable[[], int | None] = lambda: None,
        images: Images | None = None,
    ) -> None:
        """``images``: where the runtime has containers."""
        self.paths = paths
        self.images = images
        self.environments = Environments(paths.state, identity_uid, shared_group)
        self._shared_group = shared_group
        self._last = paths.state / "releases.last"
        self._known: dict[int, Release] | None = None
        self._damaged: dict[int, Damaged] = {}
        """Releases whose manifest cannot be read: they may run, so nothing of them is removed."""

    # -- reading ------------------------------------------------------------------------------

    def list(self) -> Sequence[Release]:
        """All that can be read, oldest first. Read once, then remembered."""
        if self._known is None:
            self._known = dict(self._read())
        return [self._known[number] for number in sorted(self._known)]

    def _read(self) -> Iterator[tuple[int, Release]]:
        for path in self.paths.releases.glob("r*/release.json"):
            try:
                release = read(path)
            except Damaged as fault:
                if (number := path.parent.name[1:]).isdigit():
                    self._damaged[int(number)] = fault
            else:
                if release is not None:
                    yield release.number, release

    @property
    def kept(self) -> Set[int]:
        """Numbers of all that are here, also of those that cannot be read."""
        return {release.number for release in self.list()} | set(self._damaged)

    def get(self, number: int) -> Release:
        """Raises UsageError, naming those that are kept; Damaged when it is there, unreadable."""
        for release in self.list():
            if release.number == number:
                return release
        if number in self._damaged:
            raise self._damaged[number]
        kept = ", ".join(f"r{release.number}" for release in self.list()) or "none"
        raise UsageError(f"r{number} is not kept (have: {kept})", hint="gapless releases")

    def next_number(self) -> int:
        """The number of the next release: never one that a release had, removed ones included."""
        taken = [release.number for release in self.list()]
        with contextlib.suppress(OSError, ValueError):
            taken.append(int(self._last.read_text()))
        return 1 + max([*taken, *self._damaged], default=0)

    def load_stack(self, number: int) -> Stack:
        """The stack that it was made from. Raises UsageError, InvalidStack."""
        release = self.get(number)
        name = f"r{number}/stack.toml"
        return stackfile.parse(release.text, file=name, overlay=release.overlay).stack

    async def digest(self, stack: Stack, folder: Path) -> str:
        """What ``Release.digest`` of a build would be now. Reads every file; copies none.

        ``folder`` is that of the stack file. Raises Refused, UsageError.
        """
        return (await self.plan(stack, folder)).digest

    async def plan(self, stack: Stack, folder: Path) -> Preview:
        """What a build would make. Raises Refused, UsageError."""
        images = {} if self.images is None else await self.images.known(stack)
        return await in_thread(lambda: self._plan(stack, folder, images))

    def _plan(self, stack: Stack, folder: Path, images: Mapping[str, str]) -> Preview:
        root, entries = self._select(stack, folder)
        digests = snapshot.digest(root, entries)
        here = _here(stack, root, digests)
        reuses = self.environments.reusable(here, digests, root)
        return Preview(
            digest=_digest(stack, digests, images),
            files=len(digests),
            size=sum(entry.size for entry in entries),
            reuses=reuses,
            commands=() if reuses is not None else here.setup,
        )

    # -- building -----------------------------------------------------------------------------

    async def build(
        self,
        stack: Stack,
        text: str,
        overlay: str | None,
        folder: Path,
        *,
        progress: Progress = lambda _: None,
        note: str = "",
    ) -> Release:
        """Make the next release of what lies in ``folder`` (that of the stack file) now.

        ``progress`` gets lines of text as they come. Raises Refused (setup failed, a file that
        cannot be released), EnvironmentFault (disk full), UsageError; nothing is left then.
        """
        await in_thread(self._sweep)
        number = self.next_number()
        home = self.paths.releases / f"r{number}"
        try:
            await in_thread(lambda: _make(home))
            release = await self._build(stack, text, overlay, folder, home, progress, note)
            await in_thread(lambda: publish(release, home))
            await in_thread(lambda: durable.write(self._last, str(number)))
        except BaseException:
            with contextlib.suppress(GaplessError):
                await in_thread(self._sweep)
            raise
        assert self._known is not None  # noqa: S101  # list() has read them
        self._known[number] = release
        return release

    async def _build(
        self,
        stack: Stack,
        text: str,
        overlay: str | None,
        folder: Path,
        home: Path,
        progress: Progress,
        note: str,
    ) -> Release:
        tree = home / "tree"
        root, entries = await in_thread(lambda: self._select(stack, folder))
        digests = await in_thread(lambda: snapshot.copy(root, entries, tree))
        progress(
            f"{home.name}: {len(digests)} files, {_size(sum(entry.size for entry in entries))}"
        )
        taken = Taken({}, {})
        if self.images is not None:
            await self.images.release(self.kept)
            source = Source(int(home.name[1:]), tree, digests.keys())
            taken = await self.images.take(stack, source, progress)
        venv, env = await self.environments.prepare(
            _here(stack, tree, digests), digests, tree, progress
        )
        before = max(self.list(), key=lambda release: release.number, default=None)
        await in_thread(lambda: stamps.settle(stack.edge.static, tree, before))
        await in_thread(lambda: owned.seal(tree, self._shared_group()))
        await in_thread(lambda: owned.lend(tree, stack.mounted))
        return Release(
            number=int(home.name[1:]),
            created_at=time.time(),
            by=user(),
            digest=_digest(stack, digests, taken.given),
            source=snapshot.total(digests),
            env=env,
            tree=tree,
            venv=venv,
            text=text,
            overlay=overlay,
            services=tuple(stack.services),
            note=note,
            images=taken.images,
        )

    def _select(self, stack: Stack, folder: Path) -> tuple[Path, Sequence[select.Entry]]:
        root = folder / stack.source
        closed = (self.paths.state, self.paths.state.parent, self.paths.run, self.paths.run.parent)
        # The state may lie in the folder, never the other way round: then all of it is closed.
        inside = [path for path in closed if path.resolve().is_relative_to(root.resolve())]
        inside = [path for path in inside if path.resolve() != root.resolve()]
        private = _within(root, folder, stack.tls)
        return root.resolve(), select.entries(root, stack.include, inside, private)

    # -- removing -----------------------------------------------------------------------------

    def surplus(self, keep: int, protected: set[int]) -> Sequence[int]:
        """All but the newest ``keep`` and the protected.

        Those that drills made count for nothing and go as soon as they are not protected.
        """
        made = [release.number for release in self.list() if release.note != DRILL]
        wanted = made[max(0, len(made) - keep) :]
        numbers = [release.number for release in self.list()]
        return [number for number in numbers if number not in {*protected, *wanted}]

    def prune(self, keep: int, protected: set[int]) -> Sequence[int]:
        """Remove what is ``surplus``; blocking. The numbers removed.

        Environments go with the last release that they serve. Raises EnvironmentFault.
        """
        gone = self.surplus(keep, protected)
        assert self._known is not None  # noqa: S101  # list() has read them
        for number in gone:
            # Without this file it is no release, whatever happens to the rest.
            (self.paths.releases / f"r{number}" / "release.json").unlink(missing_ok=True)
            del self._known[number]
        self._sweep()
        return gone

    def _sweep(self) -> None:
        """Clear away what is no release, and environments that serve none. Raises GaplessError."""
        kept = self.list()
        serving = {release.venv.parent.name for release in kept if release.venv is not None}
        places = [
            *self._others(self.paths.releases, {f"r{number}" for number in self.kept}),
            # Which environment a damaged one needs cannot be told.
            *([] if self._damaged else self._others(self.environments.folder, serving)),
        ]
        for place in places:
            try:
                owned.remove(place)
            except OSError as error:
                raise EnvironmentFault(f"{place}: cannot be removed: {error.strerror}") from None

    def _others(self, folder: Path, kept: Set[str]) -> Sequence[Path]:
        try:
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder.chmod(0o711)
            return [path for path in folder.glob("r*") if path.name not in kept]
        except OSError as error:
            raise EnvironmentFault(f"{folder}: cannot be used: {error.strerror}") from None


def _here(stack: Stack, tree: Path, files: Iterable[str]) -> Stack:
    """The same without setup, where nothing on the machine asks for what that makes.

    Programs do, and folders that are served: setup may put something into them, unless all that
    it does is to install what files of requirements name.
    """
    tables = (*stack.services.values(), *stack.jobs.values())
    if not all(table.packed for table in tables):
        return stack
    texts = environments.texts(tree, files, stack.setup)
    if stack.edge.static and not recipe.apart(stack.setup, texts):
        return stack
    return stack.model_copy(update={"setup": ()})


def _digest(stack: Stack, digests: snapshot.Digests, images: Mapping[str, str]) -> str:
    contents = [f"{name} {content}" for name, content in sorted(images.items())]
    return snapshot.total(digests, stack.model_dump_json(), stack.overlay or "", *contents)


def _within(root: Path, folder: Path, tls: object) -> list[str]:
    """Certificate and key, as paths within the released folder: no release holds them."""
    if not isinstance(tls, GivenCertificate):
        return []
    paths = [Path(os.path.normpath(folder / name)) for name in (tls.cert, tls.key)]
    home = Path(os.path.normpath(root))
    return [p.relative_to(home).as_posix() for p in paths if p.is_relative_to(home)]


def _make(home: Path) -> None:
    try:
        home.mkdir()
        # Everybody may pass through, nobody may look around.
        home.chmod(0o711)
    except OSError as error:
        raise EnvironmentFault(f"{home}: cannot be made: {error.strerror}") from None


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
