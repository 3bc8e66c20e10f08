"""What every command gets as ``ctx.obj``, and the options that all commands share.

A stack's places follow from its name and overlay, so nothing but the name is read here; whether
the rest of the file is sound is for those to say who use it.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapless import errors
from gapless.engine.paths import Paths
from gapless.engine.target import TARGETS

if TYPE_CHECKING:
    from gapless.engine.client import Client

FILE = "gapless.toml"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_NAME_LINE = re.compile(r"""^\s*name\s*=\s*["']([a-z0-9-]+)["']""", re.MULTILINE)
_MENTION = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def duration(value: str) -> float:
    """``90``, ``90s``, ``5m``, ``250ms`` to seconds, as the type of an option."""
    found = _DURATION.fullmatch(value)
    if not found:
        raise click.BadParameter(f'must be a duration such as "30s" or "5m", got "{value}"')
    return float(found[1]) * _SECONDS[found[2]]


class Session:
    """One invocation: global options, and what follows from them (looked up when asked for)."""

    def __init__(self) -> None:
        self.given_file: Path | None = None
        self.overlay: str | None = None
        self.target: str | None = None
        self.json = False
        self.yes = False
        self.timeout: float | None = None
        """Seconds; None: no bound was asked for."""

    @functools.cached_property
    def file(self) -> Path:
        """The stack file, absolute. Raises UsageError when there is none."""
        if self.given_file is not None:
            chosen = self.given_file.absolute()
            chosen = chosen / FILE if chosen.is_dir() else chosen
            if not chosen.is_file():
                raise errors.UsageError(
                    f"{self.given_file}: no such file",
                    hint="gapless init writes one",
                )
            return chosen
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FILE).is_file():
                return folder / FILE
        raise errors.UsageError(
            f"no {FILE} in {here} or above it",
            hint="gapless init writes one; -f FILE names one elsewhere",
        )

    @functools.cached_property
    def table(self) -> dict[str, Any]:
        """The file as bare TOML, unchecked; {} where it cannot be parsed.

        Raises UsageError when it cannot be read at all.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError:
            return {}

    @functools.cached_property
    def text(self) -> str:
        """The file's text. Raises UsageError when it cannot be read."""
        try:
            return self.file.read_text("utf-8")
        except OSError as error:
            raise errors.UsageError(f"{self.file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise errors.UsageError(
                f"{self.file}: is not UTF-8 text (byte {error.start})"
            ) from None

    @functools.cached_property
    def stack_id(self) -> str:
        """``chat``, or ``chat-staging`` with an overlay. Raises UsageError for a file without name.

        A file with a slip somewhere must not hide the stack that runs, so the name is also found
        in a file that does not parse.
        """
        name = self.table.get("name")
        if name is None and (found := _NAME_LINE.search(self.text)):
            name = found[1]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise errors.UsageError(
                f"{self.file}: has no usable name, so its stack cannot be found",
                hint="gapless check",
            )
        if self.overlay is None:
            return name
        overlays = self.table.get("for", {})
        if self.table and self.overlay not in overlays:
            have = ", ".join(overlays) or "none"
            raise errors.UsageError(
                f"{self.file.name}: no overlay [for.{self.overlay}] (have: {have})",
            )
        if not _NAME.fullmatch(self.overlay):
            raise errors.UsageError(f'--for: "{self.overlay}" is not a name')
        return f"{name}-{self.overlay}"

    @functools.cached_property
    def paths(self) -> Paths:
        return Paths.of(self.stack_id)

    @functools.cached_property
    def client(self) -> Client:
        from gapless.engine.client import Client

        return Client(self.paths)

    def body(self, **more: Any) -> dict[str, Any]:
        """The body of a request that reads the file: where it is, and what it asks of us."""
        return {
            "file": str(self.file),
            "environment": self.captured(),
            **more,
        }

    def captured(self) -> dict[str, str]:
        """What the file asks of our environment: declared secrets and ``${env.X}``, by name."""
        wanted = {*self.declared, *_MENTION.findall(self.text)}
        return {name: os.environ[name] for name in sorted(wanted) if name in os.environ}

    @property
    def declared(self) -> tuple[str, ...]:
        """Names of the secrets that the file asks for: programs' own, passwords of pages and
        of registries. Of a file with slips in it what can be read."""
        overlays = self.table.get("for")
        over = overlays.get(self.overlay or "") if isinstance(overlays, dict) else None
        over = over if isinstance(over, dict) else {}
        names = over.get("secrets", self.table.get("secrets"))
        found = names if isinstance(names, list) else []
        found = [*found, *_passwords(self.table), *_passwords(over)]
        return tuple(dict.fromkeys(name for name in found if isinstance(name, str)))


def _passwords(table: dict[str, Any]) -> Iterator[Any]:
    """What stands where the names of passwords may stand in a file, or in an overlay of it."""
    edge, services = table.get("edge"), table.get("service")
    places = edge.get("private") if isinstance(edge, dict) else None
    tables = list(places.values()) if isinstance(places, dict) else []
    every = services.values() if isinstance(services, dict) else ()
    tables += [service.get("private") for service in every if isinstance(service, dict)]
    for one in tables:
        login = one.get("login") if isinstance(one, dict) else one
        yield from login.values() if isinstance(login, dict) else [login]
    registries = table.get("registries")
    for one in registries.values() if isinstance(registries, dict) else ():
        yield one.get("password") if isinstance(one, dict) else None


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    session = ctx.find_root().ensure_object(Session)
    if param.name == "target" and value not in TARGETS:
        raise errors.UsageError(
            f"--target {value}: not implemented in this version (have: {', '.join(TARGETS)})"
        )
    setattr(session, str(param.name), value)


def _options() -> list[click.Option]:
    def option(*names: str, **how: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_set, **how)

    return [
        option(
            "-f",
            "--file",
            "given_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help=f"Stack file; absent: {FILE} here or in a folder above.",
        ),
        option(
            "--for",
            "overlay",
            metavar="ENVIRONMENT",
            envvar="GAPLESS_FOR",
            help="Overlay of the file, say staging (or GAPLESS_FOR).",
        ),
        option(
            "--target",
            metavar="TARGET",
            help=f"Where it runs; in this version: {', '.join(TARGETS)}.",
        ),
        option("--json", is_flag=True, help="Answer as JSON on stdout."),
        option("--timeout", type=duration, metavar="TIME", help="Wait no longer than this."),
        option("-y", "--yes", is_flag=True, help="Answer yes to every question."),
    ]


def share_options(command: click.Command, *, top: bool = False) -> click.Command:
    """Give a command (and what is below it) the global options, where it has not its own meaning.

    Below the top the environment is not asked again: what was written there would override
    what was written before the command's name.
    """
    taken = {name for param in command.params for name in param.opts}
    for option in _options():
        option.opts = [name for name in option.opts if name not in taken]
        if not top:
            option.envvar = None
            option.hidden = True
        if option.opts and option.name not in {param.name for param in command.params}:
            command.params.append(option)
    if not top and command.epilog is None:
        command.epilog = "Also: -f FILE, --for ENVIRONMENT, --json, --timeout TIME, -y."
    if isinstance(command, click.Group) and not top:
        for name in command.list_commands(click.Context(command)):
            if (child := command.commands.get(name)) is not None:
                share_options(child)
    return command
