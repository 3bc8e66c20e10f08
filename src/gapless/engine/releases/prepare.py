"""Making a tree runnable: an earlier environment where that is honest, else a new one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapless.engine.releases import environments, interpreter, library, owned, release, snapshot
from gapless.engine.releases.setup import Builder, Progress, Setup
from gapless.engine.releases.work import in_thread
from gapless.errors import EnvironmentFault

if TYPE_CHECKING:
    from gapless.model.stack import Stack

BUILDER = "build"
"""The identity that setup runs as, where we have a right to choose."""


@dataclass(frozen=True, slots=True)
class _Made:
    """``envs/rN/env.json``. ``shared``: it may serve other releases with the same ``inputs``."""

    inputs: str
    shared: bool
    why: str


class Environments:
    """The environments of one stack, ``envs/rN/venv``, named after the release that made each."""

    def __init__(
        self,
        state: Path,
        identity_uid: Callable[[str], int | None],
        shared_group: Callable[[], int | None],
    ) -> None:
        self.folder = state / "envs"
        self._state = state
        self._identity_uid = identity_uid
        self._shared_group = shared_group

    def reusable(self, stack: Stack, digests: snapshot.Digests, root: Path) -> int | None:
        """The release whose environment would serve these files. Raises EnvironmentFault."""
        if not stack.setup:
            return None
        return self._newest(self._inputs(stack, digests, root)[0])

    async def prepare(
        self, stack: Stack, digests: snapshot.Digests, tree: Path, progress: Progress
    ) -> tuple[Path | None, str]:
        """The environment for a tree (None: no setup), and the digest of what it is made from.

        Raises Refused (setup failed) and EnvironmentFault.
        """
        builder = await in_thread(self._builder)
        venv = self.folder / tree.parent.name / "venv"
        run = Setup(tree, venv, builder, progress)
        if (uid := builder.uid) is not None:
            await in_thread(lambda: owned.give(tree, uid))
        if not stack.setup:
            await self._compile(run, digests, shutil.which("python3"))
            return None, ""
        inputs, python = await in_thread(lambda: self._inputs(stack, digests, tree))
        if (earlier := self._newest(inputs)) is not None:
            progress(f"environment: that of r{earlier}, nothing that it is made of has changed")
            venv = self.folder / f"r{earlier}" / "venv"
            await self._compile(run, digests, str(venv / "bin" / "python"))
            return venv, inputs
        made = await self._make(stack, run, inputs, python)
        await self._compile(run, digests, str(venv / "bin" / "python"))
        await in_thread(lambda: self._seal(venv.parent, made))
        return venv, inputs if made.shared else snapshot.total(digests, inputs)

    async def _make(
        self, stack: Stack, run: Setup, inputs: str, python: interpreter.Interpreter
    ) -> _Made:
        await in_thread(lambda: self._place(run.venv.parent, run.builder))
        before = await in_thread(lambda: environments.traces(run.tree))
        await run.make(python, pip=environments.wants_pip(stack.setup))
        await run.run(stack.setup)
        if environments.may_be_python(stack.setup):
            await library.lend(run)
        made = await in_thread(lambda: self._judge(stack, inputs, run, before))
        if not made.shared:
            run.progress(f"environment: for this release alone, since {made.why}")
        return made

    async def _compile(self, run: Setup, digests: snapshot.Digests, python: str | None) -> None:
        if python is not None and any(path.endswith(".py") for path in digests):
            await run.compile(python)

    def _judge(self, stack: Stack, inputs: str, run: Setup, before: Mapping[str, str]) -> _Made:
        why = ""
        if not environments.knows(stack.setup):
            why = "setup runs more than installers, which may read any file"
        elif (path := environments.written(before, environments.traces(run.tree))) is not None:
            why = f"setup writes {path}"
        elif (source := environments.comes_from(run.tree, run.venv)) is not None:
            why = source
        return _Made(inputs, shared=not why, why=why)

    def _inputs(
        self, stack: Stack, digests: snapshot.Digests, root: Path
    ) -> tuple[str, interpreter.Interpreter]:
        pip = environments.wants_pip(stack.setup)
        python = interpreter.find(self._identity_uid(BUILDER), pip=pip)
        files = environments.inputs(root, list(digests), stack.setup)
        lent = [library.digest()] if environments.may_be_python(stack.setup) else []
        digest = snapshot.total(
            {path: digests[path] for path in files}, python.identity, json.dumps(stack.setup), *lent
        )
        return digest, python

    def _newest(self, inputs: str) -> int | None:
        """The newest release that made a shared environment from the same inputs."""
        found = []
        for path in self.folder.glob("r*/env.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                env = _Made(**json.loads(path.read_text()))
                if env.shared and env.inputs == inputs:
                    found.append(int(path.parent.name[1:]))
        return max(found, default=None)

    def _place(self, place: Path, builder: Builder) -> None:
        """An empty folder for an environment that the builder may write to."""
        try:
            place.mkdir(parents=True)
            for folder in (self.folder, place):
                folder.chmod(0o711)
            if builder.uid is not None:
                os.chown(place, builder.uid, builder.uid)
        except OSError as error:
            raise EnvironmentFault(f"{place}: cannot be made: {error.strerror}") from None

    def _seal(self, place: Path, made: _Made) -> None:
        try:
            owned.seal(place, self._shared_group())
            # Its folder stays ours to remove and others' to pass through.
            place.chmod(0o711)
            release.write(place / "env.json", asdict(made))
        except OSError as error:
            raise EnvironmentFault(f"{place}: cannot be sealed: {error.strerror}") from None

    def _builder(self) -> Builder:
        uid = self._identity_uid(BUILDER)
        temporary = self._state / "tmp" / BUILDER
        own = Path(os.environ.get("HOME") or "/")
        builder = Builder(uid, own if uid is None else self._state / "home" / BUILDER, temporary)
        builder.make()
        return builder
