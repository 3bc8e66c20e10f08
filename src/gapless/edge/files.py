"""The edge's files and ports: written owner-only and whole, checked before they count."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gapless import errors
from gapless.edge import bodies, lowports, render, tls, words
from gapless.edge import config as conf

TEXT = "edge.cfg"
COUNTED = "edge-counted.json"
_KEPT = "edge-{}.json"
NO_STATE = "1\n"
"""The states of no server, as HAProxy reads them: the version of the format."""
_CHECK_SECONDS = 30.0


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone. Raises EnvironmentFault."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise errors.EnvironmentFault(
            f"{path}: cannot be written: {error.strerror}",
            hint="free some space, or set GAPLESS_STATE to a directory that you may write to",
        ) from None


def script(name: str) -> str:
    """What HAProxy runs to let requests wait, or to count what comes. A copy of it lies with the
    edge's other files: an upgrade must not change it under one that runs."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def prepare(home: Path, run: Path, config: conf.Config) -> None:
    """Put everything in place that the configuration names."""
    for folder in (home, run):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.EnvironmentFault(
                f"{folder}: cannot be made: {error.strerror}",
                hint="set GAPLESS_STATE to a directory that you may write to",
            ) from None
    if "," in str(run) or str(run) != config.run_dir:
        raise errors.EnvironmentFault(
            f"edge: {config.run_dir} cannot be its run directory",
            hint="use a path without commas",
        )
    for name in (conf.MAINTENANCE_LIST, conf.RETIRED_LIST, conf.HOLD_MAP, conf.FILES_MAP):
        if not (run / name).exists():
            write(run / name, "")
    if config.tls is not None:
        tls.not_possible({"run directory": str(run), "state directory": config.tls.folder})
        write(run / tls.LIST, tls.listing(config.tls))
        if not (run / tls.CHALLENGES).exists():
            write(run / tls.CHALLENGES, "")
    write(run / conf.HOLD_SCRIPT, script("hold.lua"))
    write(run / bodies.SCRIPT, script("body.lua"))
    if config.maintenance_page is not None:
        if len(config.maintenance_page.encode()) > conf.PAGE_LIMIT:
            raise errors.UsageError(
                f"edge: the maintenance page is larger than {conf.PAGE_LIMIT} bytes",
                hint="write styles and pictures shorter, or link to them elsewhere",
            )
        write(run / conf.MAINTENANCE_PAGE, config.maintenance_page)


def hand_over(path: Path, uid: int | None) -> None:
    """Give a socket to the worker that is to connect to it; none there, or nobody else: nothing.

    For listeners that HAProxy cannot be told an owner of. Raises EnvironmentFault.
    """
    if uid is None:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, uid, uid)
    except OSError as error:
        raise errors.EnvironmentFault(f"{path}: cannot be given away: {error.strerror}") from None


def install(
    program: Path, home: Path, run: Path, config: conf.Config, servers: Sequence[conf.Server]
) -> None:
    """Write the text, have HAProxy check it, and only then put it in force.

    Raises EdgeRefused with HAProxy's own line; the text before it stays.
    """
    text = render.text(config, servers)
    if not (run / conf.STATE_FILE).exists():
        write(run / conf.STATE_FILE, NO_STATE)
    draft = home / f"{TEXT}.new"
    write(draft, text)
    check(program, draft)
    write(home / _KEPT.format(conf.digest(config)), conf.to_json(config))
    draft.replace(home / TEXT)


def check(program: Path, path: Path) -> None:
    """``haproxy -c``. Raises EdgeRefused."""
    command = [str(program), "-c", "-f", str(path)]
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.EnvironmentFault(
            f"edge: {program} cannot check a configuration: {error}"
        ) from None
    if done.returncode != 0:
        answer = done.stderr.decode(errors="replace")
        alerts = re.findall(r"\[ALERT\]\s*\(\d+\)\s*:\s*(?:config\s*:\s*)?(.+)", answer)
        fault = alerts[0].strip() if alerts else answer.strip()[-300:]
        raise errors.EdgeRefused(
            f"edge: HAProxy refused its configuration: {fault}",
            hint=f"look at it in {path}",
            command=" ".join(command),
            answer=answer,
        )


def known(home: Path, digest: str) -> conf.Config:
    """The configuration of that digest, whichever client wrote it. Raises EdgeRefused."""
    try:
        return conf.from_json((home / _KEPT.format(digest)).read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.EdgeRefused(
            f"edge: what it was started with ({digest}) is not on record: {error}",
            hint="gapless restart edge",
            command="look",
            answer=str(error),
        ) from None


def prune(home: Path, digest: str) -> None:
    """Drop the records of configurations that no worker calls itself after any more."""
    for path in home.glob(_KEPT.format("*")):
        if path.name not in (_KEPT.format(digest), COUNTED):
            path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Whether somebody listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        return True
    return False


def check_ports(config: conf.Config, program: str | None = None) -> None:
    """Whether the edge can listen where it should. Raises EnvironmentFault, naming the address."""
    for bind in config.addresses:
        check_port(bind, program)


def check_port(bind: str, program: str | None = None) -> None:
    """Whether HAProxy (as ``binary.find`` takes it) can listen there now.

    Raises EnvironmentFault, naming the address.
    """
    host, _, port = words.bind(bind).rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, int(port)))
            probe.listen(1)
        except OSError as error:
            denied = isinstance(error, PermissionError)
            if denied and lowports.allowed(int(port), program):
                return  # we may not, the program may
            taken = f"see who has it with: ss -ltnp 'sport = :{port}'; or set [edge] listen"
            raise errors.EnvironmentFault(
                f"edge: cannot listen on {bind}: {error.strerror}",
                hint="; or ".join(lowports.ways(int(port))) if denied else taken,
            ) from None
