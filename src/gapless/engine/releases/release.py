"""One release: what it is, and the file without which it is none."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapless.engine.releases import setup
from gapless.errors import Damaged, EnvironmentFault


@dataclass(frozen=True, slots=True)
class Release:
    """One release, complete and read-only. ``created_at`` in seconds since 1970."""

    number: int
    created_at: float
    by: str
    digest: str
    """Of the files and the stack: two releases of the same digest run the same."""
    source: str
    """Of the files alone."""
    env: str
    """Of what the environment was made from; "" where there is no setup."""
    tree: Path
    venv: Path | None
    text: str
    """The stack file as it was."""
    overlay: str | None
    services: tuple[str, ...]
    note: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    """Services and jobs that are images, each with its image's content."""

    def environment(self) -> dict[str, str]:
        """Variables of everything that runs this release; its environment first on PATH."""
        if self.venv is None:
            return {}
        # The environment is read-only, so that "uv run" must take it as it is.
        return setup.environment(self.venv) | {"UV_NO_SYNC": "1"}


def publish(release: Release, home: Path) -> None:
    """The one step that makes it a release. Raises EnvironmentFault."""
    manifest: dict[str, Any] = {
        "release": release.number,
        "created_at": release.created_at,
        "by": release.by,
        "source": release.source[:12],
        "services": list(release.services),
        "digest": release.digest,
        "files": release.source,
        "env": release.env,
        "venv": None if release.venv is None else str(release.venv),
        "overlay": release.overlay,
        "note": release.note,
        "images": dict(release.images),
    }
    try:
        stack = home / "stack.toml"
        stack.write_text(release.text)
        stack.chmod(0o600)
        write(home / "release.json", manifest)
    except OSError as error:
        raise EnvironmentFault(f"{home}: cannot be written: {error.strerror}") from None


def read(path: Path) -> Release | None:
    """From its ``release.json``; None when that is gone. Raises Damaged."""
    try:
        body = json.loads(path.read_text())
        return Release(
            number=int(body["release"]),
            created_at=float(body["created_at"]),
            by=str(body["by"]),
            digest=str(body["digest"]),
            source=str(body["files"]),
            env=str(body["env"]),
            tree=path.parent / "tree",
            venv=None if body["venv"] is None else Path(body["venv"]),
            text=(path.parent / "stack.toml").read_text(),
            overlay=body["overlay"],
            services=tuple(body["services"]),
            note=str(body["note"]),
            images=dict(body.get("images", {})),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
        raise Damaged(
            f"{path}: is damaged: {what}", hint=f"remove {path} to give that release up"
        ) from None


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Atomic and durable, owner-only. Raises OSError."""
    draft = path.with_name(f".{path.name}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, json.dumps(body, indent=1).encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)


def user() -> str:
    """Who asked for it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
