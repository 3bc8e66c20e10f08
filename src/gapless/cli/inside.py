"""``run``, ``exec``, ``connect``: a command of the user's among what runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from gapless import errors
from gapless.cli import follow, out
from gapless.cli.session import Session

WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_IDS = re.compile(r"(Uid|Gid|Groups):").match
MARKS = ("GAPLESS_PROCESS",)
"""Variables that say "this is the replica itself"; what we start beside it is not."""


@click.command(context_settings=WORDS)
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_obj
def run(session: Session, name: str, words: tuple[str, ...]) -> int:
    """A one-off with the code and environment of a service or job; a job alone runs as declared.

    Ends with the command's success (0) or failure (1).
    """
    body = {"name": name, "argv": list(_after_dashes(words)) or None}
    return follow.run(session, "/v1/run", body)


@click.command("exec", context_settings=WORDS)
@click.argument("replica")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- COMMAND...")
@click.pass_obj
def exec_(session: Session, replica: str, words: tuple[str, ...]) -> NoReturn:
    """A command beside a running replica: in its folder, with its environment, as its user.

    Terminal and exit code are the command's own. Works with a dead controller too.
    """
    from gapless.engine import offline

    argv = _after_dashes(words)
    if not argv:
        raise errors.UsageError("exec: no command", hint=f"gapless exec {replica} -- bash")
    living = [program for program in offline.programs(session.paths) if program.alive]
    named = [p for p in living if replica in (p.id, p.id.partition("@")[0]) and p.replica]
    if not named:
        from gapless.cli.main import unknown

        raise unknown("running replica", replica, [p.id for p in living if p.replica])
    program = named[-1]
    env = environment(program.pid, program.id)
    try:
        # Opened before the rights go: its parents need not be open to the replica's user.
        folder = os.open(f"/proc/{program.pid}/cwd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _become(program.pid)
        os.fchdir(folder)
    except OSError as error:
        raise errors.WorkFailed(f"{program.id}: cannot join it: {error.strerror}") from None
    replace(argv, env)


def environment(pid: int, id: str) -> dict[str, str]:
    """The environment that a replica was started with. Raises WorkFailed when it is not readable.

    Some programs write their title over it; then it cannot be told any more.
    """
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError as error:
        raise errors.WorkFailed(f"{id}: its environment cannot be read: {error.strerror}") from None
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
    env = {os.fsdecode(name): os.fsdecode(value) for name, sep, value in pairs if sep and name}
    if env.get("SERVER_ID") != id:
        raise errors.WorkFailed(
            f"{id}: has overwritten its environment (as programs do that set their title)",
            hint=f"gapless run {id.partition('.')[0]} -- COMMAND",
        )
    for name in MARKS:
        env.pop(name, None)
    return env | {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}


def _become(pid: int) -> None:
    """Take on the replica's user and groups; only root can, others have them already."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ids = {line.partition(":")[0]: [*map(int, line.split()[1:])] for line in lines if _IDS(line)}
    uid, gid = ids["Uid"][1], ids["Gid"][1]
    if os.geteuid() == 0 and uid != 0:
        os.setgroups(ids["Groups"])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


@click.command(context_settings=WORDS)
@click.argument("data")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENT...]")
@click.pass_obj
def connect(session: Session, data: str, words: tuple[str, ...]) -> NoReturn:
    """The store's own shell (psql, valkey-cli); arguments after -- are handed to it."""
    answer: Mapping[str, Any] = session.client.post(
        "/v1/connect",
        {"name": data, "actor": follow.who()},
        timeout=session.timeout or 10.0,
    )
    replace([*answer["argv"], *_after_dashes(words)], {**os.environ, **answer.get("env", {})})


def _after_dashes(words: Sequence[str]) -> list[str]:
    return list(words[1:] if words and words[0] == "--" else words)


def replace(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become another program. Raises UsageError when there is no such program."""
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606  # no shell is the point
    except OSError as error:
        raise errors.UsageError(f"{out.clean(argv[0])}: cannot be run: {error.strerror}") from None
