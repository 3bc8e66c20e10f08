"""Short forms to the long ones that they stand for: files are merged and read in one form."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from gapless.compose.tree import Map, Node, Scalar, Seq

PAIRS = frozenset({"environment", "labels", "annotations", "sysctls", "extra_hosts"})
"""Lists of ``NAME=VALUE`` that may also be mappings."""
LISTS = frozenset({"env_file", "dns", "dns_search", "tmpfs", "label_file", "dns_opt"})
"""One word, or a list of them."""
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F]*:[0-9a-fA-F:]+(?=:[0-9-]*:))?:)?"
    r"(?:(?P<published>[0-9]+(?:-[0-9]+)?)?:)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[A-Za-z]+))?"
)


def service(found: Map, base: str) -> Map:
    """A service in long forms. ``base``: the folder that its relative paths are relative to."""
    items: dict[str, Node] = {}
    _first_format(found.items)
    for key, node in found.items.items():
        made = _FORMS[key](node) if key in _FORMS and not _reset(node) else node
        made = pairs(node) if key in PAIRS and not _reset(node) else made
        made = listed(node) if key in LISTS and not _reset(node) else made
        made.tag = node.tag
        items[key] = made
    made = Map(items, found.leaves, found.tag)
    if base:
        _rebase(made, base)
    return made


def _first_format(items: dict[str, Node]) -> None:
    """What is called otherwise in files that say services alone."""
    if "net" in items:
        items.setdefault("network_mode", items.pop("net"))
    if "dockerfile" in items and isinstance(folder := items.get("build"), Scalar):
        items["build"] = Map({"context": folder, "dockerfile": items.pop("dockerfile")})


def _reset(node: Node) -> bool:
    return node.tag == "reset"


def word(text: str, like: Node) -> Scalar:
    """A part of a short form."""
    return Scalar(text, "str", like.leaves)


def listed(node: Node) -> Node:
    """A word as a list of it."""
    if isinstance(node, Scalar) and node.kind != "null":
        return Seq([node])
    return node


def pairs(node: Node) -> Node:
    """``[A=1, B]`` as ``{A: 1, B: null}``; of two with one name the later counts."""
    if not isinstance(node, Seq):
        return node
    made = Map(leaves=node.leaves)
    for item in node.items:
        if not isinstance(item, Scalar):
            continue
        sign = "=" if "=" in item.text else ":" if re.match(r"[^=:\s]+:\S", item.text) else "="
        name, found, value = item.text.partition(sign)
        raw = None
        if item.raw is not None:
            raw_name, _, raw_value = item.raw.partition(sign)
            raw = raw_value if raw_name == name else None
        kind = ("missing" if item.kind == "missing" else "str") if found else "null"
        if name in made.items:
            item = Scalar(item.text, item.kind, (*made.items[name].leaves, *item.leaves))
        made.items[name] = Scalar(value, kind, item.leaves, "", raw)
    return made


def _named(node: Node, inner: Callable[[Scalar], Node]) -> Node:
    """``[a, b]`` as ``{a: …, b: …}``."""
    if not isinstance(node, Seq):
        return node
    words = [item for item in node.items if isinstance(item, Scalar)]
    return Map({item.text: inner(item) for item in words}, node.leaves)


def _depends(node: Node) -> Node:
    return _named(node, lambda item: Map({"condition": word("service_started", item)}))


def _networks(node: Node) -> Node:
    return _named(node, lambda item: Scalar("", "null", item.leaves))


def _build(node: Node) -> Node:
    if isinstance(node, Scalar):
        return Map({"context": node})
    if isinstance(node, Map):
        for key in ("args", "labels", "extra_hosts"):
            if key in node.items:
                node.items[key] = pairs(node.items[key])
    return node


def _extends(node: Node) -> Node:
    return Map({"service": node}) if isinstance(node, Scalar) else node


def _deploy(node: Node) -> Node:
    if isinstance(node, Map) and "labels" in node.items:
        node.items["labels"] = pairs(node.items["labels"])
    return node


def _each(short: Callable[[Scalar], Node]) -> Callable[[Node], Node]:
    def made(node: Node) -> Node:
        if not isinstance(node, Seq):
            return node
        return Seq(
            [short(item) if isinstance(item, Scalar) else item for item in node.items], node.leaves
        )

    return made


def port(item: Scalar) -> Node:
    """``127.0.0.1:8080:80/tcp`` as a mapping; what is no port stays a word."""
    found = _PORT.fullmatch(item.text.strip())
    if found is None:
        return item
    made = {"target": word(found["target"], item)}
    if found["published"]:
        made["published"] = word(found["published"], item)
    if found["ip"]:
        made["host_ip"] = word(found["ip"], item)
    made["protocol"] = word((found["protocol"] or "tcp").lower(), item)
    return Map(dict(made))


def volume(item: Scalar) -> Node:
    """``./a:/b:ro`` as a mapping."""
    parts = item.text.split(":")
    if len(parts) == 1:
        return Map({"type": word("volume", item), "target": word(parts[0], item)})
    here, target, modes = parts[0], parts[1], parts[2:]
    kind = "bind" if here.startswith((".", "/", "~")) else "volume"
    made: dict[str, Node] = {
        "type": word(kind, item), "source": word(here, item), "target": word(target, item),
    }  # fmt: skip
    if "ro" in ",".join(modes).split(","):
        made["read_only"] = Scalar("true", "bool", item.leaves)
    return Map(made)


def _given(item: Scalar) -> Node:
    return Map({"source": item})


_FORMS: dict[str, Callable[[Node], Node]] = {
    "depends_on": _depends,
    "networks": _networks,
    "build": _build,
    "extends": _extends,
    "deploy": _deploy,
    "ports": _each(port),
    "volumes": _each(volume),
    "secrets": _each(_given),
    "configs": _each(_given),
}


def rebased(text: str, base: str) -> str:
    """A relative path of another folder's file, relative to the project's."""
    if not base or text.startswith(("/", "~")) or "://" in text or not text:
        return text
    joined = posixpath.normpath(posixpath.join(base, text))
    return joined if joined.startswith("..") else f"./{joined}"


def _rebase(made: Map, base: str) -> None:
    build, volumes, files = (made.items.get(key) for key in ("build", "volumes", "env_file"))
    if isinstance(build, Map):
        _move(build.items.get("context"), base)
    if isinstance(volumes, Seq):
        for item in volumes.items:
            if isinstance(item, Map) and text(item.items.get("type")) == "bind":
                _move(item.items.get("source"), base)
    if isinstance(files, Seq):
        for item in files.items:
            _move(item.items.get("path") if isinstance(item, Map) else item, base)


def _move(node: Node | None, base: str) -> None:
    if isinstance(node, Scalar):
        node.text = rebased(node.text, base)


def text(node: Node | None) -> str:
    """The text of a scalar; "" for anything else."""
    return node.text if isinstance(node, Scalar) else ""
