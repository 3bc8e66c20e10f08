"""Short-lived programs (initdb and the like), run without privileges.

initdb and the single-user server insist on two things: not to be root, and that their uid has a
name. The uid a store runs under usually has none. So, in this order: the uid itself where it has
a name; a user namespace in which we appear as ``nobody`` (files stay ours and are handed over
afterwards); the account ``nobody`` itself, where a container forbids namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless.errors import EnvironmentFault

_OUTPUT_LIMIT = 64 * 1024
NAMELESS = 65534
"""The uid and gid of nobody, on every Linux."""


@dataclass(frozen=True, slots=True)
class Who:
    """As whom a helper runs: an argv prefix, or a uid to become (None: as we are)."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None


def has_name(uid: int) -> bool:
    """Whether the machine knows a name for this uid."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


async def someone(uid: int | None) -> Who:
    """Somebody who is not root and has a name. ``uid``: whom the files will belong to.

    Raises EnvironmentFault when the machine offers nobody.
    """
    root = os.geteuid() == 0
    own = os.geteuid() if uid is None else uid
    if own != 0 and has_name(own):
        return Who(uid=uid if root else None)
    if (path := shutil.which("unshare")) is not None:
        mapped = Who((path, "-U", f"--map-user={NAMELESS}", f"--map-group={NAMELESS}"))
        code, _ = await run(("true",), mapped, timeout=5.0)
        if code == 0 and has_name(NAMELESS):
            return mapped
    if root and has_name(NAMELESS):
        return Who(uid=NAMELESS)
    raise EnvironmentFault(
        f"uid {own} has no name on this machine, and user namespaces are not allowed",
        hint="add an account for that uid, or install util-linux (unshare)",
    )


async def run(
    argv: Sequence[str],
    who: Who = Who(),
    *,
    stdin: bytes = b"",
    timeout: float = 120.0,  # noqa: ASYNC109 - a property of the helper, not of the caller
    cwd: Path | None = None,
) -> tuple[int, str]:
    """Run to the end; (exit code, what it wrote). Cancelled or late, its whole group is killed.

    Raises EnvironmentFault when it cannot be started or takes longer than ``timeout`` seconds.
    """
    drop = {} if who.uid is None else {"user": who.uid, "group": who.uid, "extra_groups": ()}
    program = Path(argv[0]).name
    try:
        child = await asyncio.create_subprocess_exec(
            *who.prefix,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            cwd=cwd or "/",
            start_new_session=True,
            **drop,  # type: ignore[arg-type]  # keywords of Popen that the stubs do not list
        )
    except OSError as error:
        raise EnvironmentFault(f"{argv[0]}: cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout):
            output, _ = await child.communicate(stdin)
    except TimeoutError:
        raise EnvironmentFault(f"{program}: took longer than {timeout:g} s") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return child.returncode or 0, output[-_OUTPUT_LIMIT:].decode(errors="replace")
