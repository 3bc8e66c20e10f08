"""Where things are printed: data to stdout, progress and faults to stderr.

Rich is imported only for a terminal. A pipe gets plain aligned lines: no colour, no boxes, no
line that is cut to a width.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from gapless import errors

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


def clean(text: object) -> str:
    """Text from elsewhere, without the control characters that could repaint a terminal."""
    return _CONTROL.sub("�", str(text))


def data(text: str) -> None:
    """A line of the answer."""
    click.echo(text)


def progress(text: str) -> None:
    """A line about what goes on."""
    click.echo(text, err=True)


def as_json(value: Any) -> None:
    """The answer as one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def fault(error: errors.GaplessError, *, as_document: bool) -> None:
    """An error in the two forms it has: text with its hint on stderr, or JSON on stdout."""
    if as_document:
        as_json(error.as_dict() | {"exit_code": error.exit_code})
        return
    click.echo(error.message, err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def colourful(stream: Any = None) -> bool:
    """Whether this stream is a terminal that wants more than plain lines."""
    stream = sys.stdout if stream is None else stream
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


STYLES = {
    "ready": "green",
    "running": "green",
    "starting": "yellow",
    "draining": "yellow",
    "parked": "cyan",
    "stopped": "dim",
    "unhealthy": "red",
    "backing-off": "red",
    "failed": "red",
    "dead": "red",
}
"""Colour of a state; the word itself always stands beside it."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain aligned columns; numbers are text already. The last column is not padded."""
    lines = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rich_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """The same as a rich table (for terminals and live screens)."""
    import rich.box
    import rich.table
    import rich.text

    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in heads:
        drawn.add_column(head, no_wrap=True)
    for row in rows:
        cells = [clean(cell) for cell in row]
        drawn.add_row(*(rich.text.Text(cell, STYLES.get(cell.split(" ")[0], "")) for cell in cells))
    return drawn


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table of the answer, drawn as the terminal or pipe wants it."""
    if not colourful():
        data(table(heads, rows))
        return
    import rich.console

    rich.console.Console(highlight=False).print(rich_table(heads, rows))


def ask(question: str, *, yes: bool) -> None:
    """Go on only with a yes. Raises Refused on a no, UsageError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.UsageError(f"{question} Nobody is there to be asked", hint="say so with -y")
    if not click.confirm(question, default=False, err=True):
        raise errors.Refused("not confirmed; nothing was changed")
