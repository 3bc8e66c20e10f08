"""Running the commands that make a release runnable."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless.engine.releases.interpreter import Interpreter
from gapless.engine.releases.work import in_thread
from gapless.errors import EnvironmentFault, Refused
from gapless.runtimes.machine import proc
from gapless.runtimes.process import priority, records, sessions

Progress = Callable[[str], None]

LAST = 20
"""Lines of output that an error keeps."""
_LONGEST = 1 << 16
_KEPT = frozenset(
    {
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"),
        *("requests_ca_bundle", "curl_ca_bundle", "node_extra_ca_certs", "lang", "lc_all", "tz"),
    }
)
_KEPT_PREFIXES = ("pip_", "uv_", "npm_config_")
_CACHES = frozenset({"pip_cache_dir", "uv_cache_dir", "npm_config_cache"})


@dataclass(frozen=True, slots=True)
class Builder:
    """Who runs setup: as root an unprivileged uid with a home of its own; else (None) ourselves."""

    uid: int | None
    home: Path
    temporary: Path

    def make(self) -> None:
        """Its directories. Raises EnvironmentFault."""
        # Our own home is not ours to arrange.
        for folder in (self.temporary,) if self.uid is None else (self.home, self.temporary):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                folder.parent.chmod(0o711)
                if self.uid is not None:
                    os.chown(folder, self.uid, self.uid)
                folder.chmod(0o700)
            except OSError as error:
                raise EnvironmentFault(f"{folder}: cannot be used: {error.strerror}") from None


def environment(venv: Path) -> dict[str, str]:
    """What puts a virtual environment first, for setup and for all that runs later."""
    return {
        "PATH": f"{venv}/bin:{os.environ.get('PATH') or os.defpath}",
        "VIRTUAL_ENV": str(venv),
        "UV_PROJECT_ENVIRONMENT": str(venv),
    }


class Setup:
    """One run of ``setup`` in one tree, for one environment."""

    def __init__(self, tree: Path, venv: Path, builder: Builder, progress: Progress) -> None:
        self.tree = tree
        self.venv = venv
        self.builder = builder
        self.progress = progress

    async def make(self, python: Interpreter, *, pip: bool) -> None:
        """The empty environment. Raises Refused with the cause."""
        argv = [python.path, "-I", "-m", "venv", *([] if pip else ["--without-pip"])]
        await self._run([*argv, str(self.venv)], "virtual environment")

    async def run(self, commands: Sequence[Sequence[str]]) -> None:
        """All commands, each streamed line by line. Raises Refused at the first that fails."""
        for command in commands:
            self.progress(f"setup: {shlex.join(command)}")
            await self._run(command, "setup")

    async def compile(self, python: str, folder: Path | None = None) -> None:
        """Byte code beside the sources (of the tree, unless told), since a replica cannot write it.

        Faults are not ours.
        """
        quiet = Setup(self.tree, self.venv, self.builder, lambda _: None)
        with contextlib.suppress(Refused):
            argv = [python, "-I", "-m", "compileall", "-q", str(folder or ".")]
            await quiet._run(argv, "compile")

    async def ask(self, code: str) -> list[str]:
        """What the environment's Python prints. Raises Refused."""
        lines: list[str] = []
        asking = Setup(self.tree, self.venv, self.builder, lines.append)
        await asking._run([str(self.venv / "bin" / "python"), "-I", "-c", code], "environment")
        return [line for line in lines if line]

    async def _run(self, command: Sequence[str], what: str) -> None:
        uid = self.builder.uid
        nonce = secrets.token_hex(8)
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.tree,
                env=self._environment() | {records.MARK: f"setup/{what}/{nonce}"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                user=uid,
                group=uid,
                extra_groups=None if uid is None else [],
                umask=0o022,
                limit=_LONGEST,
            )
        except OSError as error:
            raise Refused(
                f"{what}: cannot run {command[0]}: {error.strerror}", hint=_reach(error, uid)
            ) from None
        await asyncio.to_thread(priority.set_group, child.pid, priority.BACKGROUND)
        leader = proc.stat(child.pid)
        session = records.Record(
            id=what,
            stack="setup",
            pid=child.pid,
            start=0 if leader is None else leader.start,
            boot=proc.boot(),
            nonce=nonce,
            labels={},
        )
        last: deque[str] = deque(maxlen=LAST)
        try:
            await self._stream(child, session, last)
            code = await child.wait()
        finally:
            # What it left in its session would write into a release that is done.
            await in_thread(lambda: sessions.kill(session, wait=True))
            await asyncio.shield(child.wait())
        if code != 0:
            raise self._failed(command, what, code, last)

    async def _stream(
        self, child: asyncio.subprocess.Process, session: records.Record, last: deque[str]
    ) -> None:
        assert child.stdout is not None  # noqa: S101  # asked for a pipe
        # Not child.wait(), which waits for the pipe as well: a daemon that setup left behind may
        # hold that open for ever.
        ended = asyncio.create_task(_ended(child.pid))
        try:
            while True:
                reading = asyncio.create_task(_line(child.stdout))
                await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() and ended.done():
                    await in_thread(lambda: sessions.kill(session))
                raw = await reading
                if not raw:
                    return
                # A progress bar draws over its own line: what stands there in the end counts.
                text = raw.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
                last.append(text)
                self.progress(text)
        finally:
            ended.cancel()

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.lower() in _KEPT or name.lower().startswith(_KEPT_PREFIXES)
        }
        if self.builder.uid is not None:
            kept = {name: value for name, value in kept.items() if name.lower() not in _CACHES}
        return {
            "LANG": "C.UTF-8",
            **kept,
            **environment(self.venv),
            "PATH": f"{self.venv}/bin:{self._path()}",
            "HOME": str(self.builder.home),
            "TMPDIR": str(self.builder.temporary),
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # A cache that shares its files by hard link would have them sealed with the release.
            "UV_LINK_MODE": "copy",
        }

    def _path(self) -> str:
        """PATH without folders that the builder cannot reach: they would hide what is there."""
        folders = (os.environ.get("PATH") or os.defpath).split(":")
        if self.builder.uid is None:
            return ":".join(folders)
        return ":".join(folder for folder in folders if _reachable(Path(folder)))

    def _failed(
        self, command: Sequence[str], what: str, code: int, last: deque[str]
    ) -> Refused | EnvironmentFault:
        end = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        lines = [line for line in last if line.strip()]
        reason = f": {lines[-1].strip()}" if lines else ""
        kind = EnvironmentFault if _full(self.tree, lines) else Refused
        return kind(
            f"{what}: {shlex.join(command)}: {end}{reason}",
            hint="make room on the disk" if kind is EnvironmentFault else None,
            lines=lines,
            code=code,
        )


async def _ended(pid: int) -> None:
    """Our child has ended, reaped or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """One line; a piece of one that is longer than the buffer."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(max(1, error.consumed))


def _reachable(folder: Path) -> bool:
    """Whether everybody may pass through to it."""
    try:
        return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
    except OSError:
        return False


def _full(folder: Path, lines: Sequence[str]) -> bool:
    if any("No space left on device" in line for line in lines):
        return True
    with contextlib.suppress(OSError):
        return os.statvfs(folder).f_bavail == 0
    return False


def _reach(error: OSError, uid: int | None) -> str:
    if isinstance(error, PermissionError) and uid is not None:
        return f"setup runs as uid {uid}, not as root: install it where all users can reach it"
    return "is it installed, and on PATH?"
