"""Placeholders: ``${name.attribute}``, ``${secret.X}``, ``${env.X:-default}``, ``${socket}``.

Pure text work. Which placeholder may stand where is told in ``mentions``; what it stands for is
the engine's to know.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gapless import errors

if TYPE_CHECKING:
    from gapless.model.service import Job, Service
    from gapless.model.stack import Stack

OWN = ("socket", "host", "port", "replica", "release")
"""What a replica may ask of itself. A job has a release only."""
SERVICE = ("url", "host", "port")
"""What may be asked of an HTTP service: the edge's listener for it, never one replica's."""
SECRET_ATTRIBUTES = frozenset({"url", "pool_url", "replica_url", "password"})
"""Attributes of a store that hold its password."""

_MARK = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_NAMED = re.compile(r"([a-z][a-z0-9-]*)\.([A-Za-z_][A-Za-z0-9_]*)(\|url)?")
_SECRET = re.compile(r"secret\.([A-Za-z_][A-Za-z0-9_]*)(\|url)?")
_ENV = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reference:
    """One placeholder.

    ``kind`` ``own``: ``name`` is socket, host, port, replica or release. ``secret``, ``env``:
    ``name`` is the variable's. ``attribute``: ``name`` is a store's or service's, ``attribute``
    what is asked of it. ``encode``: percent-encode the value (``|url``). ``default``: of an
    environment variable that is not set.
    """

    kind: Literal["own", "secret", "env", "attribute"]
    name: str
    attribute: str = ""
    default: str | None = None
    encode: bool = False

    def __str__(self) -> str:
        inner = f"{self.name}.{self.attribute}" if self.kind == "attribute" else self.name
        if self.kind in ("secret", "env"):
            inner = f"{self.kind}.{self.name}"
        if self.default is not None:
            inner += f":-{self.default}"
        return f"${{{inner}{'|url' if self.encode else ''}}}"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A ``${`` that begins no placeholder; ``fault`` says why."""

    text: str
    fault: str


def scan(text: str) -> Iterator[Reference | Malformed]:
    """Every placeholder of a text, the faulty ones too; ``$${`` is none."""
    for found in _MARK.finditer(text):
        if found[0] != "$${":
            yield _reference(found)


def positions(text: str) -> Iterator[re.Match[str]]:
    """Where a text has placeholders, and ``$${``, which is none."""
    return _MARK.finditer(text)


def of(texts: Iterable[str]) -> tuple[Reference, ...]:
    """The sound placeholders of some texts, each once, in order."""
    found = (piece for text in texts for piece in scan(text))
    return tuple(dict.fromkeys(piece for piece in found if isinstance(piece, Reference)))


def substitute(text: str, lookup: Callable[[Reference], str]) -> str:
    """The text with each placeholder replaced by ``lookup(reference)``, ``$${`` by ``${``.

    ``lookup`` gives the bare value; ``|url`` is applied here. Values are never looked at for
    placeholders again. Raises UsageError for what is no placeholder (a checked file has none),
    and whatever ``lookup`` raises.
    """

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        piece = _reference(found)
        if isinstance(piece, Malformed):
            raise errors.UsageError(f"{piece.text}: {piece.fault}")
        value = lookup(piece)
        return urllib.parse.quote(value, safe="") if piece.encode else value

    return _MARK.sub(replaced, text)


def environment(reference: Reference, environ: Mapping[str, str]) -> str:
    """The value of an ``${env.X}``: the variable, else its default. Raises UsageError."""
    value = environ.get(reference.name)
    if not value and reference.default is not None:
        return reference.default
    if value is None:
        raise errors.UsageError(
            f"{reference}: the environment has no {reference.name}",
            hint=f"set it, or write ${{env.{reference.name}:-DEFAULT}}",
        )
    return value


def texts(stack: Stack, owner: Service | Job) -> tuple[str, ...]:
    """All texts of a service or job that are substituted, the root's environment included."""
    command = getattr(owner, "ready", None)
    return (
        *owner.run,
        *(owner.entrypoint or ()),
        *(volume.source for volume in owner.volumes.values()),
        *({**stack.env, **owner.env}).values(),
        *(command.command or () if command is not None else ()),
    )


def contained(stack: Stack, owner: Service | Job) -> tuple[Reference, ...]:
    """What it asks of stores in containers."""
    found = (one for one in of(texts(stack, owner)) if one.kind == "attribute")
    return tuple(one for one in found if one.name in stack.data and stack.data[one.name].contained)


def dependencies(stack: Stack) -> Mapping[str, tuple[str, ...]]:
    """Service or job to the stores and private services that it refers to: these come first.

    A published service is no dependency: its address is the edge's, known from the start.
    """
    private = {name for name, s in stack.services.items() if s.http and s.route is None}
    wanted = {*stack.data, *private}
    owners: dict[str, Service | Job] = {**stack.services, **stack.jobs}
    return {
        name: tuple(
            dict.fromkeys(
                reference.name
                for reference in of(texts(stack, owner))
                if reference.kind == "attribute"
                and reference.name in wanted
                and reference.name != name
            )
        )
        for name, owner in owners.items()
    }


def _reference(found: re.Match[str]) -> Reference | Malformed:
    whole, body = found[0], found[1]
    if not found[2]:
        shown = whole if len(whole) <= 40 else f"{whole[:37]}..."
        return Malformed(shown, 'has no closing "}" (a bare "${" is written "$${")')
    if body in OWN:
        return Reference("own", body)
    if match := _SECRET.fullmatch(body):
        return Reference("secret", match[1], encode=bool(match[2]))
    if match := _ENV.fullmatch(body):
        return Reference("env", match[1], default=match[2])
    if match := _NAMED.fullmatch(body):
        return Reference("attribute", match[1], match[2], encode=bool(match[3]))
    return Malformed(whole, _why(body))


def _why(body: str) -> str:
    if not body.strip():
        return "is empty"
    if body != body.strip():
        return "holds white space: placeholders are written without"
    _, bar, encoding = body.partition("|")
    if bar and encoding != "url":
        return f'unknown encoding "{encoding}" (have: url)'
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(:-.*)?", body):
        name = body.partition(":")[0]
        return (
            f'nothing is named "{name}" (have: {", ".join(OWN)});'
            f" an environment variable is ${{env.{name}}}, a secret ${{secret.{name}}}"
        )
    return "is no placeholder: write ${name.attribute}, ${secret.NAME} or ${env.NAME:-default}"
