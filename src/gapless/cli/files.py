"""Commands that need nothing but the file: init, check, show, schema, docs."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapless import errors
from gapless.cli import out
from gapless.cli.session import FILE, Session
from gapless.stackfile import write

if TYPE_CHECKING:
    from gapless.model.stack import Stack
    from gapless.stackfile import Loaded


@click.command()
@click.option("--production", is_flag=True, help="Also the readiness checklist.")
@click.pass_obj
def check(session: Session, production: bool) -> None:
    """Every error in the file at once."""
    if production:
        raise errors.UsageError("check --production: not implemented in this version")
    from gapless import stackfile
    from gapless.core import capacity
    from gapless.engine import situation, target
    from gapless.engine.paths import Paths
    from gapless.engine.secrets import Secrets
    from gapless.stackfile import onsite

    loaded = stackfile.load(session.file, session.overlay)
    held = Secrets(Paths.of(loaded.stack.id)).names()
    problems = onsite.problems(
        loaded,
        session.file.parent,
        secrets=held,
        environ=frozenset(os.environ),
        containers=target.of(Paths.of(loaded.stack.id), session.target) == target.DOCKER,
    )
    if problems:
        raise errors.InvalidStack(problems)
    closed = _closed_ports(loaded.stack)
    limits = situation.limits(loaded.stack)
    kept = _kept_limits(loaded.stack)
    if session.json:
        out.as_json(
            {
                "valid": True,
                "connections": {"edge": capacity.at_edge(limits), **asdict(limits)},
                "limits": kept,
                "ports": closed,
                "file": str(session.file),
                "stack": loaded.stack.id,
                "overlays": list(loaded.overlays),
                "warnings": [
                    {"file": w.file, "line": w.line, "message": w.message, "text": w.text}
                    for w in loaded.warnings
                ],
            }
        )
        return
    for warning in loaded.warnings:
        out.progress(out.clean(f"warning: {warning}"))
    if closed:
        named = " and ".join(map(str, closed))
        out.progress(f"port {named} is not yours to listen on; one of these:")
        for way in closed[min(closed)]:
            out.progress(out.clean(f"  {way}"))
    for name, said in kept.items():
        out.progress(out.clean(f"limits.{name}: {said}"))
    out.data(f"{loaded.file}: valid: {_summary(loaded)}")
    if any(service.http for service in loaded.stack.services.values()):
        for line in capacity.lines(limits):
            out.data(line)


def _closed_ports(stack: Stack) -> dict[int, list[str]]:
    """Ports of the edge that it may not listen on, and the ways to each.

    A redirect in front does not show here.
    """
    from gapless.edge import lowports

    asked = [stack.edge.listen, *([stack.edge.tls_listen] if stack.tls is not None else [])]
    ports = [int(address.rpartition(":")[2]) for address in asked]
    barred = [port for port in ports if not lowports.allowed(port, stack.edge.binary)]
    return {port: list(lowports.ways(port)) for port in barred}


def _kept_limits(stack: Stack) -> dict[str, str]:
    """What this machine does about each limit that the stack sets."""
    from gapless.runtimes.process import cgroups

    tables = [service.limits for service in stack.services.values()]
    asked = {
        "memory": any(table.memory is not None for table in tables),
        "cpu": any(table.cpu is not None for table in tables),
    }
    if not any(asked.values()):
        return {}
    groups = cgroups.Cgroups(f"check-{os.getpid()}")
    said: dict[str, str] = {}
    for name, why in groups.kept().items():
        if not asked[name]:
            continue
        how = f"enforced by the kernel (cgroup v{groups.version(name)})"
        if name == "memory":
            measured = "measured: a replica that stays above is replaced"
            said[name] = f"{measured}; {how if not why else f'no wall above it: {why}'}"
        else:
            said[name] = how if not why else f"NOT enforced on this machine: {why}"
    return said


@click.command()
@click.pass_obj
def show(session: Session) -> None:
    """The file as understood, with the origin of each value."""
    from gapless import stackfile

    loaded = stackfile.load(session.file, session.overlay)
    rows = list(_values((), loaded.tree, loaded))
    if session.json:
        out.as_json(
            {
                "stack": loaded.stack.id,
                "overlay": session.overlay,
                "file": str(session.file),
                "values": rows,
            }
        )
        return
    written = [(f"{row['key']} = {write.value(row['value'])}", row) for row in rows]
    width = min(60, max(len(text) for text, _ in written))
    for text, row in written:
        layer = "" if row["from"] == "base" else f" [{row['from']}]"
        out.data(out.clean(f"{text.ljust(width)}  # {loaded.file}:{row['line']}{layer}"))


@click.command()
def schema() -> None:
    """JSON Schema of the file."""
    from gapless.stackfile import schema as made

    out.as_json(made.schema())


@click.command()
@click.argument("key", required=False)
@click.pass_obj
def docs(session: Session, key: str | None) -> None:
    """Reference of the file's keys: all, a table's (service), or one (service.web.drain)."""
    from gapless.stackfile import reference

    found = reference.entries() if key is None else reference.find(key)
    if session.json:
        out.as_json([entry.as_dict() for entry in found])
    elif key is None:
        out.show_table(
            ("KEY", "TYPE", "DEFAULT", "IS"),
            [
                (e.key, e.type, "required" if e.required else e.default or "-", e.description)
                for e in found
            ],
        )
    else:
        out.data("\n\n".join(str(entry) for entry in found))


@click.command()
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def init(session: Session, force: bool) -> None:
    """Write a gapless.toml for this folder."""
    from gapless import stackfile
    from gapless.stackfile import init as first

    target = (session.given_file or Path(FILE)).absolute()
    if target.is_dir():
        target = target / FILE
    if target.exists() and not force:
        raise errors.Refused(f"{target}: exists already", hint="--force replaces it")
    text = first.text(first.survey(target.parent), target.parent.name)
    # What we write must be what we accept, whatever was found in the folder.
    loaded = stackfile.parse(text, file=target.name)
    try:
        with target.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise errors.EnvironmentFault(f"{target}: cannot be written: {error.strerror}") from None
    if session.json:
        out.as_json({"file": str(target), "stack": loaded.stack.id, "text": text})
        return
    out.data(f"wrote {target.name}: {_summary(loaded)}")
    out.progress("hint: read it, then gapless check and gapless up")


COMMANDS: tuple[click.Command, ...] = (check, show, schema, docs, init)


def _summary(loaded: Loaded) -> str:
    stack = loaded.stack
    parts = [f"{name} x{service.replicas}" for name, service in stack.services.items()]
    parts += [f"{name} (job)" for name in stack.jobs]
    parts += [f"{name} ({store.type})" for name, store in stack.data.items()]
    return f"{stack.id}: {', '.join(parts)}"


def _values(path: tuple[str | int, ...], value: Any, loaded: Loaded) -> list[dict[str, Any]]:
    """Every scalar and list of the merged file, in its order."""
    if isinstance(value, dict) and (value or not path):
        return [row for key, below in value.items() for row in _values((*path, key), below, loaded)]
    line, layer = loaded.origins[path]
    return [{"key": _dotted(path), "value": value, "line": line, "from": layer}]


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(write.key(str(key)) for key in path)
