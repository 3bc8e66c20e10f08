"""One start: fork a waiting launcher, record who it is, and only then let it become the program."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Process
from gapless.runtimes.machine import proc
from gapless.runtimes.process import launcher, priority, sessions
from gapless.runtimes.process.records import MARK, Record, Records

ANSWER = 30.0
"""Seconds for a launcher to become its program; a hung file system is the only known reason."""
_FLOOR = 10


@dataclass(frozen=True, slots=True)
class Place:
    """What this machine adds to a Process: its log, its uid and groups, its base environment."""

    log: Path
    uid: int | None
    groups: tuple[int, ...]
    base: dict[str, str]
    prepare: Callable[[], None]
    """Makes room for its socket; called before anything is forked."""
    confine: Callable[[int], None] = lambda pid: None
    """Puts it under its limits; called while it waits."""


def spawn(process: Process, place: Place, records: Records) -> Record:
    """Start it; blocking. The record is durable, and the program running, on return.

    Raises RuntimeFault (no such program, no permission, no more processes) and EnvironmentFault
    (disk full); then nothing runs and no record is left.
    """
    place.prepare()
    records.drop(process.id)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        pid = _fork(process, place, theirs)
        theirs.close()
        record = _record(process, place, pid, records)
        try:
            records.save(record)
            place.confine(pid)
            _release(process, place, record, ours, records)
        except BaseException:
            ours.close()
            sessions.kill(record)
            # Our own child that nobody has waited for: the number cannot be another's.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            records.drop(process.id)
            raise
    return record


def _fork(process: Process, place: Place, channel: socket.socket) -> int:
    """The launcher in a session of its own, waiting. Raises RuntimeFault, EnvironmentFault."""
    held: list[int] = []
    try:
        log = _open_log(place)
        held.append(log)
        # Above the numbers they are copied to: a copy must never overwrite a source.
        held.append(fcntl.fcntl(log, fcntl.F_DUPFD_CLOEXEC, _FLOOR))
        held.append(fcntl.fcntl(channel.fileno(), fcntl.F_DUPFD_CLOEXEC, _FLOOR))
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(Path(launcher.__file__)), process.id],
            {"LC_ALL": "C.UTF-8", MARK: f"starting/{process.id}"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, held[1], 1),
                (os.POSIX_SPAWN_DUP2, held[1], 2),
                (os.POSIX_SPAWN_DUP2, held[2], launcher.CHANNEL),
            ],
            setsid=True,
            setsigmask=[],
        )
    except OSError as error:
        raise RuntimeFault(
            f"{process.id}: no process can be started: {error.strerror}",
            hint="check the limits of processes and open files (ulimit -u, ulimit -n)",
        ) from None
    finally:
        for number in held:
            os.close(number)


def _open_log(place: Place) -> int:
    try:
        log = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if place.uid is not None:
            # A program may open /dev/stderr again, which asks for the file's own permission.
            os.fchown(log, place.uid, place.uid)
    except OSError as error:
        raise EnvironmentFault(f"{place.log}: cannot be written: {error.strerror}") from None
    return log


def _record(process: Process, place: Place, pid: int, records: Records) -> Record:
    if process.background:
        priority.give_way(pid, True, idle=not process.record_exit)  # a job may hold locks
    found = proc.stat(pid)
    if found is None or found.dead:
        os.waitpid(pid, 0)
        raise RuntimeFault(
            f"{process.id}: its launcher ended at once", hint=f"see the end of {place.log}"
        )
    return Record(
        id=process.id,
        stack=records.stack,
        pid=pid,
        start=found.start,
        boot=proc.boot(),
        nonce=f"{records.home}-{secrets.token_hex(8)}",
        labels=dict(process.labels),
        address=None if process.address is None else str(process.address),
        record_exit=process.record_exit,
        uid=place.uid,
    )


def _release(
    process: Process, place: Place, record: Record, channel: socket.socket, records: Records
) -> None:
    """Hand over the orders and wait until the program runs. Raises RuntimeFault."""
    name, _, value = record.mark.partition("=")
    kept = process.record_exit
    orders = marshal.dumps(
        {
            "argv": list(process.argv),
            "env": {**place.base, **process.env, name: value},
            "cwd": process.cwd,
            "uid": place.uid,
            "groups": list(place.groups),
            "exit": str(records.exit_path(process.id)) if kept else None,
            "timeout": process.timeout if kept else None,
        }
    )
    channel.settimeout(ANSWER)
    try:
        channel.sendall(len(orders).to_bytes(8, "big") + orders)
        channel.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := channel.recv(4096):
            answer += chunk
    except TimeoutError:
        raise RuntimeFault(
            f"{process.id}: did not begin within {ANSWER:g} s",
            hint="is a file system that it needs hanging?",
        ) from None
    except OSError as error:
        raise RuntimeFault(f"{process.id}: its launcher ended: {error.strerror}") from None
    if answer:
        _, _, reason = answer.decode(errors="replace").partition(" ")
        raise RuntimeFault(f"{process.id}: {reason}", hint=_hint(process, answer))


def _hint(process: Process, answer: bytes) -> str | None:
    number, _, reason = answer.partition(b" ")
    if not reason.startswith(b"cannot run"):
        return None
    if number == b"2":
        return (
            f"is {process.argv[0]} installed by setup, or on PATH? a script also needs "
            "the interpreter that its first line names"
        )
    if number == b"13":
        return "is it executable, and can the unprivileged user of the service reach it?"
    return None
