"""One file over another, by the Specification's rules: mappings merge, lists are appended to,
commands and single values are replaced; ``!reset`` takes away, ``!override`` replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gapless.compose.forms import text
from gapless.compose.tree import Leaf, Map, Node, Scalar, Seq, leaves, line_of

WHOLE = frozenset({"command", "entrypoint", "test"})
"""Lists that are one thing: the later one counts."""


@dataclass(slots=True)
class Merging:
    """Merges, and remembers what was replaced by which place (None: taken away)."""

    replaced: list[tuple[Leaf, Leaf | None]] = field(default_factory=list)

    def over(self, base: Node, above: Node, key: str = "") -> Node:
        """``base`` with ``above`` over it. Both are given away."""
        if above.tag == "override" or type(base) is not type(above) or key in WHOLE:
            self._gone(base, above)
            return above
        if isinstance(base, Map) and isinstance(above, Map):
            return self._maps(base, above)
        if isinstance(base, Seq) and isinstance(above, Seq):
            return self._lists(base, above, key)
        self._gone(base, above)
        return above

    def _maps(self, base: Map, above: Map) -> Map:
        if _other_driver(base, above):
            self._gone(base, above)
            return above
        for key, node in above.items.items():
            here = base.items.get(key)
            if node.tag == "reset":
                self._gone(node, None)
                if here is not None:
                    self._gone(base.items.pop(key), node)
            elif here is None:
                base.items[key] = node
            elif isinstance(node, Scalar) and node.kind == "null" and not isinstance(here, Scalar):
                here.leaves = (*here.leaves, *node.leaves)  # "web:" alone says nothing new
            else:
                base.items[key] = self.over(here, node, key)
        base.leaves = (*base.leaves, *above.leaves)
        return base

    def _lists(self, base: Seq, above: Seq, key: str) -> Seq:
        name = _KEYS.get(key, _word)
        places = {name(node): index for index, node in enumerate(base.items)}
        for node in above.items:
            at = places.get(name(node))
            if at is None:
                places[name(node)] = len(base.items)
                base.items.append(node)
            else:
                self._gone(base.items[at], node)
                base.items[at] = node
        base.leaves = (*base.leaves, *above.leaves)
        return base

    def _gone(self, old: Node, new: Node | None) -> None:
        by = None if new is None else line_of(new)
        self.replaced += [(leaf, by) for leaf in leaves(old)]


def strip(node: Node, merging: Merging) -> None:
    """Take away what is reset where there is nothing below it."""
    if isinstance(node, Map):
        for key in [key for key, item in node.items.items() if item.tag == "reset"]:
            gone = node.items.pop(key)
            merging.replaced += [(leaf, None) for leaf in leaves(gone)]
        for item in node.items.values():
            strip(item, merging)
    elif isinstance(node, Seq):
        node.items = [item for item in node.items if item.tag != "reset"]
        for item in node.items:
            strip(item, merging)


def _other_driver(base: Map, above: Map) -> bool:
    """Options of one log driver mean nothing to another."""
    if "options" not in {*base.items, *above.items}:
        return False
    names = [text(one.items.get("driver")) for one in (base, above)]
    return all(names) and names[0] != names[1]


def _word(node: Node) -> object:
    return node.text if isinstance(node, Scalar) else id(node)


def _port(node: Node) -> object:
    if not isinstance(node, Map):
        return _word(node)
    return tuple(text(node.items.get(k)) for k in ("host_ip", "published", "target", "protocol"))


def _target(node: Node) -> object:
    if not isinstance(node, Map):
        return _word(node)
    return text(node.items.get("target")) or text(node.items.get("source"))


def _path(node: Node) -> object:
    return text(node.items.get("path")) if isinstance(node, Map) else _word(node)


_KEYS: dict[str, Callable[[Node], object]] = {
    "ports": _port,
    "volumes": _target,
    "secrets": _target,
    "configs": _target,
    "env_file": _path,
}
