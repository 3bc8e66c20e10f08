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
from gapless.edge import awaiting, bodies, lowports, render, tls, words
from gapless.edge import config as conf

TEXT = "edge.cfg"
COUNTED = "edge-counted.json"
_KEPT = "edge-{}.json"
NO_STATE = "1\n"
"""The states of no server, as HAProxy reads them: the version of the format."""
_CHECK_SECONDS = 30.0
BACKLOG = 1024
"""Connections that wait while HAProxy is not there yet; then it says itself how many."""


def write(path: Path, text: str, reader: int | None = None) -> None:
    """Write a file whole or not at all, readable by its owner alone, or by the group ``reader``.

    Raises EnvironmentFault.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Others may make files there: what lies in the way is removed, and never followed.
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            if reader is not None:
                os.fchown(file.fileno(), -1, reader)
                os.fchmod(file.fileno(), 0o640)
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
            if config.reader is not None:
                _lend(folder, config.reader, binds=folder == run)
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
    lists = (conf.MAINTENANCE_LIST, conf.RETIRED_LIST, conf.HOLD_MAP, conf.FILES_MAP, awaiting.MAP)
    for name in lists:
        if not (run / name).exists():
            write(run / name, "", config.reader)
    if config.tls is not None:
        tls.not_possible({"run directory": str(run), "state directory": config.tls.folder})
        write(run / tls.LIST, tls.listing(config.tls), config.reader)
        if not (run / tls.CHALLENGES).exists():
            write(run / tls.CHALLENGES, "", config.reader)
        _lend_certificates(config.tls, config.reader)
    write(run / conf.LINE_SCRIPT, script("line.lua"), config.reader)
    write(run / conf.HOLD_SCRIPT, script("hold.lua"), config.reader)
    write(run / awaiting.SCRIPT, script("await.lua"), config.reader)
    write(run / bodies.SCRIPT, script("body.lua"), config.reader)
    if config.maintenance_page is not None:
        if len(config.maintenance_page.encode()) > conf.PAGE_LIMIT:
            raise errors.UsageError(
                f"edge: the maintenance page is larger than {conf.PAGE_LIMIT} bytes",
                hint="write styles and pictures shorter, or link to them elsewhere",
            )
        write(run / conf.MAINTENANCE_PAGE, config.maintenance_page, config.reader)


def _lend(folder: Path, reader: int, *, binds: bool) -> None:
    """Let an account find its files in a folder; ``binds``: and make sockets beside them, which is
    all that it can remove there again. Raises OSError."""
    if binds:
        os.chown(folder, -1, reader)
    folder.chmod(0o3770 if binds else 0o711)


def _lend_certificates(wanted: tls.Tls, reader: int | None) -> None:
    """What another hand writes owner-only, and an edge without rights has to read."""
    if reader is None:
        return
    try:
        Path(wanted.folder).chmod(0o711)
        for name in wanted.certificates:
            path = Path(tls.file(wanted.folder, name))
            os.chown(path, -1, reader)
            path.chmod(0o640)
    except OSError as error:
        raise errors.EnvironmentFault(f"{error.filename}: {error.strerror}") from None


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


def draft(home: Path, run: Path, config: conf.Config, servers: Sequence[conf.Server]) -> Path:
    """The text, written down to be checked; the one in force stays until ``enforce``.

    Who is in rotation has been ready, so requests may wait for its like: also where an edge of an
    older text has told nobody.
    """
    text = render.text(config, servers)
    awaited = awaiting.entries((run / awaiting.MAP).read_text())
    ready = {server.backend for server in servers if server.enabled}
    if not ready <= awaited:
        write(run / awaiting.MAP, awaiting.text(awaited | ready), config.reader)
    if not (run / conf.STATE_FILE).exists():
        write(run / conf.STATE_FILE, NO_STATE, config.reader)
    path = home / f"{TEXT}.new"
    write(path, text, config.reader)
    return path


def enforce(home: Path, config: conf.Config) -> None:
    """What ``draft`` wrote is what is read from now on."""
    write(home / _KEPT.format(conf.digest(config)), conf.to_json(config))
    (home / f"{TEXT}.new").replace(home / TEXT)


def enforced(home: Path, config: conf.Config) -> bool:
    """Whether a text of this configuration was checked before, and no other is in force since."""
    return (home / _KEPT.format(conf.digest(config))).exists()


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
        raise refused(command, path, done.stderr.decode(errors="replace"))


def refused(command: Sequence[str], path: Path, answer: str) -> errors.EdgeRefused:
    """The fault of a configuration of which HAProxy said that."""
    alerts = re.findall(r"\[ALERT\]\s*\(\d+\)\s*:\s*(?:config\s*:\s*)?(.+)", answer)
    fault = alerts[0].strip() if alerts else answer.strip()[-300:]
    return errors.EdgeRefused(
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
    port = int(bind.rpartition(":")[2])
    try:
        _bound(bind).close()
    except OSError as error:
        if isinstance(error, PermissionError) and lowports.allowed(port, program):
            return  # we may not, the program may
        raise _barred(bind, port, error) from None


def listener(bind: str) -> socket.socket:
    """One that listens there. Raises EnvironmentFault, naming the address."""
    try:
        return _bound(bind)
    except OSError as error:
        raise _barred(bind, int(bind.rpartition(":")[2]), error) from None


def _bound(bind: str) -> socket.socket:
    host, _, port = words.bind(bind).rpartition(":")
    host = host.strip("[]")
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("" if host == "*" else host, int(port)))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _barred(bind: str, port: int, error: OSError) -> errors.EnvironmentFault:
    taken = f"see who has it with: ss -ltnp 'sport = :{port}'; or set [edge] listen"
    denied = isinstance(error, PermissionError)
    return errors.EnvironmentFault(
        f"edge: cannot listen on {bind}: {error.strerror}",
        hint="; or ".join(lowports.ways(port)) if denied else taken,
    )
