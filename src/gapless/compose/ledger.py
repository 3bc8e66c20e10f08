"""What became of each value of the files: kept, emulated, refused. None is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gapless.compose import tree
from gapless.compose.project import Project
from gapless.compose.tree import Leaf, Node

Kind = Literal["kept", "emulated", "refused"]
_RANK: dict[Kind, int] = {"kept": 0, "emulated": 1, "refused": 2}
UNKNOWN = "gapless import does not know this key"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: a value, where it stood, and what became of it."""

    key: str
    kind: Kind
    text: str
    file: str
    line: int


class Ledger:
    """Of a place that is used twice the worse counts: ``refused`` before ``emulated``."""

    def __init__(self) -> None:
        self._said: dict[Leaf, list[tuple[Kind, str]]] = {}

    def kept(self, node: Node | None, text: str = "") -> None:
        """The stack file says the same."""
        self.say(node, "kept", text)

    def emulated(self, node: Node | None, text: str) -> None:
        """Something near it is there; ``text`` says what."""
        self.say(node, "emulated", text)

    def refused(self, node: Node | None, text: str) -> None:
        """Nothing is there for it."""
        self.say(node, "refused", text)

    def say(self, node: Node | None, kind: Kind, text: str) -> None:
        """The same for every value below a node."""
        if node is not None:
            for leaf in tree.leaves(node):
                self._said.setdefault(leaf, []).append((kind, text))

    def rest(self, node: Node, kind: Kind, text: str) -> None:
        """For those below a node of which nothing was said yet."""
        for leaf in tree.leaves(node):
            self._said.setdefault(leaf, [(kind, text)])

    def lines(self, project: Project) -> list[Line]:
        """A line for each value of each file, in their order."""
        left = {leaf for node in project.inactive.values() for leaf in tree.leaves(node)}
        asked = ", ".join(sorted({*_profiles(project)}))
        merged = dict(project.merging.replaced)
        found = []
        for document in project.documents.values():
            for leaf in document.leaves:
                said = self._said.get(leaf)
                if said is None and leaf in merged:
                    by = merged[leaf]
                    text = "taken away" if by is None else f"replaced by {by.file}:{by.line}"
                    said = [("kept", text)]
                elif said is None and leaf in left:
                    said = [("emulated", f"left out: nobody asked for --profile {asked}")]
                elif said is None and _elsewhere(leaf, project):
                    said = [("kept", "of a service that is only there to be extended")]
                kind, text = _worst(said or [("refused", UNKNOWN)])
                found.append(Line(leaf.path, kind, text, leaf.file, leaf.line))
        return found


def _profiles(project: Project) -> Iterator[str]:
    for node in project.inactive.values():
        yield from (scalar.text for scalar in tree.scalars(node.items["profiles"]))


def _elsewhere(leaf: Leaf, project: Project) -> bool:
    """Whether it is of a file that only lends services."""
    return leaf.file not in project.given


def _worst(said: list[tuple[Kind, str]]) -> tuple[Kind, str]:
    kind = max((kind for kind, _ in said), key=_RANK.__getitem__)
    texts = dict.fromkeys(text for each, text in said if each == kind and text)
    return kind, "; ".join(list(texts)[:3])
