"""Every place of the file that holds text, and which placeholders may stand there.

Works on the bare tree, so that references are checked in a file that has other faults too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gapless.model.data import ATTRIBUTES
from gapless.stackfile import places, references, unknown
from gapless.stackfile.references import Malformed, Reference
from gapless.stackfile.report import Report
from gapless.stackfile.source import Tree

Path = places.Path


@dataclass(frozen=True, slots=True)
class Names:
    """What can be referred to."""

    data: Mapping[str, str]
    """Store to type."""
    services: Mapping[str, bool]
    """Service to whether it speaks HTTP."""
    jobs: tuple[str, ...]
    secrets: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.data, *self.services, *self.jobs)


def names(tree: Tree) -> Names:
    """The names of a tree, whatever else is wrong with it."""
    secrets = tree.get("secrets")
    return Names(
        data={name: str(table.get("type")) for name, table in tables(tree, "data")},
        services={name: speaks_http(table) for name, table in tables(tree, "service")},
        jobs=tuple(name for name, _ in tables(tree, "job")),
        secrets=tuple(strings(secrets)),
    )


def tables(tree: Tree, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of a kind by name; what is no table is left out."""
    group = tree.get(kind)
    for name, table in group.items() if isinstance(group, dict) else ():
        if isinstance(table, dict):
            yield name, table


def strings(value: Any) -> list[str]:
    """The strings of a list (or the string itself)."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def variables(table: Any) -> dict[str, str]:
    """The string values of a table."""
    found = table.items() if isinstance(table, dict) else ()
    return {key: value for key, value in found if isinstance(value, str)}


def speaks_http(table: dict[str, Any]) -> bool:
    """The model's rule, for a table that may have faults."""
    if table.get("port") is not None:
        return True
    texts = (*strings(table.get("run")), *variables(table.get("env")).values())
    return any(mark in text for text in texts for mark in ("${socket}", "${port}"))


def check(report: Report) -> None:
    """Add a fault for each placeholder that means nothing where it stands."""
    tree = report.layered.tree
    known = names(tree)
    everywhere = frozenset({"secret", "env", "attribute"})
    seen: set[Path] = set()
    for key in variables(tree.get("env")):
        place = _Place(report, known, ("env", key), everywhere, own=("release",))
        place.check(tree["env"][key])
        seen.add(place.path)
    for kind in ("service", "job"):
        for name, table in tables(tree, kind):
            own = _own(table) if kind == "service" else ("release",)
            for path, text in _program(kind, name, table):
                run = path[2] != "env"
                allowed = everywhere - {"secret"} if run else everywhere
                _Place(report, known, path, allowed, own, run, table).check(text)
                seen.add(path)
    for name, table in tables(tree, "data"):
        if isinstance(table.get("url"), str):
            place = _Place(report, known, ("data", name, "url"), frozenset({"secret", "env"}))
            place.check(table["url"])
            seen.add(place.path)
    for path, text in _folders(tree):
        _Place(report, known, path, frozenset({"attribute"})).check(text)
        seen.add(path)
    for path, text in _volumes(tree):
        _Place(report, known, path, frozenset({"attribute", "secret"})).check(text)
        seen.add(path)
    for path, text in _texts((), tree):
        if path not in seen and not str(path[0]).startswith("x-"):
            _nowhere(report, path, text)


def environment_names(tree: Tree) -> dict[str, Path]:
    """Environment variables without a default that a tree asks for, and where first."""
    found: dict[str, Path] = {}
    for path, text in _texts((), tree):
        for reference in references.of((text,)):
            if reference.kind == "env" and reference.default is None:
                found.setdefault(reference.name, path)
    return found


def _own(table: dict[str, Any]) -> tuple[str, ...]:
    if table.get("port") is not None:
        return ("host", "port", "replica", "release")
    return references.OWN


def _folders(tree: Tree) -> Iterator[tuple[Path, str]]:
    """The folders that are published as files."""
    edge = tree.get("edge")
    table = edge.get("static") if isinstance(edge, dict) else None
    for key, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, str):
            yield ("edge", "static", key), value
        elif isinstance(value, dict) and isinstance(value.get("dir"), str):
            yield ("edge", "static", key, "dir"), value["dir"]


def _volumes(tree: Tree) -> Iterator[tuple[Path, str]]:
    """What is mounted into containers."""
    for kind in ("service", "job"):
        for name, table in tables(tree, kind):
            found = table.get("volumes")
            for place, value in found.items() if isinstance(found, dict) else ():
                if isinstance(value, str):
                    yield (kind, name, "volumes", place), value
                elif isinstance(value, dict) and isinstance(value.get("source"), str):
                    yield (kind, name, "volumes", place, "source"), value["source"]


def _program(kind: str, name: str, table: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in ("run", "entrypoint"):
        yield from _texts((kind, name, key), table.get(key))
    for key, text in variables(table.get("env")).items():
        yield (kind, name, "env", key), text
    ready = table.get("ready")
    if isinstance(ready, dict):
        yield from _texts((kind, name, "ready", "command"), ready.get("command"))


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _texts((*path, key), below)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _texts((*path, position), item)


def _nowhere(report: Report, path: Path, text: str) -> None:
    for piece in references.scan(text):
        shown = piece.text if isinstance(piece, Malformed) else str(piece)
        why = "setup runs before there is anything to refer to" if path[0] == "setup" else ""
        report.add(path, f"{shown}: placeholders mean nothing here" + (f": {why}" if why else ""))
        return


@dataclass(frozen=True, slots=True)
class _Place:
    """One text: where it stands and what it may refer to."""

    report: Report
    names: Names
    path: Path
    allowed: frozenset[str]
    own: tuple[str, ...] = ()
    run: bool = False
    table: dict[str, Any] | None = None

    def check(self, text: str) -> None:
        for piece in references.scan(text):
            fault = piece.fault if isinstance(piece, Malformed) else self._fault(piece)
            if fault:
                shown = piece.text if isinstance(piece, Malformed) else str(piece)
                self.report.add(self.path, f"{shown}: {fault}")

    def _fault(self, reference: Reference) -> str | None:
        if reference.kind == "own":
            return self._own(reference)
        if reference.kind not in self.allowed:
            if reference.kind == "secret":
                return "a secret in a command would show in the process list: put it in env"
            return "only ${secret.NAME} and ${env.NAME} can be used here"
        if reference.kind == "secret":
            return self._secret(reference.name)
        return self._attribute(reference) if reference.kind == "attribute" else None

    def _own(self, reference: Reference) -> str | None:
        name = reference.name
        if name not in self.own:
            if self.path[0] == "service":
                return f"a service with a fixed port has no {name}: use ${{host}} and ${{port}}"
            owner = {"env": "this is for services and jobs alike", "job": "a job has none"}
            return f"{owner.get(str(self.path[0]), 'this is no replica')}" + (
                f" (have: {', '.join(self.own)})" if self.own else ""
            )
        if name == "host" and self.table is not None and not speaks_http(self.table):
            return "this service has no port: its run uses neither ${socket} nor ${port}"
        if name == "socket" and self._uses_port():
            return "a replica listens on a socket or on a port, not on both"
        return None

    def _uses_port(self) -> bool:
        table = self.table or {}
        texts = (*strings(table.get("run")), *variables(table.get("env")).values())
        return any("${port}" in text or "${host}" in text for text in texts)

    def _secret(self, name: str) -> str | None:
        if name not in self.names.secrets:
            meant = unknown.closest(name, self.names.secrets)
            have = ", ".join(self.names.secrets) or "none"
            return (
                f'"{name}" is not in the list of secrets'
                + (f'; did you mean "{meant}"?' if meant else "")
                + f" (have: {have})"
            )
        own = (self.table or {}).get("secrets")
        if isinstance(own, list) and name not in own:
            return f'"{name}" is not among the secrets that {self.path[1]} sees'
        return None

    def _attribute(self, reference: Reference) -> str | None:
        name, attribute = reference.name, reference.attribute
        if name in self.names.data:
            have: tuple[str, ...] = ATTRIBUTES.get(self.names.data[name], ())
            if not have:
                return None  # a store of unknown type: that is the fault to mend first
        elif name in self.names.services:
            if not self.names.services[name]:
                return f'"{name}" is not an HTTP service: it has no address'
            have = references.SERVICE
        elif name in self.names.jobs:
            return f'"{name}" is a job: nothing can be asked of it'
        else:
            meant = unknown.closest(name, self.names.all)
            return (
                f'nothing is named "{name}"'
                + (f'; did you mean "{meant}"?' if meant else "")
                + f" (have: {', '.join(self.names.all) or 'none'})"
            )
        if attribute not in have:
            meant = unknown.closest(attribute, have)
            return (
                f'"{name}" has no "{attribute}"'
                + (f'; did you mean "{meant}"?' if meant else "")
                + f" (have: {', '.join(have)})"
            )
        if self.run and name in self.names.data and attribute in references.SECRET_ATTRIBUTES:
            return "it holds a password, which would show in the process list: put it in env"
        return None
