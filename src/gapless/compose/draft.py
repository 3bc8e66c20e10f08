"""What an import has found out so far: names, secrets, and what each service is told."""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gapless.compose import dotenv, variables
from gapless.compose.forms import text
from gapless.compose.ledger import Ledger
from gapless.compose.project import Project, Reader
from gapless.compose.tree import Leaf, Map, Node, Scalar, Seq, line_of, scalars
from gapless.errors import GaplessError
from gapless.model.stack import RESERVED
from gapless.stackfile import init

SECRET = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|PRIVATE_?KEY|API_?KEY|ACCESS_?KEY|"
    r"ENCRYPTION_?KEY|SIGNING_?KEY|(^|_)PASS$|(^|_)PW$|(^|_)PWD$|(^|_)SALT$|SECRET_?KEY|"
    r"(APP|MASTER|SERVER|JWT|FERNET|ENC|CRYPTO|HMAC|AUTH|LICENSE|ANON|ROLE|SERVICE|SESSION|COOKIE|"
    r"HASH|ADMIN|INTERNAL)_?KEY$|ERLANG_COOKIE$|(^|_)DSN$)",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"(_FILE|_PATH|_DIR|_URL|_TTL|_EXPIR\w*|_LENGTH|_HEADER|_NAME|_ID|ALLOW_EMPTY_PASSWORD|RANDOM_ROOT_PASSWORD)$",
    re.I,
)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
MOUNTED = "/run/secrets/"


@dataclass(frozen=True, slots=True)
class Told:
    """One variable of a service: what it is told, and where that stands.

    ``text``: as Compose would have it; None: the environment's own. ``raw``: with variables.
    """

    name: str
    text: str | None
    raw: str | None
    node: Node | None
    place: str


@dataclass(frozen=True, slots=True)
class Secret:
    """``place``: where its value stands now, as ``FILE:LINE``; "" where nobody has it."""

    name: str
    value: str | None
    place: str


@dataclass(slots=True)
class Draft:
    """``roles``: what each service becomes: service, job, data, edge or lost."""

    project: Project
    ledger: Ledger
    read: Reader
    names: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, Told]] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    mounted: dict[str, str] = field(default_factory=dict)
    """Secret of the Compose file to its name here."""
    ports: dict[str, int] = field(default_factory=dict)
    """Service to the port where it speaks HTTP."""
    files: dict[str, str] = field(default_factory=dict)
    """Volume to the files store made of it."""
    written: dict[str, str] = field(default_factory=dict)
    """File of the source folder to the text that the stack file counts on there."""
    tree: dict[str, Any] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)

    def items(self, service: str) -> dict[str, Node]:
        """The keys of a service."""
        return self.project.services[service].items

    def secret(self, name: str, value: str | None, place: str, service: str = "") -> str:
        """The name of a secret with this value; another one where the name is taken."""
        wanted = [name, f"{upper(service)}_{name}", *(f"{name}_{n}" for n in range(2, 1000))]
        for one in wanted:
            have = self.secrets.get(one)
            if have is None or have.value == value or value is None:
                self.secrets.setdefault(one, Secret(one, value, place))
                return one
        raise AssertionError("a thousand secrets of one name")

    def look(self, path: str) -> str | None:
        """The text of what is mounted; None where there is no such file. That may be anything: of
        what is no text, or too large for a configuration, nothing is known ("")."""
        try:
            return self.read(path)
        except GaplessError:
            return ""

    def value(self, node: Node | None, what: str) -> str:
        """The text of a value, where a variable that is missing is a fault."""
        if isinstance(node, Scalar) and node.kind == "missing":
            pieces = variables.split(node.raw or "")
            try:
                variables.resolve(pieces, self.project.environ)
            except variables.Missing as missing:
                raise self.project.fault(
                    node,
                    f"{what}: {missing.name} has no value ({missing.why or 'it must be set'}): "
                    "set it in .env or in the environment",
                ) from None
        return text(node)


def upper(name: str) -> str:
    """A name as variables are written."""
    made = re.sub(r"[^A-Za-z0-9]+", "_", name).upper().strip("_")
    return made if made[:1].isalpha() else f"S_{made}"


def naming(draft: Draft) -> None:
    """Names that the stack file allows, each once."""
    taken = set(RESERVED)
    for name in draft.project.services:
        draft.names[name] = unique(name, taken)


def unique(name: str, taken: set[str]) -> str:
    """The nearest valid name that is free; it is taken then."""
    plain = init.stack_name(name)
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain[:28].rstrip('-')}-{number}"
    taken.add(found)
    return found


def place_of(leaf: Leaf | None) -> str:
    """``FILE:LINE``."""
    return "" if leaf is None else f"{leaf.file}:{leaf.line}"


def tell(draft: Draft) -> None:
    """What each service is told: the files of variables, and above them its own table."""
    for name in draft.project.services:
        items = draft.items(name)
        found: dict[str, Told] = {}
        files = items.get("env_file")
        for item in files.items if isinstance(files, Seq) else []:
            _file(draft, item, found)
        table = items.get("environment")
        if isinstance(table, Map):
            for key, node in table.items.items():
                found[key] = _own(draft, key, node)
        draft.told[name] = found


def _own(draft: Draft, key: str, node: Node) -> Told:
    place = place_of(line_of(node))
    if isinstance(node, Scalar) and node.kind == "null":
        return Told(key, None, None, node, place)
    raw = node.raw if isinstance(node, Scalar) else None
    return Told(key, said(node), raw, node, place)


def said(node: Node) -> str:
    """A scalar as Compose writes it into an environment: numbers are numbers to it."""
    if not isinstance(node, Scalar):
        return ""
    plain = node.text.replace("_", "")
    if node.kind == "bool":
        return node.text.lower()
    if node.kind == "float" and re.search(r"[0-9]", plain):
        return f"{float(plain):.15g}"
    if node.kind == "int":
        sign, digits = (plain[:1], plain[1:]) if plain[:1] in "+-" else ("", plain)
        if re.fullmatch(r"0[0-7]+", digits):
            digits = str(int(digits, 8))
        elif digits[:2].lower() in ("0x", "0o", "0b"):
            digits = str(int(digits, 0))
        return f"-{digits}" if sign == "-" else digits
    return node.text


def _file(draft: Draft, item: Node, found: dict[str, Told]) -> None:
    ledger = draft.ledger
    table = item.items if isinstance(item, Map) else {"path": item}
    path = draft.value(table.get("path"), "env_file")
    raw = text(table.get("format")) == "raw"
    required = text(table.get("required")).lower() not in ("false", "no", "off")
    content = draft.read(posixpath.normpath(path)) if path else None
    if content is None:
        if required:
            ledger.refused(item, f"{path}: there is no such file, so its variables are missing")
        else:
            ledger.kept(item, f"{path}: not there, and it need not be")
        return
    entries = dotenv.parse(content, path, draft.project.environ, raw=raw)
    for name, entry in entries.items():
        found[name] = Told(name, entry.value, None, None, f"{entry.file}:{entry.line}")
    ledger.kept(item, f"{len(entries)} variables, as env of the service")


def escape(plain: str) -> str:
    """A text in which nothing is a placeholder."""
    return plain.replace("${", "$${")


def secretive(name: str) -> bool:
    """Whether what is called so is a secret."""
    return bool(SECRET.search(name)) and not _PLAIN.search(name)


def template(draft: Draft, raw: str | None, plain: str, *, secrets: bool) -> str:
    """A value with its variables as placeholders: ``${env.X:-now}``, ``${secret.X}``."""
    if raw is None:
        return escape(plain)
    made = ""
    for piece in variables.split(raw):
        made += escape(piece) if isinstance(piece, str) else _piece(draft, piece, secrets)
    return made


def _piece(draft: Draft, piece: variables.Variable, secrets: bool) -> str:
    project = draft.project
    value = project.environ.get(piece.name)
    if secrets and told_secret(piece):
        place = project.known.get(piece.name, "")
        return f"${{secret.{draft.secret(piece.name, value, place)}}}"
    if secretive(piece.name) and secrets and piece.operator.lstrip(":") != "+":
        if value is None and piece.operator.lstrip(":") == "-":
            now = variables.resolve((piece,), project.environ)
            if not now:
                return f"${{env.{piece.name}:-}}"
            value = now
        place = project.known.get(piece.name, "")
        return f"${{secret.{draft.secret(piece.name, value, place)}}}"
    try:
        now = variables.resolve((piece,), project.environ)
    except variables.Missing:
        return f"${{env.{piece.name}}}"
    if piece.operator.lstrip(":") == "+" or re.search(r"[{}]", now):
        return escape(now)
    return f"${{env.{piece.name}:-{now}}}"


def worth(draft: Draft, node: Node | None) -> str:
    """What tells a value from others: itself, with ``${X:?}`` for a variable nobody has set yet."""
    if not isinstance(node, Scalar) or node.kind != "missing" or node.raw is None:
        return text(node)
    made = ""
    for piece in variables.split(node.raw):
        try:
            made += variables.resolve((piece,), draft.project.environ)
        except variables.Missing as missing:
            made += f"${{{missing.name}:?}}"
    return made


def told_secret(piece: variables.Variable) -> bool:
    """Whether a variable says itself that it is one: ``${X:?secret}``."""
    return piece.operator.endswith("?") and piece.rest == ("secret",)


def asked(node: Node) -> list[str]:
    """The variables that a value and all below it ask for."""
    return [
        name
        for scalar in scalars(node)
        if scalar.raw is not None
        for name in variables.names(variables.split(scalar.raw))
    ]


def unset(draft: Draft, node: Node) -> list[str]:
    """The variables of a value that come to nothing."""
    pieces = variables.split(node.raw or "") if isinstance(node, Scalar) else ()
    asked = [piece for piece in pieces if isinstance(piece, variables.Variable)]
    return [p.name for p in asked if not variables.resolve((p,), draft.project.environ)]


_SHOWN = re.compile(
    r"(?:(?<![^\s\"'=])(?P<flag>--?[A-Za-z][\w.-]*)[=\s]+|(?<![^\s\"'])(?P<name>[A-Za-z_]\w*)=)"
    r"(?=[\"']?(?:[^\s\"'$/{}-]|\$\{env\.))"
)
_MASKS = frozenset({"requirepass", "masterauth"})


def betrays(words: Iterable[str]) -> bool:
    """Whether a command holds a secret as it is: ``--password x``, ``PGPASSWORD=x``."""
    for found in _SHOWN.finditer(" ".join(words)):
        name = (found["flag"] or found["name"]).lstrip("-").replace("-", "_")
        if secretive(name) or name in _MASKS:
            return True
    return False


def named(name: str) -> bool:
    """Whether the stack file allows a variable of this name."""
    return _ENV.fullmatch(name) is not None


def url(plain: str) -> urllib.parse.SplitResult | None:
    """A value as a URL with a host; None for others."""
    if "://" not in plain or any(c.isspace() for c in plain):
        return None
    try:
        found = urllib.parse.urlsplit(plain)
        _ = found.port  # it is looked at, and refused, only now
        return found if found.hostname else None
    except ValueError:
        return None


def users(draft: Draft, name: str, called: Collection[str]) -> list[str]:
    """Services that are told of another one, or start after it. ``called``: its names."""
    found = []
    for other in draft.project.services:
        if other == name:
            continue
        after = draft.items(other).get("depends_on")
        starts = isinstance(after, Map) and name in after.items
        links = draft.items(other).get("links")
        linked = isinstance(links, Seq) and any(
            text(item).partition(":")[0] == name for item in links.items
        )
        if starts or linked or any(speaks_of(told, called) for told in draft.told[other].values()):
            found.append(other)
    return found


def speaks_of(told: Told, names: Collection[str]) -> bool:
    """Whether a variable holds the address of a service of these names."""
    plain = told.text or ""
    found = url(plain)
    if found is not None:
        return found.hostname in {name.lower() for name in names}
    return plain.partition(":")[0] in names


Tables = Mapping[str, Any]
