"""The user's folder as it is now: the stack file, what a release of it would be, and making one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gapless import errors, stackfile
from gapless.engine import asked
from gapless.engine.controller import Controller
from gapless.engine.releases.release import Release
from gapless.engine.releases.store import DRILL
from gapless.engine.secrets import ENV_PREFIX
from gapless.model import private
from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.stackfile import checks, override, packed, references


class Folder:
    """``file`` is the stack file last deployed from; a request may name another of the stack."""

    def __init__(self, controller: Controller, file: Path, overlay: str | None) -> None:
        self.c = controller
        self.site = controller.site
        self.file = file
        self.overlay = overlay

    def load(self, body: asked.Body, *, keep: bool = True) -> stackfile.Loaded:
        """The file as it is now. ``keep`` False: only looked at, nothing of it is remembered."""
        file = Path(body.get("file") or self.file)
        loaded = stackfile.load(file, self.overlay)
        if extra := dict(body.get("env") or {}):
            text = override.with_env(loaded.text, extra, file=loaded.file)
            loaded = stackfile.parse(text, file=loaded.file, overlay=self.overlay)
        if loaded.stack.id != self.site.paths.stack:
            raise errors.Refused(
                f"{file}: says stack {loaded.stack.id}, but {self.site.paths.stack} runs here",
                hint="a stack keeps its name; run gapless down before you rename it",
            )
        if self.site.releases.images is not None:
            if faults := packed.problems(loaded.stack):
                text = "; ".join(f"[{'.'.join(map(str, path))}] {fault}" for path, fault in faults)
                raise errors.UsageError(text)
        elif packed_here := checks.packed(loaded.stack):
            named = ", ".join(".".join(map(str, path[1:-1])) or "edge" for path in packed_here)
            raise errors.UsageError(f"{named}: {checks.CONTAINERS}", hint=checks.WITHOUT)
        if keep:
            self.file = file
            self.site.certificates.folder = file.absolute().parent
            self.capture(loaded.stack, body)
        known = set(self.site.secrets.names())
        if not keep:
            known |= set(body.get("environment") or {})
        missing = checks.missing_secrets(loaded.stack, known)
        if missing:
            raise errors.UsageError(
                f"secrets without a value: {', '.join(sorted(missing))}",
                hint=f"gapless secret set {sorted(missing)[0]}",
            )
        self._guessable(loaded.stack, body)
        return loaded

    def _guessable(self, stack: Stack, body: asked.Body) -> None:
        """Raises UsageError for a password that is too short to stand before a page."""
        given = dict(body.get("environment") or {})
        for name in stack.passwords:
            value = self.site.secrets.get(name) or given.get(name) or ""
            if len(value) < private.SHORTEST:
                raise errors.UsageError(
                    f"secret {name}: a password that pages are behind has at least "
                    f"{private.SHORTEST} characters, this one has {len(value)}",
                    hint=f"gapless secret rotate {name} makes a long one",
                )

    def capture(self, stack: Stack, body: asked.Body) -> None:
        """Keep the values of declared secrets and of ``${env.X}`` that the caller has."""
        environment = dict(body.get("environment") or {})
        wanted = {name: environment[name] for name in stack.asked if name in environment}
        owners: list[Service | Job] = [*stack.services.values(), *stack.jobs.values()]
        texts = [text for owner in owners for text in references.texts(stack, owner)]
        texts += [table.url for table in stack.data.values() if table.url is not None]
        for reference in references.of(texts):
            if reference.kind == "env" and reference.name in environment:
                wanted[f"{ENV_PREFIX}{reference.name}"] = environment[reference.name]
        self.site.secrets.capture(wanted)

    async def unchanged(self, loaded: stackfile.Loaded) -> bool:
        """Whether a deploy would change nothing: neither the folder nor a secret has changed."""
        desired = self.c.desired
        if desired.stack is None or desired.inputs != self.inputs():
            return False
        digest = await self.site.releases.digest(loaded.stack, self.file.parent)
        current = self.site.releases.get(desired.stack)
        return bool(digest == current.digest) and all(
            gen.release == desired.stack for gen in desired.vector.values()
        )

    def inputs(self) -> str:
        """Digest of every value that a deploy hands to programs."""
        every = self.site.secrets.all().items()
        held = sorted((name, value) for name, value in every if not name.startswith("edge."))
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()

    async def build(self, loaded: stackfile.Loaded, body: asked.Body) -> Release:
        """Make the next release; its progress goes to whoever listens."""

        def line(text: str) -> None:
            self.c.events.publish({"event": "build", "line": text})

        release = await self.site.releases.build(
            loaded.stack,
            loaded.text,
            self.overlay,
            self.file.parent,
            progress=line,
            note=DRILL if body.get("drill") else "",
        )
        self.site.journal.add(f"build r{release.number}", actor=asked.actor(body))
        return release

    async def built(self, loaded: stackfile.Loaded) -> Release | None:
        """The newest release, where ``build`` has made it of just this folder and it never ran."""
        newest = max(self.site.releases.list(), key=lambda r: r.number, default=None)
        running = {gen.release for gen in self.c.desired.vector.values()}
        if newest is None or newest.number in running or newest.note == DRILL:
            return None
        digest = await self.site.releases.digest(loaded.stack, self.file.parent)
        return newest if newest.digest == digest else None
