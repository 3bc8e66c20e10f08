"""Where a stack's things lie. State survives a reboot; the run directory need not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gapless.errors import EnvironmentFault

SOCKET_LIMIT = 107
"""Longest path of a Unix socket (108 bytes with the final NUL)."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Directories and files of one stack; ``state`` and ``run`` are owner-only at the top."""

    stack: str
    state: Path
    run: Path

    @classmethod
    def of(cls, stack: str) -> Paths:
        """Places for a stack id, from ``GAPLESS_STATE``, XDG variables and who we are.

        With ``GAPLESS_STATE`` set the run directory follows it, so that two states never meet.
        """
        root = os.geteuid() == 0
        if override := os.environ.get("GAPLESS_STATE"):
            home = Path(override).absolute()
            state, run = home / stack, home / "run" / stack
            if len(str(run)) > 60:
                tag = f"{hash_text(str(home))}"
                run = Path(_temporary()) / f"gapless-{os.geteuid()}-{tag}" / stack
        elif root:
            state, run = Path("/var/lib/gapless") / stack, Path("/run/gapless") / stack
        else:
            base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
            short = os.environ.get("XDG_RUNTIME_DIR")
            if not short or not os.access(short, os.W_OK):
                short = f"{_temporary()}/gapless-{os.geteuid()}"
            state, run = Path(base) / "gapless" / stack, Path(short) / "gapless" / stack
        return cls(stack, state, run)

    @property
    def api(self) -> Path:
        return self.run / "api.sock"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def record(self) -> Path:
        return self.state / "desired.json"

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"

    @property
    def releases(self) -> Path:
        return self.state / "releases"

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def engines(self) -> Path:
        return self.state / "engines"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def make(self) -> None:
        """Create what is missing. Raises EnvironmentFault, naming the directory and the cause."""
        for folder, mode in ((self.state, 0o711), (self.run, 0o711)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if folder.stat().st_uid != os.geteuid():
                    raise EnvironmentFault(
                        f"{folder}: belongs to another user (uid {folder.stat().st_uid})",
                        hint="run as that user, or set GAPLESS_STATE to a directory of your own",
                    )
                folder.chmod(mode)
            except OSError as error:
                raise EnvironmentFault(
                    f"{folder}: cannot be used: {error.strerror}",
                    hint="set GAPLESS_STATE to a directory that you may write to",
                ) from None
        if len(str(self.run)) > 70:
            raise EnvironmentFault(
                f"{self.run}: too long for Unix sockets ({len(str(self.run))} of 70 characters)",
                hint="set GAPLESS_STATE or XDG_RUNTIME_DIR to a shorter path",
            )


def _temporary() -> str:
    # Imported here: most stacks need neither, and a quick command's start is counted in ms.
    import tempfile

    return tempfile.gettempdir()


def hash_text(text: str) -> str:
    """Eight hexadecimal characters that stand for a text."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:8]
