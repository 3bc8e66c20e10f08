"""YAML text to a tree whose every value knows the file and line it stood on.

The library parses; what is made of its events here is bounded in size and never runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from gapless.errors import InvalidStack, Problem
from gapless.stackfile import source

MOST = 100_000
"""Values of a file once its aliases are written out: more is a bomb, not a stack."""
DEEPEST = 60
TOO_LARGE = f"is larger than {source.LIMIT // 1000} kB: this is no Compose file"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_UNQUOTED = "found character that cannot start any token"
_FILL = re.compile(r"\{\{|\{%|<%|^\s*%\w|@\w+@", re.MULTILINE)
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})", re.MULTILINE)
_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq", "merge"})
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One value as it is written. ``path`` such as ``services.web.ports[0]``; ``line`` from 1."""

    file: str
    line: int
    path: str


@dataclass(slots=True, eq=False)
class Scalar:
    """A value. ``kind``: str, int, float, bool or null, as YAML has it.

    ``leaves``: where it was written; empty for what nobody wrote. ``text``: variables replaced.
    ``raw``: as it stood. ``tag``: "reset", "override" or "".
    """

    text: str
    kind: str
    leaves: tuple[Leaf, ...] = ()
    tag: str = ""
    raw: str | None = None


@dataclass(slots=True, eq=False)
class Seq:
    """A list; an empty one is a leaf itself."""

    items: list[Node] = field(default_factory=list)
    leaves: tuple[Leaf, ...] = ()
    tag: str = ""


@dataclass(slots=True, eq=False)
class Map:
    """A mapping; an empty one is a leaf itself."""

    items: dict[str, Node] = field(default_factory=dict)
    leaves: tuple[Leaf, ...] = ()
    tag: str = ""


Node = Scalar | Seq | Map


def scalars(node: Node) -> Iterator[Scalar]:
    """Every scalar of a tree."""
    todo: list[Node] = [node]
    while todo:
        here = todo.pop()
        if isinstance(here, Scalar):
            yield here
        else:
            todo += reversed(children(here))


def children(node: Node) -> list[Node]:
    """What a node holds."""
    if isinstance(node, Map):
        return list(node.items.values())
    return list(node.items) if isinstance(node, Seq) else []


def leaves(node: Node) -> Iterator[Leaf]:
    """Every place that a tree comes from; one place may be told twice."""
    todo: list[Node] = [node]
    while todo:
        here = todo.pop()
        yield from here.leaves
        todo += reversed(children(here))


def line_of(node: Node) -> Leaf | None:
    """Where a node begins; None for what nobody wrote."""
    return next(leaves(node), None)


def copy(node: Node, origin: Leaf | None = None) -> Node:
    """A tree of its own; ``origin``: everything in it was written there."""
    own = node.leaves if origin is None else (origin,)
    if isinstance(node, Scalar):
        return Scalar(node.text, node.kind, own, node.tag, node.raw)
    if isinstance(node, Seq):
        return Seq([copy(item, origin) for item in node.items], own, node.tag)
    return Map({key: copy(item, origin) for key, item in node.items.items()}, own, node.tag)


def fault(file: str, text: str, line: int | None, message: str) -> InvalidStack:
    """The error of one place."""
    shown = None if line is None else source.line_text(text, line)
    return InvalidStack((Problem(message, file, line, shown),))


@dataclass(frozen=True, slots=True)
class Document:
    """A file read: its documents (usually one), and every place where something is written."""

    file: str
    text: str
    roots: tuple[Map, ...]
    leaves: tuple[Leaf, ...]


def parse(text: str, file: str) -> Document:
    """Raises InvalidStack with line and reason: not YAML, a key twice, too large, tags."""
    if len(text) > source.LIMIT:
        raise fault(file, text, 1, TOO_LARGE)
    builder = _Builder(file, text)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = _line(text, error)
        said = f"is not YAML: {_why(text, error)}{_template(text, line)}"
        raise fault(file, text, line, said) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else None
        raise fault(file, text, line, f"is not YAML: {getattr(error, 'reason', error)}") from None
    return Document(file, text, tuple(builder.roots), tuple(builder.leaves))


def _line(text: str, error: yaml.MarkedYAMLError) -> int | None:
    """Where it is wrong; what is missed at the end is missed on the last line that has words."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return None
    line = mark.line
    lines = text.split("\n")
    while line > 0 and not (line < len(lines) and lines[line].strip()):
        line -= 1
    return int(line) + 1


def _why(text: str, error: yaml.MarkedYAMLError) -> str:
    said = error.problem or "cannot be read"
    begun, found = error.context_mark, error.problem_mark
    if said == _UNQUOTED and found is not None:
        return _character(text.split("\n")[found.line][found.column :][:1])
    if error.context and begun is not None and found is not None and begun.line < found.line:
        return f"{said} ({error.context} that begins on line {begun.line + 1})"
    return said


def _character(found: str) -> str:
    if found == "\t":
        return "a tab indents nothing: use spaces"
    return f'"{found}" begins no value: put quotes around it'


def _template(text: str, line: int | None) -> str:
    """What to do about a file that is one only once something has been filled in or decided."""
    near = "\n".join(text.split("\n")[max(0, (line or 1) - 3) : (line or 1) + 2])
    if _CONFLICT.search(near):
        return "; two versions of it were merged and differ: decide between them"
    return "; it is a template: fill it in, and import what comes out" if _FILL.search(near) else ""


@dataclass(slots=True)
class _Open:
    """A list or mapping that has not ended. ``key``: the one whose value comes next."""

    node: Map | Seq
    path: str
    line: int
    anchor: str | None
    key: str | None = None
    lines: dict[str, int] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)


class _Builder:
    """Takes the parser's events one by one; a bomb ends it before it grows."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.roots: list[Map] = []
        self.leaves: list[Leaf] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.AliasEvent():
                self._alias(event.anchor, line)
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case _:
                pass

    def _fault(self, line: int, message: str) -> InvalidStack:
        return fault(self.file, self.text, line, message)

    def _begin(self, event: Any, line: int) -> None:
        if len(self._open) >= DEEPEST:
            raise self._fault(line, f"is nested too deeply (more than {DEEPEST} levels)")
        mapping = isinstance(event, yaml.MappingStartEvent)
        path = self._place(line, key=mapping or None)
        tag = self._tag(event.tag, line)
        node: Map | Seq = Map(tag=tag) if mapping else Seq(tag=tag)
        self._open.append(_Open(node, path, line, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        node = done.node
        for merged in done.merges:
            for key, item in _pairs(merged):
                node.items.setdefault(key, item)  # type: ignore[union-attr]
        if not node.items and not done.merges:
            node.leaves = (self._leaf(done.path, done.line),)
        self._put(node, done.line, done.anchor)

    def _scalar(self, event: Any, line: int) -> None:
        holder = self._open[-1] if self._open else None
        if holder is not None and isinstance(holder.node, Map) and holder.key is None:
            self._key(holder, event.value, line)
            return
        tag = self._tag(event.tag, line)
        plain = not event.style and event.tag is None
        kind = kind_of(event.value) if plain and event.implicit[0] else "str"
        if event.tag and event.tag.startswith(_CORE):
            kind = event.tag.removeprefix(_CORE)
            kind = kind if kind in ("str", "int", "float", "bool", "null") else "str"
        leaf = self._leaf(self._place(line), line)
        self._put(Scalar(event.value, kind, (leaf,), tag), line, event.anchor)

    def _key(self, holder: _Open, key: str, line: int) -> None:
        if key in holder.lines:
            raise self._fault(
                line, f'"{key}" stands here a second time; it is on line {holder.lines[key]} too'
            )
        holder.lines[key] = line
        holder.key = key

    def _alias(self, anchor: str | None, line: int) -> None:
        holder = self._open[-1] if self._open else None
        if holder is not None and isinstance(holder.node, Map) and holder.key is None:
            raise self._fault(line, "an alias cannot be a key")
        target = self._anchors.get(anchor or "")
        if target is None:
            raise self._fault(line, f"*{anchor}: nothing above it has this anchor (&{anchor})")
        leaf = self._leaf(self._place(line), line)
        self._grow(sum(1 for _ in _all(target)), line)
        self._put(copy(target, leaf), line, None)

    def _place(self, line: int, *, key: bool | None = None) -> str:
        """The path of the value that comes now."""
        if not self._open:
            return ""
        holder = self._open[-1]
        if isinstance(holder.node, Seq):
            return f"{holder.path}[{len(holder.node.items)}]"
        if holder.key is None:
            said = "a list or a mapping cannot be a key"
            raise self._fault(line, said + _template(self.text, line))
        return f"{holder.path}.{holder.key}" if holder.path else holder.key

    def _put(self, node: Node, line: int, anchor: str | None) -> None:
        self._grow(1, line)
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root(node, line)
            return
        holder = self._open[-1]
        if isinstance(holder.node, Seq):
            holder.node.items.append(node)
            return
        key, holder.key = str(holder.key), None
        if key == "<<":
            if not all(isinstance(one, Map) for one in _merged(node)):
                raise self._fault(line, "<<: must be a mapping, or a list of them")
            holder.merges += _merged(node)
        else:
            holder.node.items[key] = node

    def _root(self, node: Node, line: int) -> None:
        if isinstance(node, Scalar) and node.kind == "null":
            self.leaves.clear()
            node = Map()
        if not isinstance(node, Map):
            raise self._fault(line, 'is no Compose file: it begins with a mapping, "services:"')
        self.roots.append(node)

    def _leaf(self, path: str, line: int) -> Leaf:
        leaf = Leaf(self.file, line, path)
        self.leaves.append(leaf)
        return leaf

    def _grow(self, count: int, line: int) -> None:
        self._count += count
        if self._count > MOST:
            raise self._fault(line, f"is more than {MOST:,} values once aliases are written out")

    def _tag(self, tag: str | None, line: int) -> str:
        if tag in ("!reset", "!override"):
            return tag[1:]
        if tag in (None, "!") or (tag or "").removeprefix(_CORE) in _TAGS:
            return ""
        raise self._fault(line, f"the tag {tag} means nothing in a Compose file")


def _merged(node: Node) -> list[Node]:
    return list(node.items) if isinstance(node, Seq) else [node]


def _pairs(node: Node) -> list[tuple[str, Node]]:
    return list(node.items.items()) if isinstance(node, Map) else []


def _all(node: Node) -> Iterator[Node]:
    todo: list[Node] = [node]
    while todo:
        here = todo.pop()
        yield here
        todo += children(here)


def kind_of(text: str) -> str:
    """What a plain scalar is: str, int, float, bool or null."""
    if text in _NULLS:
        return "null"
    if text in _BOOLS:
        return "bool"
    if _INT.fullmatch(text):
        return "int"
    return "float" if _FLOAT.fullmatch(text) else "str"
