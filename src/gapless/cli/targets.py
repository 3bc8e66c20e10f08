"""``gapless render``: files for another balancer, or for Compose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapless import errors
from gapless.cli import out
from gapless.cli.session import Session

if TYPE_CHECKING:
    from gapless.model.stack import Stack
    from gapless.stackfile import Loaded
    from gapless.targets.ask import Ask
    from gapless.targets.keys import Line

TARGETS = ("nginx", "haproxy", "compose", "dockerfile")


@click.command()
@click.argument("target", type=click.Choice(TARGETS), metavar="TARGET")
@click.argument("service", required=False, metavar="[SERVICE]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the files there; absent: print the one that counts.",
)
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="NAME=ADDRESS,…",
    help="Replicas of a service (host:port or unix:/path): the balancer is there instead of the "
    "edge. Absent: in front of it (edge=… where the edge is not at its own address). Repeatable.",
)
@click.option("--listen", metavar="ADDRESS", help="Where the balancer listens, say *:80.")
@click.option("--tls-listen", metavar="ADDRESS", help="Where it listens for TLS; absent: *:443.")
@click.option(
    "--cert",
    metavar="PATH",
    help="Certificate with its chain, over there; haproxy: the key in it, or beside it (PATH.key).",
)
@click.option("--key", metavar="PATH", help="Its key, over there (nginx).")
@click.option(
    "--at",
    metavar="DIR",
    help="Where the files will lie over there; absent: as -o says, else /etc/TARGET/STACK.",
)
@click.option("--allow-loss", is_flag=True, help="Write the files although something is refused.")
@click.pass_obj
def render(session: Session, /, target: str, service: str | None, **given: Any) -> int:
    """Files for a balancer of your own (nginx, haproxy), for Compose, or the dockerfile of a
    SERVICE, and what they keep.

    The report says what is kept, emulated and refused. Exit: 0 done, 4 something was refused
    and nothing was written.
    """
    from gapless import stackfile
    from gapless.targets import balance, haproxy, keys, nginx

    loaded = stackfile.load(session.file, session.overlay)
    stack = loaded.stack
    if (target == "dockerfile") != (service is not None):
        raise errors.UsageError("a SERVICE is named for dockerfile, and for nothing else")
    if service is not None:
        return _dockerfile(session, loaded, service, given)
    if target == "compose":
        return _compose(session, loaded, given)
    wanted = balance.of_stack(stack, _ask(session, stack, target, given))
    files = nginx.files(wanted) if target == "nginx" else haproxy.files(wanted)
    http = [name for name, service in stack.services.items() if service.http]
    lines = keys.report(
        "nginx" if target == "nginx" else "haproxy", wanted, keys.said(loaded.tree, http)
    )
    return _told(session, target, given, files, lines, wanted.front)


def _compose(session: Session, loaded: Loaded, given: Mapping[str, Any]) -> int:
    _plain("compose", given)
    try:
        from gapless.compose import outgoing
    except ModuleNotFoundError as error:
        raise lacks(error) from None
    lines = outgoing.report(loaded.stack, loaded.tree)
    files = {"compose.yaml": outgoing.text(loaded.stack, lines)}
    return _told(session, "compose", given, files, lines, None)


def _plain(target: str, given: Mapping[str, Any]) -> None:
    asked = ("upstreams", "listen", "tls_listen", "cert", "key", "at")
    if any(given[name] for name in asked):
        raise errors.UsageError(f"render {target} takes -o and --allow-loss alone")


def _dockerfile(session: Session, loaded: Loaded, service: str, given: Mapping[str, Any]) -> int:
    from gapless.engine.releases import alone, environments, select

    _plain("dockerfile", given)
    stack = loaded.stack
    lines = alone.report(stack, service)
    root = session.file.parent / stack.source
    paths = [
        entry.path for entry in select.entries(root, stack.include, ()) if entry.kind == "file"
    ]
    read = environments.inputs(root, paths, stack.setup)
    texts = {
        path: (root / path).read_text(errors="replace")
        for path in read
        if path.endswith(environments.READ)
    }
    rules = root / ".gitignore"
    ignored = rules.read_text(errors="replace").splitlines() if rules.is_file() else []
    name = f"Dockerfile.{service}"
    files = {
        name: alone.dockerfile(stack, service, alone.inputs(stack.setup, texts)),
        f"{name}.dockerignore": alone.ignored(ignored, stack.include),
    }
    return _told(session, "dockerfile", given, files, lines, None)


def lacks(error: ModuleNotFoundError) -> Exception:
    """The fault for a library of an extra that is not there."""
    if error.name != "yaml":
        return error
    return errors.EnvironmentFault(
        "Compose files need PyYAML, which is not installed", hint="pip install 'gapless[compose]'"
    )


def _told(
    session: Session,
    target: str,
    given: Mapping[str, Any],
    files: Mapping[str, str],
    lines: Sequence[Line],
    front: bool | None,
) -> int:
    """Write and report; the exit code. ``front`` None: it is no balancer."""
    refused = [line for line in lines if line.kind == "refused"]
    written = given["allow_loss"] or not refused
    if written and given["output"] is not None:
        _write(given["output"], files)
    if session.json:
        out.as_json(_document(target, front, files if written else {}, lines))
        return 0 if written else errors.Refused.exit_code
    _print(given["output"], _first(files) if written else "", lines)
    if not written:
        raise errors.Refused(
            f"render {target}: {', '.join(line.key for line in refused)}: refused; "
            "nothing was written",
            hint="--allow-loss writes the files all the same",
        )
    return 0


def _ask(session: Session, stack: Stack, target: str, given: Mapping[str, Any]) -> Ask:
    from gapless.targets import ask

    if given["cert"] is None and (given["key"] or given["tls_listen"]):
        raise errors.UsageError("--key and --tls-listen need --cert")
    if target == "nginx" and (given["cert"] is None) != (given["key"] is None):
        raise errors.UsageError("--cert needs --key: nginx reads them from two files")
    if target == "haproxy" and given["key"] is not None:
        raise errors.UsageError(
            "--key: HAProxy finds the key in the certificate's file or beside it",
            hint="say --cert site.pem, and have the key in site.pem or in site.pem.key",
        )
    output: Path | None = given["output"]
    at = given["at"] or (f"/etc/{target}/{stack.id}" if output is None else str(output.absolute()))
    if not at.startswith("/"):
        raise errors.UsageError(f"--at: must be an absolute path, got {at}")
    return ask.Ask(
        at=at.rstrip("/") or "/",
        upstreams=ask.upstreams(given["upstreams"]),
        listen=given["listen"],
        tls_listen=given["tls_listen"],
        certificate=given["cert"],
        key=given["key"],
        page=_page(session, stack),
    )


def _page(session: Session, stack: Stack) -> str | None:
    name = stack.edge.maintenance_page
    if name is None:
        return None
    path = session.file.parent / stack.source / name
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(
            f"[edge] maintenance_page: {path} cannot be read: {error}"
        ) from None


def _first(files: Mapping[str, str]) -> str:
    """What is printed where no folder is named: nginx's site (for conf.d), HAProxy's file."""
    site = [name for name in files if name.endswith(".conf") and name != "nginx.conf"]
    return files[site[0] if site else next(iter(files))]


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise errors.EnvironmentFault(
            f"{folder}: cannot be written: {error.strerror}", hint="choose another folder with -o"
        ) from None


def _document(
    target: str, front: bool | None, files: Mapping[str, str], lines: Sequence[Line]
) -> dict[str, Any]:
    return {
        "target": target,
        **({} if front is None else {"mode": "front" if front else "instead"}),
        "files": dict(files),
        **{
            kind: [{"key": line.key, "text": line.text} for line in lines if line.kind == kind]
            for kind in ("kept", "emulated", "refused")
        },
    }


def _print(output: Path | None, text: str, lines: Sequence[Line]) -> None:
    """The report goes where it does not stand in the way of the file."""
    say = out.progress if output is None else out.data
    width = max(len(line.key) for line in lines)
    for kind in ("kept", "emulated", "refused"):
        for line in lines:
            if line.kind == kind:
                said = f"{kind.ljust(8)}  {line.key.ljust(width)}  {line.text}"
                say(out.clean(said.rstrip()))
    if output is None and text:
        out.data(text.rstrip("\n"))


COMMANDS = (render,)
