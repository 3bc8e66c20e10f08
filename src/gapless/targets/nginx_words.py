"""Foreign values as words that nginx cannot misread, or a refusal. Pure.

nginx ends a word at white space, ``;`` and braces unless it is quoted, takes backslashes within
quotes as escapes, and puts in variables (``$name``) in both kinds of quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from gapless import errors
from gapless.model.process import Address


def quote(value: str, *, what: str = "value", variables: bool = True) -> str:
    """One word in single quotes. ``variables``: whether nginx would put some in at that place.

    Raises UsageError for what quoting cannot hold.
    """
    forbidden = "'\\$" if variables else "'\\"
    if not value or not value.isprintable() or any(mark in value for mark in forbidden):
        raise errors.UsageError(
            f"nginx: {what} holds a character that its files cannot: {value!r}",
            hint="quotes, backslashes, dollar and control characters have a meaning there",
        )
    return f"'{value}'"


def plain(value: str) -> str:
    """Text that means itself within double quotes, where variables stand beside it.

    Raises UsageError for what they cannot hold.
    """
    if not value.isprintable() or any(mark in value for mark in '"\\$'):
        raise errors.UsageError(f"nginx: not a possible text: {value!r}")
    return value


def text(value: str, stack: str) -> str:
    """Any line of text as one word. A dollar comes out of a variable (see ``dollar``)."""
    if not value.isprintable():
        raise errors.UsageError(f"nginx: not one line of text: {value!r}")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("$", f"${{{name(stack, 'dollar')}}}") + '"'


def dollar(stack: str) -> list[str]:
    """For ``http``: the one way to a dollar sign where variables are put in."""
    return [f"geo ${name(stack, 'dollar')} {{", '    default "$";', "}"]


def header(value: str) -> str:
    """The name of a header. Raises UsageError."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", value):
        raise errors.UsageError(f"nginx: not a possible name of a header: {value!r}")
    return value


def name(*parts: str) -> str:
    """A name for upstreams and variables: ``chat-staging``, ``web`` to ``chat_staging_web``."""
    made = "_".join(parts).replace("-", "_")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,120}", made):
        raise errors.UsageError(f"nginx: not a possible name: {made!r}")
    return made


def path(value: str) -> str:
    """A path of a location. nginx compares it with decoded paths, so it cannot be an encoded one.

    Raises UsageError.
    """
    if not value.startswith("/") or "%" in value:
        raise errors.UsageError(
            f"nginx: not a possible path of a route: {value!r}",
            hint="write it decoded, beginning with /",
        )
    return quote(value, what="a path", variables=False)


def below(value: str, *, case: bool = True) -> str:
    """A pattern of a map on ``$uri``, which is decoded, without ``//`` and ``/./``: that path and
    all below it, with and without the ``;parameters`` that many applications do not read.

    ``case`` False: in capitals, too. Raises UsageError.
    """
    path(value)
    skipped, parameters = r"(?:/\.*;[^/]*)*", r"(?:;[^/]*)?"
    parts = [re.escape(part) for part in value.split("/") if part]
    stem = "".join(f"{skipped}/{part}{parameters}" for part in parts)
    return f"{'~' if case else '~*'}^{stem}(?:/|$)" if parts else "~^"


def host(value: str) -> str:
    """A server name. Raises UsageError."""
    if not re.fullmatch(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value):
        raise errors.UsageError(
            f"nginx: not a possible host name: {value!r}",
            hint="a wildcard stands for whole labels: *.example.com",
        )
    return value


def server(where: Address) -> str:
    """An address of an upstream. Raises UsageError."""
    if where.socket is not None:
        if not re.fullmatch(r"/[A-Za-z0-9._/@:+-]{1,106}", where.socket):
            raise errors.UsageError(f"nginx: not a possible socket path: {where.socket!r}")
        return f"unix:{where.socket}"
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]+\]", where.host or ""):
        raise errors.UsageError(f"nginx: not a possible address: {where}")
    return f"{where.host}:{int(where.port or 0)}"


def network(value: str) -> str:
    """An address or network. Raises UsageError."""
    if not re.fullmatch(r"[0-9a-fA-F:.]{2,45}(/\d{1,3})?", value):
        raise errors.UsageError(f"nginx: not an address or network: {value!r}")
    return value


def milliseconds(seconds: float) -> str:
    """A time, 1 ms to 24 days."""
    return f"{min(2**31 - 1, max(1, round(seconds * 1000)))}ms"


def seconds(span: float) -> str:
    """A time where nginx takes whole seconds only: rounded up."""
    return f"{max(1, math.ceil(span))}s"


def listen(value: str) -> str:
    """``*:80`` to ``80``: what is on every address; others stay. Checked by ``words.bind``."""
    return value.removeprefix("*:")


def inside(lines: Sequence[str]) -> list[str]:
    """As they stand within a block."""
    return [f"    {line}" for line in lines]
