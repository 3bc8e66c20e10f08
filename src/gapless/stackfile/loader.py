"""All of it in order: text, tree, overlay, model, references, checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

from gapless.errors import InvalidStack, Problem
from gapless.stackfile import overlays, places, source
from gapless.stackfile.overlays import Layered, Origin
from gapless.stackfile.report import Report

if TYPE_CHECKING:
    from gapless.model.stack import Stack


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid stack, and where each of its values was written."""

    stack: Stack
    text: str
    file: str
    origins: Mapping[places.Path, Origin]
    """Key path of the merged file (``("service", "web", "run")``) to its origin."""
    tree: source.Tree
    """The merged file as TOML values."""
    overlays: tuple[str, ...] = ()
    """Names of all overlays of the file."""
    warnings: tuple[Problem, ...] = ()


def load(path: File, overlay: str | None = None) -> Loaded:
    """The stack that a file describes.

    Raises InvalidStack with every fault of the file, of its other overlays too.
    """
    return parse(source.read(path), file=path.name or str(path), overlay=overlay)


def parse(text: str, *, file: str = "gapless.toml", overlay: str | None = None) -> Loaded:
    """As ``load``, from text. ``file`` is only named in faults."""
    # The model, and with it pydantic, costs most of the start-up of a command that reads no file.
    from gapless.stackfile import checks

    document = source.tree(text, file=file)
    found = places.find(text)
    outer = Report(Layered(document, _document_origins(found)), text, file)
    _overlay_tables(document, overlay, outer)
    if outer.problems:
        raise InvalidStack(outer.problems)
    problems: dict[Problem, None] = {}
    chosen, stack, faults = _layer(document, found, overlay, (text, file))
    problems.update(dict.fromkeys(faults))
    others = [name for name in overlays.names(document) if name != overlay]
    # The base alone need not be sound when an overlay is in use: it may lack what that one adds.
    known = (
        faults if overlay is None or not others else _layer(document, found, None, (text, file))[2]
    )
    for name in others:
        faults = _layer(document, found, name, (text, file))[2]
        problems.update(
            dict.fromkeys(_brought(fault, name, found) for fault in faults if fault not in known)
        )
    if problems or stack is None:
        raise InvalidStack(tuple(sorted(problems, key=lambda p: (p.line is None, p.line or 0))))
    return Loaded(
        stack=stack,
        text=text,
        file=file,
        origins=chosen.origins,
        tree=chosen.tree,
        overlays=overlays.names(document),
        warnings=checks.warnings(stack, Report(chosen, text, file)),
    )


def _layer(
    document: source.Tree,
    found: Mapping[places.Path, int],
    overlay: str | None,
    named: tuple[str, str],
) -> tuple[Layered, Stack | None, tuple[Problem, ...]]:
    from gapless.stackfile import checks, faults, mentions

    text, file = named
    wrong: list[overlays.Fault] = []
    if overlay is None:
        layered = overlays.base(document, found)
    else:
        layered, wrong = overlays.merge(document, found, overlay)
    report = Report(layered, text, file)
    for fault in wrong:
        line = found.get(fault.path) or found.get(fault.path[:2])
        report.put(line, f"[for.{overlay}] {fault.message}")
    extra = {key: layered.tree.pop(key) for key in list(layered.tree) if key.startswith("x-")}
    stack = faults.validate(layered, report)
    mentions.check(report)
    checks.check(report)
    if stack is not None:
        stack = stack.model_copy(update={"overlay": overlay})
    layered.tree.update(extra)
    return layered, stack, report.problems


def _overlay_tables(document: source.Tree, overlay: str | None, outer: Report) -> None:
    table = document.get("for", {})
    if not isinstance(table, dict):
        outer.add(("for",), "must hold tables: [for.staging]")
        return
    for name, inner in table.items():
        if not _is_name(name):
            outer.add(
                ("for", name),
                f'"{name}" is not a valid name: must be lower-case letters, digits and hyphens',
            )
        elif not isinstance(inner, dict):
            outer.add(("for", name), "must be a table")
    if overlay is not None and overlay not in table:
        outer.put(None, _no_overlay(overlay, tuple(table)))


def _no_overlay(overlay: str, have: tuple[str, ...]) -> str:
    from gapless.stackfile import unknown

    if not have:
        return f'has no overlay "{overlay}": there is no [for.{overlay}], nor any other'
    meant = unknown.closest(overlay, have)
    return (
        f'has no overlay "{overlay}"'
        + (f'; did you mean "{meant}"?' if meant else "")
        + f" (have: {', '.join(have)})"
    )


def _is_name(name: str) -> bool:
    words = name.split("-")
    return (
        len(name) <= 32
        and name[:1].isalpha()
        and name.isascii()
        and name == name.lower()
        and all(word.isalnum() for word in words)
    )


def _document_origins(found: Mapping[places.Path, int]) -> dict[places.Path, Origin]:
    return {path: Origin(line, overlays.BASE) for path, line in found.items()}


def _brought(fault: Problem, name: str, found: Mapping[places.Path, int]) -> Problem:
    """A fault that only an overlay brings about; where it shows elsewhere, its name is added."""
    inside = {line for path, line in found.items() if path[:2] == ("for", name)}
    if fault.line in inside:
        return fault
    return dataclasses.replace(fault, message=f"{fault.message} (with --for {name})")
