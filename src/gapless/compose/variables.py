"""Variables in values: ``$X``, ``${X}``, ``${X:-default}``, ``${X:?why}``, ``${X:+other}``, ``$$``.

A value is split into pieces first; what they stand for is asked afterwards, once as Compose would
(``resolve``) and once as the stack file can say it (``incoming`` makes references of them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
DEEPEST = 20


class Malformed(ValueError):
    """A ``$`` that begins no variable; the message says why."""


@dataclass(frozen=True, slots=True)
class Variable:
    """``operator``: "" or one of ``:- - :? ? :+ +``; ``rest``: what stands behind it."""

    name: str
    operator: str = ""
    rest: tuple[Piece, ...] = ()


Piece = str | Variable


class Missing(Exception):
    """A variable that must be there (``:?``) is not."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name)
        self.name, self.why = name, why


def split(text: str) -> tuple[Piece, ...]:
    """The pieces of a value. Raises Malformed."""
    pieces, end = _split(text, 0, closing=False, depth=0)
    assert end == len(text)  # noqa: S101  # only a closing brace ends it sooner
    return pieces


def resolve(pieces: tuple[Piece, ...], environ: Mapping[str, str], *, lenient: bool = False) -> str:
    """The value with variables replaced; those that are not set are empty.

    Raises Missing for one that must be there; ``lenient``: that one is empty too.
    """
    return "".join(
        piece if isinstance(piece, str) else _value(piece, environ, lenient) for piece in pieces
    )


def names(pieces: tuple[Piece, ...]) -> tuple[str, ...]:
    """The variables that a value asks for, those within defaults too."""
    found: list[str] = []
    for piece in pieces:
        if isinstance(piece, Variable):
            found += [piece.name, *names(piece.rest)]
    return tuple(dict.fromkeys(found))


def _value(variable: Variable, environ: Mapping[str, str], lenient: bool) -> str:
    value = environ.get(variable.name)
    operator = variable.operator
    there = bool(value) if operator.startswith(":") else value is not None
    match operator.lstrip(":"):
        case "-" if not there:
            return resolve(variable.rest, environ, lenient=lenient)
        case "?" if not there and not lenient:
            raise Missing(variable.name, resolve(variable.rest, environ))
        case "+":
            return resolve(variable.rest, environ, lenient=lenient) if there else ""
    return value or ""


def _split(text: str, at: int, *, closing: bool, depth: int) -> tuple[tuple[Piece, ...], int]:
    """Pieces up to the end, or to the ``}`` that closes; and where that is."""
    if depth > DEEPEST:
        raise Malformed("variables within variables, too deep")
    pieces: list[Piece] = []
    while at < len(text):
        stop = min((i for i in (text.find("$", at), _closing(text, at, closing)) if i >= 0),
                   default=len(text))  # fmt: skip
        _add(pieces, text[at:stop])
        at = stop
        if at == len(text) or text[at] == "}":
            break
        if text.startswith("$$", at):
            _add(pieces, "$")
            at += 2
        elif text.startswith("${", at):
            piece, at = _braced(text, at, depth)
            pieces.append(piece)
        elif name := _NAME.match(text, at + 1):
            pieces.append(Variable(name[0]))
            at = name.end()
        else:
            raise Malformed('"$" begins no variable: a bare "$" is written "$$"')
    return tuple(pieces), at


def _closing(text: str, at: int, closing: bool) -> int:
    return text.find("}", at) if closing else -1


def _braced(text: str, at: int, depth: int) -> tuple[Variable, int]:
    name = _NAME.match(text, at + 2)
    if name is None:
        raise Malformed('"${" is followed by no name: a bare "${" is written "$${"')
    end = name.end()
    if text.startswith("}", end):
        return Variable(name[0]), end + 1
    operator = next((op for op in _OPERATORS if text.startswith(op, end)), None)
    if operator is None:
        shown = "" if end == len(text) else f", got {text[end]!r}"
        raise Malformed(f'"${{{name[0]}" needs "}}" or one of :- - :? ? :+ +{shown}')
    rest, end = _split(text, end + len(operator), closing=True, depth=depth + 1)
    if not text.startswith("}", end):
        raise Malformed(f'"${{{name[0]}{operator}" has no closing "}}"')
    return Variable(name[0], operator, rest), end + 1


def _add(pieces: list[Piece], text: str) -> None:
    if not text:
        return
    if pieces and isinstance(pieces[-1], str):
        pieces[-1] += text
    else:
        pieces.append(text)
