"""The group ``gapless``: global options, commands loaded when named, errors as text and exit code.

Bash, zsh and fish complete: ``eval "$(_GAPLESS_COMPLETE=bash_source gapless)"``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gapless import __version__, errors
from gapless.cli import out, session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "init": ("files", "Write a gapless.toml for this folder."),
        "import": ("imports", "Write a gapless.toml of Compose files."),
        "check": ("files", "Every error in the file at once."),
        "show": ("files", "The file as understood, with the origin of each value."),
        "schema": ("files", "JSON Schema of the file."),
        "docs": ("files", "Reference of the file's keys."),
        "render": ("targets", "Files for nginx, HAProxy or Compose."),
    },
    "Run": {
        "up": ("lifecycle", "Start the controller and the stack."),
        "down": ("lifecycle", "Stop everything; data is kept."),
        "wait": ("lifecycle", "Block until ready."),
        "scale": ("change", "Set the number of replicas: web=5."),
        "restart": ("change", "Replace all replicas of a service, without a gap."),
        "stop": ("change", "Stop a service."),
        "start": ("change", "Start a stopped service."),
        "install": ("install", "Boot with the machine (systemd unit)."),
        "maintenance": ("change", "Show the maintenance page, or hold requests."),
    },
    "Release": {
        "plan": ("change", "What would change, and why."),
        "deploy": ("change", "Release the present code; nothing is dropped."),
        "build": ("change", "Make a release without deploying it."),
        "rollback": ("change", "Back to an earlier release."),
        "abort": ("change", "Undo the deploy under way."),
        "releases": ("look", "What is kept."),
        "prune": ("lifecycle", "Remove releases that nothing needs."),
    },
    "Look": {
        "ps": ("look", "State of each replica, store and the edge."),
        "describe": ("look", "One thing in full."),
        "top": ("look", "Use of cpu and memory, live."),
        "metrics": ("look", "State and counters, for Prometheus."),
        "logs": ("logs", "Merged logs."),
        "history": ("look", "Who changed what, when and why."),
        "drill": ("drill", "Prove a promise against the running stack."),
        "lock": ("look", "Who may write."),
        "version": ("look", "Version of gapless and of the controller."),
    },
    "Inside": {
        "run": ("inside", "A one-off with a service's code and environment."),
        "exec": ("inside", "A command beside a running replica."),
        "connect": ("inside", "A store's own shell."),
        "secret": ("secret", "Values of secrets."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
"""Name to (module in this package, one line of help). Modules load when their command is named."""


class Main(click.Group):
    """Loads a command's module when it is named, and turns every error into text."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"gapless.cli.{COMMANDS[cmd_name][0]}")
        except ModuleNotFoundError as error:
            if error.name != f"gapless.cli.{COMMANDS[cmd_name][0]}":
                raise
            raise errors.UsageError(f"{cmd_name}: not implemented in this version") from None
        for attribute in (cmd_name, f"{cmd_name}_", f"{cmd_name}_command"):
            if isinstance(command := getattr(module, attribute, None), click.Command):
                return session.share_options(command)
        raise errors.UsageError(f"{cmd_name}: not implemented in this version")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], [*COMMANDS])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry[1]) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names without loading what is behind them."""
        from click.shell_completion import CompletionItem

        found = [name for name in COMMANDS if name.startswith(incomplete)]
        if found and not incomplete.startswith("-"):
            return [CompletionItem(name, help=COMMANDS[name][1]) for name in found]
        return super().shell_complete(ctx, incomplete)

    def main(  # type: ignore[override]  # one way of ending: always by an exit code
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> None:
        """Run the command line and leave with its exit code (SystemExit)."""
        words = sys.argv[1:] if args is None else list(args)
        extra.setdefault("obj", session.Session())
        # Also set when the words themselves are wrong, before they were understood.
        ours = words[: words.index("--")] if "--" in words else words
        as_document = "--json" in ours
        try:
            code = super().main(
                words, prog_name or "gapless", complete_var, standalone_mode=False, **extra
            )
        except BaseException as error:
            code = _explain(error, as_document)
        raise SystemExit(code if isinstance(code, int) else 0)


def unknown(kind: str, given: str, have: Sequence[str]) -> errors.UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    import difflib

    near = difflib.get_close_matches(given, have, 1)
    return errors.UsageError(
        f'no {kind} "{out.clean(given)}"' + (f'; did you mean "{near[0]}"?' if near else ""),
        hint="gapless --help" if kind == "command" else None,
    )


def _explain(error: BaseException, as_document: bool) -> int:
    """Print what went wrong; the exit code."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case errors.GaplessError():
            out.fault(error, as_document=as_document)
            return error.exit_code
        case BrokenPipeError():
            # Whoever reads has gone; keep the interpreter from complaining at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case KeyboardInterrupt() | click.Abort() | EOFError():
            click.echo("", err=True)
            return 130
        case click.ClickException():
            return _usage(error, as_document)
        case _:
            return _internal(error, as_document)


def _usage(error: click.ClickException, as_document: bool) -> int:
    hint = None
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        import difflib

        near = difflib.get_close_matches(error.option_name, error.possibilities, 1, 0.0)
        hint = f"did you mean {near[0]}?"
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        message = f"no such option: {error.option_name}"
    out.fault(errors.UsageError(message, hint=hint), as_document=as_document)
    return 2


def _internal(error: BaseException, as_document: bool) -> int:
    if os.environ.get("GAPLESS_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split()) or "no message"
    wrapped = errors.GaplessError(
        f"internal error: {type(error).__name__}: {text}; please report it",
        hint="GAPLESS_DEBUG=1 shows where",
    )
    out.fault(wrapped, as_document=as_document)
    return 1


@click.group(
    cls=Main,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Options stand before or after the command. Exit: 0 done, 1 the work failed, 2 wrong "
    "usage or invalid file, 3 no controller, 4 refused or aborted with the old state still "
    'serving. Completion: eval "$(_GAPLESS_COMPLETE=bash_source gapless)" (or zsh, fish).',
)
@click.version_option(__version__, message="gapless %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """One file runs a web application: deploys that drop nothing, and the proof of it."""
    ctx.ensure_object(session.Session)


session.share_options(main, top=True)
