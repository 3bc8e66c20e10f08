"""A first stack file for a folder: recognised parts, commented, valid as it is written."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gapless.errors import UsageError
from gapless.stackfile import detect, references, write
from gapless.stackfile.detect import Findings, Folder

KEEP_ALIVE = 3600
"""Seconds that a server keeps idle connections: longer than the edge does, so that it never
closes one that the edge is about to use."""
_IGNORED = frozenset(
    {"node_modules", "__pycache__", "venv", "env", "dist", "build", "site-packages"}
)
_READ = frozenset({".py", ".txt", ".toml", ".ini"})
_FILES, _FOLDERS_DEEP, _BYTES = 3000, 4, 200_000
_SHELL = re.compile(r"&&|\|\||[|;<>`]|\$\(")


@dataclass(frozen=True, slots=True)
class Program:
    """A service or job to be written; ``comment`` lines stand above ``run``."""

    name: str
    run: str
    comment: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def survey(root: Path) -> Folder:
    """Names and relevant texts of a folder, bounded in number, depth and size.

    Raises UsageError when the folder cannot be read.
    """
    found: dict[str, str] = {}
    if not root.is_dir():
        raise UsageError(f"{root}: is not a directory")
    for here, folders, files in os.walk(root):
        depth = len(Path(here).relative_to(root).parts)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _IGNORED and depth < _FOLDERS_DEEP
        )
        for name in sorted(files):
            path = Path(here) / name
            if len(found) >= _FILES:
                return found
            found[path.relative_to(root).as_posix()] = _text(path)
    return found


def text(folder: Folder, name: str) -> str:
    """The stack file for a folder; ``name`` is the folder's own, made into a stack's name."""
    found = detect.look(folder)
    services, jobs, notes = _programs(found)
    lines = ["gapless = 1", f"name = {write.value(stack_name(name))}"]
    if found.secrets:
        lines.append(f"secrets = {json.dumps(list(found.secrets))}  # gapless secret set NAME")
    lines += _setup(found)
    lines += [f"# {note}" for note in notes]
    lines += _environment(found)
    for kind, programs in (("service", services), ("job", jobs)):
        for program in programs:
            lines += ["", f"[{kind}.{program.name}]"]
            lines += [f"# {line}" for line in program.comment]
            lines += [f"run = {write.value(program.run)}", *program.lines]
    if found.postgres:
        lines += ["", "[data.db]", 'type = "postgres"']
    if found.redis:
        lines += ["", "[data.cache]", 'type = "redis"']
    if any("${state.path}" in program.run for program in services):
        lines += ["", "[data.state]", 'type = "files"']
    lines += [
        "",
        "[edge]",
        'listen = "127.0.0.1:8080"  # "*:80" for the world',
        "",
        "# [for.staging]  # differences of one environment: gapless --for staging",
        f"# service.{services[0].name}.replicas = 1",
    ]
    return "\n".join(lines) + "\n"


def stack_name(name: str) -> str:
    """The nearest valid name; ``app`` when nothing is left of it."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = re.sub(r"^[0-9-]+", "", plain)[:32].strip("-")
    return plain or "app"


def _programs(found: Findings) -> tuple[list[Program], list[Program], list[str]]:
    """(services, jobs, notes). At least one service."""
    services: list[Program] = []
    jobs: list[Program] = []
    notes = [
        f"{name} is here; this version runs the programs themselves, without it"
        for name in found.noticed
    ]
    if found.procfile:
        _from_procfile(found, services, jobs, notes)
    else:
        services += _detected(found)
    if found.migrate and not jobs:
        jobs.append(
            Program(
                "migrate",
                found.migrate,
                ("once a deploy, before the new version gets traffic;",
                 "the old version still serves meanwhile, so only add, do not take away"),
                ('when = "release"',),
            )
        )  # fmt: skip
    if not services:
        services.append(
            Program(
                "web",
                "python app.py --socket ${socket}",
                (
                    "No application was recognised: say here how yours starts.",
                    "${socket} is a Unix socket to listen on; ${host} and ${port} also work.",
                ),
                _web_lines(found),
            )
        )
    return services, jobs, notes


def _detected(found: Findings) -> Iterator[Program]:
    if found.app is not None:
        run, comment = _server(found.app, found.packages)
        yield Program("web", run, comment, _web_lines(found))
    if found.celery:
        yield from _celery(found.celery, beat=found.beat)


def _server(app: detect.App, packages: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    program = "uvicorn" if app.asgi else "gunicorn"
    comment = [f"{app.framework}, found as {app.target}"]
    if packages and program not in packages:
        comment.append(f"{program} is not among your requirements: add it")
    words = [program, *(_flags(program, app.folder)), *_address(program)]
    if app.asgi:
        words += [*(["--factory"] if app.factory else []), app.target]
    else:
        words.append(f"'{app.target}()'" if app.factory else app.target)
    comment.append("idle connections stay open longer than the edge uses them")
    return " ".join(words), tuple(comment)


def _flags(program: str, folder: str) -> list[str]:
    if not folder:
        return []
    return ["--app-dir" if program == "uvicorn" else "--pythonpath", folder]


def _address(program: str) -> list[str]:
    if program == "uvicorn":
        return ["--uds ${socket}", f"--timeout-keep-alive {KEEP_ALIVE}"]
    return ["--bind unix:${socket}", "--threads 8", f"--keep-alive {KEEP_ALIVE}"]


def _web_lines(found: Findings) -> tuple[str, ...]:
    ready = f'ready = "{found.ready}"' if found.ready else '# ready = "/health/ready"'
    return (
        "replicas = 2",
        f"{ready}  # gates traffic and deploys",
        *(('sticky = "cookie"  # Socket.IO clients stay with their replica',) * found.sticky),
    )


def _celery(module: str, *, beat: bool) -> Iterator[Program]:
    yield Program(
        "worker",
        f"celery -A {module} worker --loglevel INFO",
        (),
        ('drain = "5m"  # how long a running task may take to finish',),
    )
    if beat:
        yield Program(
            "beat",
            f"celery -A {module} beat --loglevel INFO --schedule ${{state.path}}/beat",
            ("a second scheduler would run everything twice; its notes outlive a deploy",),
            ("singleton = true",),
        )


def _from_procfile(
    found: Findings, services: list[Program], jobs: list[Program], notes: list[str]
) -> None:
    taken: set[str] = set()
    for label, command in found.procfile:
        name = stack_name(label)
        run = _translated(command)
        if name in taken or run is None:
            why = "is there twice" if name in taken else "needs a shell, and none reads run"
            notes.append(f"Procfile: {label} {why}: {_commented(command)}")
            continue
        taken.add(name)
        if name == "release":
            jobs.append(Program("release", run, ("from the Procfile",), ('when = "release"',)))
            continue
        lines: tuple[str, ...] = ()
        if "${socket}" in run or "${port}" in run:
            public = not any('route = "/"' in program.lines for program in services)
            lines = ('route = "/"', *_web_lines(found)) if public else ("route = false",)
        elif "beat" in run.split():
            lines = ("singleton = true",)
        services.append(Program(name, run, ("from the Procfile",), lines))


def _translated(command: str) -> str | None:
    """A Procfile's command without a shell; None when only a shell could run it."""
    if _SHELL.search(command) or "\0" in command:
        return None
    run = re.sub(r"0\.0\.0\.0:(\$PORT\b|\$\{PORT(:-\d+)?\})", "${host}:${port}", command)
    run = re.sub(r"\$PORT\b|\$\{PORT(:-\d+)?\}", "${port}", run)
    run = re.sub(r"(--host[ =])0\.0\.0\.0", r"\1${host}", run)
    run = re.sub(
        r"\$\{([A-Z_][A-Z0-9_]*)(:-[^}]*)?\}|\$([A-Z_][A-Z0-9_]*)\b",
        lambda match: f"${{env.{match[1] or match[3]}{match[2] or ''}}}",
        run,
    )
    run = _to_socket(run)
    try:
        words = shlex.split(run)
    except ValueError:
        return None
    faulty = any(
        isinstance(piece, references.Malformed) or piece.kind in ("attribute", "secret")
        for piece in references.scan(run)
    )
    if not words or faulty or "=" in words[0] or re.search(r"\$(?!\{)", run):
        return None
    return run


def _to_socket(run: str) -> str:
    """Servers that can listen on a Unix socket do so: it is faster than a port."""
    if re.match(r"(\S*/)?uvicorn\s", run):
        run = re.sub(r"\s--(host|port)[ =]\S+", "", run) + " --uds ${socket}"
        if "--timeout-keep-alive" not in run:
            run += f" --timeout-keep-alive {KEEP_ALIVE}"
    elif re.match(r"(\S*/)?gunicorn\s", run):
        run = re.sub(r"\s(--bind|-b)[ =]?\S+", "", run) + " --bind unix:${socket}"
        if "--keep-alive" not in run:
            run += f" --keep-alive {KEEP_ALIVE}"
    return run


def _setup(found: Findings) -> list[str]:
    if not found.setup:
        return ['# setup = ["pip install -r requirements.txt"]  # makes a release runnable']
    return [f"setup = {json.dumps(list(found.setup))}"]


def _environment(found: Findings) -> list[str]:
    lines = []
    for name in found.variables or ("DATABASE_URL", "REDIS_URL"):
        if name == "DATABASE_URL" and found.postgres:
            lines.append(f'{name} = "${{db.url}}"')
        elif name != "DATABASE_URL" and found.redis:
            lines.append(f'{name} = "${{cache.url}}"')
    lines += [f'{name} = "${{secret.{name}}}"' for name in found.secrets]
    return ["", "[env]", *lines] if lines else []


def _text(path: Path) -> str:
    if path.suffix not in _READ and path.name != "Procfile":
        return ""
    try:
        if not path.is_file() or path.stat().st_size > _BYTES:
            return ""
        return path.read_text("utf-8", errors="replace")
    except OSError:
        # What cannot be read cannot be recognised; the file still counts by its name.
        return ""


def _commented(command: str) -> str:
    return "".join(c if c.isprintable() else " " for c in command)
