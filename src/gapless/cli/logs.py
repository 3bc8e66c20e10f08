"""Merged logs, read from the files themselves: a dead controller hides nothing.

Programs write their lines straight to their files, so no line carries a time of ours. Where lines
begin with a time of their own, ``--since`` and the order of the merge go by it; other lines go
with the one before them, and a file without any time is ordered by its last change.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

import click

from gapless import errors
from gapless.cli import out
from gapless.cli.session import Session, duration
from gapless.engine import logfiles

TAIL = 100
OURS = ("controller", "edge", "static")
"""Not the application's: shown when they are named."""
POLL = 0.2
_TIME = re.compile(
    r'^(?:\{"time":")?\W{0,3}(?:[A-Z]+\W{1,3})?'
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)"
)


@dataclass
class Source:
    """One log file, and how far it was read (``offset`` in bytes)."""

    name: str
    path: Path
    offset: int = 0
    rest: bytes = b""
    told: set[str] = field(default_factory=set)


def line_count(value: str) -> int | None:
    """A number of lines, or ``all`` (None), as the type of an option."""
    if value == "all":
        return None
    if not value.isdecimal() or len(value) > 9:
        raise click.BadParameter(f'must be a number or "all", got "{value}"')
    return int(value)


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE|REPLICA]...")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come; Ctrl-C ends it.")
@click.option(
    "--tail",
    type=line_count,
    metavar="LINES",
    help=f'Last lines of each file, or "all" [default: {TAIL}; all with --since or --grep].',
)
@click.option("--since", type=duration, metavar="TIME", help="No lines older than this: 5m.")
@click.option("--grep", metavar="REGEX", help="Only lines that match.")
@click.option("--previous", is_flag=True, help="Of programs that have ended.")
@click.pass_obj
def logs(
    session: Session,
    names: tuple[str, ...],
    follow: bool,
    tail: int | None,
    since: float | None,
    grep: str | None,
    previous: bool,
) -> None:
    """Merged logs of all replicas and stores, or of those named.

    Names: web, web.1, web.1@r12, a store's, edge (its access log), controller. With --json each
    line is an object. What has ended is shown when it is
    named and nothing that runs bears the name, and with --previous.
    """
    given = click.get_current_context().get_parameter_source("tail")
    if given is not click.core.ParameterSource.COMMANDLINE:
        tail = None if since is not None or grep else TAIL
    keep = pattern(grep)
    sources = choose(session, names, previous)
    mask = logfiles.masker(session.paths)
    width = max((len(source.name) for source in sources), default=0)

    def show(source: Source, line: str) -> None:
        # Hidden first: a search must not tell whether a value holds what is sought.
        line = mask(line)
        if not keep(line):
            return
        if session.json:
            out.data(as_object(source.name, line))
            return
        if source.name == "edge":
            from gapless.edge import accesslog

            line = accesslog.readable(line)
        out.data(f"{source.name.ljust(width)} | {out.clean(line)}")

    for source, line in merged(sources, tail, since):
        show(source, line)
    if follow:
        go_on(session, names, sources, show)


def as_object(name: str, line: str) -> str:
    """A line as a JSON object: as it is, where it is one (the edge's access log), else in one."""
    with contextlib.suppress(ValueError):
        if isinstance(json.loads(line), dict):
            return line
    return json.dumps({"log": name, "line": line}, ensure_ascii=False)


def pattern(text: str | None) -> Callable[[str], bool]:
    """What ``--grep`` keeps. Raises UsageError for a faulty expression."""
    if text is None:
        return lambda line: True
    try:
        expression = re.compile(text)
    except re.error as error:
        raise errors.UsageError(f'--grep: "{text}": {error}') from None
    return lambda line: expression.search(line) is not None


def choose(session: Session, names: Sequence[str], previous: bool) -> list[Source]:
    """The files asked for. Raises UsageError for a name that no file belongs to.

    A name that only ended programs bear shows those: a crashed replica is what one asks for.
    """
    files = logfiles.find(session.paths)
    wanted = [entry for entry in files if entry.alive != previous]
    if not names:
        return [Source(entry.id, entry.path) for entry in wanted if entry.id not in OURS]
    chosen: dict[str, Source] = {}
    for name in names:
        named = [entry for entry in wanted if entry.answers_to(name)]
        if not named and not previous:
            named = [entry for entry in files if entry.answers_to(name)][-1:]
            for entry in named:
                out.progress(f"{entry.id} has ended; this is what it left")
        if not named:
            raise _no_log(name, files)
        chosen |= {entry.id: Source(entry.id, entry.path) for entry in named}
    return list(chosen.values())


def _no_log(name: str, files: Sequence[logfiles.LogFile]) -> errors.UsageError:
    from gapless.cli.main import unknown

    have = sorted({alias for entry in files for alias in entry.names})
    error = unknown("log of", name, have)
    error.hint = f"have: {', '.join(have)}" if have else "nothing has run yet"
    return error


def merged(
    sources: Sequence[Source], tail: int | None, since: float | None
) -> Iterator[tuple[Source, str]]:
    """Lines of all files in order of their times; afterwards each source knows its end."""
    cutoff = None if since is None else time.time() - since
    lines = []
    for source in sources:
        changed = source.path.stat().st_mtime if source.path.exists() else 0.0
        if cutoff is not None and changed < cutoff:
            source.offset = logfiles.size(source.path)
            continue
        for at, line in _dated(source, tail):
            if cutoff is not None and at is not None and at < cutoff:
                continue
            if cutoff is not None and at is None and "undated" not in source.told:
                source.told.add("undated")
                out.progress(f"note: {source.name}: lines carry no time, --since cannot cut them")
            lines.append((changed if at is None else at, source, line))
    lines.sort(key=lambda entry: entry[0])
    yield from ((source, line) for _, source, line in lines)


def _dated(source: Source, tail: int | None) -> Iterator[tuple[float | None, str]]:
    at: float | None = None
    raw, source.offset = logfiles.read(source.path, tail)
    for line in raw:
        at = moment(line) or at
        yield at, line


def moment(line: str) -> float | None:
    """The time that a line begins with, in seconds since 1970; without a zone: local time."""
    found = _TIME.match(line)
    if not found:
        return None
    try:
        return datetime.fromisoformat(found[1].replace(",", ".")).timestamp()
    except ValueError:
        return None


def go_on(
    session: Session,
    names: Sequence[str],
    sources: list[Source],
    show: Callable[[Source, str], None],
) -> None:
    """New lines as they come, of new replicas too. Ends with Ctrl-C."""
    seen = {source.name for source in sources}
    looked = time.monotonic()
    try:
        while True:
            for source in sources:
                _more(source, show)
            time.sleep(POLL)
            if time.monotonic() - looked > 1.0:
                looked = time.monotonic()
                for entry in logfiles.find(session.paths):
                    asked = any(map(entry.answers_to, names)) if names else entry.id not in OURS
                    if entry.alive and asked and entry.id not in seen:
                        seen.add(entry.id)
                        sources.append(Source(entry.id, entry.path))
    except KeyboardInterrupt:
        return


def _more(source: Source, show: Callable[[Source, str], None]) -> None:
    try:
        stream: IO[bytes]
        with source.path.open("rb") as stream:
            stream.seek(logfiles.begin(stream, source.offset))
            fresh = stream.read(1 << 20)
            source.offset = stream.tell()
    except OSError:
        return
    *lines, source.rest = (source.rest + fresh).split(b"\n")
    for line in lines:
        show(source, line.decode("utf-8", "replace"))
