"""Foreign values as words that HAProxy cannot misread, or a refusal. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from gapless import errors
from gapless.model.process import Address

CHUNK = 40
"""Values of a list in one line."""


def quote(value: str, *, what: str = "value") -> str:
    """One argument of HAProxy's configuration. Raises UsageError for what quoting cannot hold."""
    if "'" in value or not value.isprintable():
        raise errors.UsageError(
            f"edge: {what} holds a quote or a control character: {value!r}",
            hint="such a character cannot be written into the edge's configuration",
        )
    return f"'{value}'"


def literal(value: str, more: str = "", *, what: str = "value") -> str:
    """One argument that HAProxy would format: nothing of ``value`` is expanded, ``more`` is.

    Raises UsageError for control characters.
    """
    if not value.isprintable():
        raise errors.UsageError(f"edge: {what} holds a control character: {value!r}")
    text = value.replace("%", "%%").replace("'", "'\\''")
    return f"'{text}{more}'"


def argument(value: str) -> str:
    """One argument of a converter, for a word that stands in single quotes. Raises UsageError."""
    quote(value)
    if any(sign in value for sign in '"\\'):
        raise errors.UsageError(f"edge: value holds a quote or a backslash: {value!r}")
    return f'"{value}"'


def identifier(value: str, *, what: str = "name") -> str:
    """A name as HAProxy allows it. ``@`` of ``web.1@r12`` becomes ``:``."""
    name = value.replace("@", ":")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,120}", name):
        raise errors.UsageError(f"edge: not a possible {what}: {value!r}")
    return name


def token(value: str) -> str:
    """A cookie value of our own making. Raises UsageError for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise errors.UsageError(f"edge: not a possible cookie token: {value!r}")
    return value


def server_id(name: str, where: Address, cookie: str | None) -> int:
    """A number that changes with address and cookie: how a look tells a stale server by itself."""
    seed = f"{name}\0{where}\0{cookie}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()[:4]) % (2**31 - 2) + 1


def address(where: Address) -> str:
    """Where a server is, as HAProxy writes it. Raises UsageError."""
    if where.socket is not None:
        if not where.socket.startswith("/") or not where.socket.isprintable():
            raise errors.UsageError(f"edge: not a possible socket path: {where.socket!r}")
        return f"unix@{where.socket}"
    host = where.host or ""
    if not re.fullmatch(r"[A-Za-z0-9.:-]{1,253}|\[[0-9a-fA-F:]+\]", host):
        raise errors.UsageError(f"edge: not a possible server address: {where}")
    return f"{host}:{int(where.port or 0)}"


def milliseconds(seconds: float) -> str:
    """A time as HAProxy's timers take it: 1 ms to 24 days."""
    if not math.isfinite(seconds):
        raise errors.UsageError(f"edge: not a possible time: {seconds}")
    return f"{min(2**31 - 1, max(1, round(seconds * 1000)))}ms"


def bind(address: str) -> str:
    """``host:port``, ``*:port`` or ``[v6]:port``. Raises UsageError."""
    found = re.fullmatch(r"(\*|[0-9.]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address)
    if not found or not 0 < int(found[2]) < 65536:
        raise errors.UsageError(
            f"edge: not an address to listen on: {address!r}", hint='say "127.0.0.1:8080"'
        )
    return address


def word(value: str) -> str:
    """A path or host name: one quoted argument without white space."""
    if not value or " " in value:
        raise errors.UsageError(f"edge: not a possible path or host: {value!r}")
    return quote(value)


def network(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F:.]{2,45}(/\d{1,3})?", value):
        raise errors.UsageError(
            f"edge: not an address or network: {value!r}", hint='say "10.0.0.0/8"'
        )
    return quote(value)


def acl(name: str, test: str, values: Sequence[str]) -> list[str]:
    """Lines of one list, which as many values as one likes are in; ``test``: what of a request is
    compared, and how. HAProxy takes 64 words a line; lines of one name are one list."""
    chunks = (values[at : at + CHUNK] for at in range(0, len(values), CHUNK))
    return [f"acl {name} {test} -- {' '.join(chunk)}" for chunk in chunks]


def networks(name: str, known: Sequence[str]) -> list[str]:
    """Lines of an acl that holds for clients with one of these addresses. Raises UsageError."""
    return acl(name, "src -m ip", [network(one) for one in known])


def precedence(path: str, host: str | None) -> tuple[int, int, int, str]:
    """A named host before a wildcard before any; within one, longer paths first."""
    name = host or ""
    kind = 2 if not name else 1 if name.startswith("*") else 0
    return (kind, -len(name), -len(path), path)


def condition(path: str, host: str | None, *more: str) -> str:
    """`` if …``: requests for that host and below that path, when ``more`` tests hold too."""
    tests = [*more]
    if host is not None and host != "*":
        wild = host.startswith("*")
        pattern = host[1:] if wild else host
        match = "end" if wild else "str"
        tests.append(f"{{ req.hdr(host),host_only,lower -m {match} -- {word(pattern.lower())} }}")
    stem = path.rstrip("/")
    if stem:
        below = f"{{ path -m beg -- {word(stem + '/')} }}"
        exact = f"{{ path -m str -- {word(stem)} }}"
        others = " ".join(tests)
        return f" if {others} {below} or {others} {exact}".replace("  ", " ")
    return f" if {' '.join(tests)}" if tests else ""
