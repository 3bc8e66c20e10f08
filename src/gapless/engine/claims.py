"""What each stack has claimed of the front: one small owner-only file a stack, beside its program.

Only who holds the lock writes there; reading needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gapless import errors
from gapless.edge import front
from gapless.engine import durable
from gapless.engine.paths import Paths
from gapless.model.front import Claim

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PATIENCE = 20.0
"""Seconds that somebody else's act on the front may take."""
_POLL = 0.02


def beside(paths: Paths) -> Paths:
    """The front's own places: beside those of the stack, for all stacks of one owner and root."""
    return Paths(front.STACK, paths.state.parent / front.STACK, paths.run.parent / front.STACK)


class Claims:
    """The claims of all stacks that lie under one roof."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "claims"

    def own(self, stack: str) -> Claim | None:
        """What one stack has; None: nothing, or nothing that can be read."""
        return _read(self._file(stack))

    def all(self) -> tuple[Claim, ...]:
        """Everybody's, by name; of stacks whose state is gone: none."""
        try:
            files = sorted(self.folder.glob("[a-z]*.json"))
        except OSError:
            return ()
        found = [claim for file in files if (claim := _read(file)) is not None]
        return tuple(claim for claim in found if Path(claim.state).is_dir())

    def refuse(self, claim: Claim) -> None:
        """Raises Refused with the holder's name when another stack has what is asked for."""
        if taken := front.conflict(claim, self.all()):
            raise errors.Refused(
                f"front: {taken}, and a name is of one stack alone",
                hint="choose another name, or gapless down in the folder of that stack",
            )

    def take(self, claim: Claim) -> None:
        """Durable on return. Raises Refused (see ``refuse``), EnvironmentFault."""
        self.refuse(claim)
        self._make()
        durable.write(self._file(claim.stack), _json().dump_json(claim, indent=1).decode())

    def give_up(self, stack: str) -> None:
        """Nothing of the stack is left; nothing there: no error."""
        self._file(stack).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else changes the front, or what is claimed of it. Raises Refused."""
        self._make()
        # Closed when a program is started, so that nobody inherits the lock.
        handle = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _locked(handle)
            yield
        finally:
            os.close(handle)

    def _file(self, stack: str) -> Path:
        return self.folder / f"{stack}.json"

    def _make(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.EnvironmentFault(
                f"{self.folder}: cannot be made: {error.strerror}",
                hint="set GAPLESS_STATE to a directory that you may write to",
            ) from None


def united(one: Claim | None, other: Claim | None) -> Claim | None:
    """Both sides of a rollout: all names, and the addresses of either. None unless both share."""
    if one is None or other is None:
        return None
    return replace(
        one,
        hosts=tuple(sorted({*one.hosts, *other.hosts})),
        http=tuple(sorted({*one.http, *other.http})),
        tls=tuple(sorted({*one.tls, *other.tls})),
        socket=one.socket or other.socket,
        tls_socket=one.tls_socket or other.tls_socket,
    )


@functools.cache
def _json() -> TypeAdapter[Claim]:
    from pydantic import TypeAdapter

    return TypeAdapter(Claim)


def _read(file: Path) -> Claim | None:
    # One that is damaged is written again by its own stack, which misses it.
    with contextlib.suppress(OSError, ValueError):
        return _json().validate_json(file.read_bytes())
    return None


async def _locked(handle: int) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not _try(handle):  # noqa: ASYNC110  # another process has it
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise errors.Locked(
            f"front: another stack has been changing it for {PATIENCE:g} s",
            hint="gapless ps in its folder shows what it does",
        ) from None


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
