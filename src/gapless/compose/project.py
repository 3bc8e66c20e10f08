"""All Compose files of a project as one: includes, variables, extends, merging, profiles."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gapless.compose import dotenv, forms, shapes, tree, variables
from gapless.compose.merge import Merging, strip
from gapless.compose.tree import Document, Leaf, Map, Node, Scalar, Seq
from gapless.errors import InvalidStack, Problem, UsageError

Reader = Callable[[str], str | None]
"""The text of a file beside the first one; None where there is none. A name that ends in ``*.conf``
or the like asks for all such files of a folder, one after the other in the order of their names;
one that ends in a slash for a folder, whose text is empty."""
"""The text of a file by its path, relative to the project's folder; None: it is not there."""
RESOURCES = ("services", "volumes", "networks", "secrets", "configs", "models")
DEEPEST = 20


@dataclass(slots=True)
class Project:
    """``resources`` by kind and name, merged and in long forms. ``inactive``: services of profiles
    that nobody asked for. ``rest``: the other keys of the root. ``environ``: what variables are.
    """

    environ: dict[str, str]
    known: dict[str, str]
    """Variable to the place where its value stands: ``.env:3`` or "the environment"."""
    documents: dict[str, Document] = field(default_factory=dict)
    resources: dict[str, dict[str, Node]] = field(default_factory=dict)
    rest: dict[str, Node] = field(default_factory=dict)
    inactive: dict[str, Map] = field(default_factory=dict)
    merging: Merging = field(default_factory=Merging)
    folders: dict[str, str] = field(default_factory=dict)
    """``secrets.NAME`` to the folder that its paths are relative to."""
    given: set[str] = field(default_factory=set)
    """Files that were named or included; others only lend services to extend."""

    @property
    def services(self) -> dict[str, Map]:
        """Those in force."""
        found = self.resources.get("services", {})
        return {name: node for name, node in found.items() if isinstance(node, Map)}

    def fault(self, node: Node, message: str) -> InvalidStack:
        """The error of one place."""
        return at(self.documents, tree.line_of(node), message)


def at(documents: Mapping[str, Document], leaf: Leaf | None, message: str) -> InvalidStack:
    """The error of one place of one of these files."""
    if leaf is None:
        return InvalidStack((Problem(message, next(iter(documents), "compose.yaml")),))
    document = documents.get(leaf.file)
    return tree.fault(leaf.file, document.text if document else "", leaf.line, message)


def load(
    files: list[str], read: Reader, environ: Mapping[str, str], profiles: frozenset[str]
) -> Project:
    """The project of some files, the later ones over the earlier ones.

    Raises InvalidStack with file, line and reason.
    """
    dot = read(".env")
    entries = {} if dot is None else dotenv.parse(dot, ".env", environ)
    known = {name: f"{e.file}:{e.line}" for name, e in entries.items() if e.value is not None}
    known |= dict.fromkeys(environ, "the environment")
    have = {name: e.value for name, e in entries.items() if e.value is not None}
    project = Project(have | dict(environ), known)
    _Loader(project, read).files(files, "", project.environ, ())
    if "services" not in project.resources and "services" not in project.rest:
        first = next(iter(project.documents))
        text = project.documents[first].text
        raise tree.fault(first, text, 1, 'is no Compose file: it says no "services"')
    names = {*profiles, *project.environ.get("COMPOSE_PROFILES", "").split(",")} - {""}
    names = names or {""}  # a profile of no name is the one that is asked for by nobody
    services = project.resources.setdefault("services", {})
    if not services:
        raise project.fault(project.rest["services"], "services: names no service")
    for name in list(services):
        node = services[name]
        if not isinstance(node, Map):
            raise project.fault(node, f"services.{name}: must be a mapping of keys to values")
        wanted = node.items.get("profiles")
        if isinstance(wanted, Seq) and wanted.items and "*" not in names:
            asked = {forms.text(item) for item in wanted.items}
            if not asked & names:
                del services[name]
                project.inactive[name] = node
    _ordered(project)
    return project


def _ordered(project: Project) -> None:
    """Raises InvalidStack where services wait for each other in a circle."""
    waits: dict[str, dict[str, Node]] = {}
    for name, node in project.services.items():
        after = node.items.get("depends_on")
        waits[name] = dict(after.items) if isinstance(after, Map) else {}
    done: set[str] = set()
    for first in waits:
        way, todo = [first], [iter(waits[first].items())]
        while todo:
            other, asked = next(todo[-1], ("", None))
            if asked is None:
                todo.pop()
                done.add(way.pop())
            elif other in way:
                circle = " -> ".join((*way[way.index(other) :], other))
                said = f"services.{way[-1]}.depends_on: waits for itself ({circle})"
                raise project.fault(asked, said)
            elif other in waits and other not in done:
                way.append(other)
                todo.append(iter(waits[other].items()))


def _grouped(document: Document) -> Document:
    """A file of the first format says services alone: they are read as below "services"."""
    roots = tuple(Map({"services": one}) if _of_services(one) else one for one in document.roots)
    return replace(document, roots=roots)


def _of_services(root: Map) -> bool:
    tables = [node for node in root.items.values() if isinstance(node, Map)]
    return (
        len(tables) == len(root.items)
        and not root.items.keys() & {*RESOURCES, "name", "version", "include"}
        and any(key in table.items for table in tables for key in ("image", "build"))
    )


class _Loader:
    def __init__(self, project: Project, read: Reader) -> None:
        self.project = project
        self._read = read

    def files(
        self, names: list[str], base: str, environ: Mapping[str, str], trail: tuple[str, ...]
    ) -> None:
        """Merge these files, one over the other, and put what they say into the project."""
        whole: Map | None = None
        for name in names:
            self.project.given.add(name)
            for root in self._roots(name, environ):
                self._shaped(root, base, name, (environ, trail))
                whole = root if whole is None else self._over(whole, root)
        if whole is None:
            return
        strip(whole, self.project.merging)
        for key, node in whole.items.items():
            if key in RESOURCES:
                self._resource(key, node, base)
            elif key != "include":
                self.project.rest[key] = node
        included = whole.items.get("include")
        if included is not None:
            self.project.rest.setdefault("include", included)
            self._include(included, base, (*trail, *names))

    def _over(self, whole: Map, root: Map) -> Map:
        made = self.project.merging.over(whole, root)
        assert isinstance(made, Map)  # noqa: S101  # two mappings merge to one
        return made

    def _roots(self, name: str, environ: Mapping[str, str]) -> list[Map]:
        """The documents of a file, each a tree of its own with variables replaced."""
        document = self.document(name, None)
        roots = [tree.copy(root) for root in document.roots]
        for root in roots:
            self._replace(root, document, environ)
        return [root for root in roots if isinstance(root, Map)]

    def document(self, name: str, asked: Node | None) -> Document:
        """A file, read once. ``asked``: what names it. Raises InvalidStack, UsageError."""
        found = self.project.documents.get(name)
        if found is None:
            text = self._read(name)
            if text is None and asked is not None:
                raise self.project.fault(asked, f"{name}: there is no such file")
            if text is None:
                raise UsageError(f"{name}: there is no such file", hint="name a Compose file")
            found = _grouped(tree.parse(text, name))
            shapes.check(found)
            self.project.documents[name] = found
        return found

    def _replace(self, root: Node, document: Document, environ: Mapping[str, str]) -> None:
        for scalar in tree.scalars(root):
            if "$" not in scalar.text or scalar.kind != "str":
                continue
            try:
                pieces = variables.split(scalar.text)
            except variables.Malformed as error:
                line = scalar.leaves[0].line if scalar.leaves else None
                raise tree.fault(document.file, document.text, line, str(error)) from None
            scalar.raw = scalar.text
            try:
                scalar.text = variables.resolve(pieces, environ)
            except variables.Missing:
                scalar.text = variables.resolve(pieces, environ, lenient=True)
                scalar.kind = "missing"

    def _shaped(
        self,
        root: Map,
        base: str,
        name: str,
        around: tuple[Mapping[str, str], tuple[str, ...]],
    ) -> None:
        services = root.items.get("services")
        if isinstance(services, Map):
            for key, node in services.items.items():
                if isinstance(node, Map):
                    services.items[key] = self._extended(key, node, base, name, around[0])

    def _extended(
        self, key: str, node: Map, base: str, file: str, environ: Mapping[str, str]
    ) -> Map:
        """A service in long forms, over what it extends."""
        return self._service(key, node, (base, file), environ, ())

    def _service(
        self,
        key: str,
        node: Map,
        where: tuple[str, str],
        environ: Mapping[str, str],
        trail: tuple[tuple[str, str], ...],
    ) -> Map:
        base, file = where
        made = forms.service(node, base)
        asked = made.items.get("extends")
        if asked is None or asked.tag == "reset":
            return made
        other = forms.text(asked.items.get("service")) if isinstance(asked, Map) else ""
        if not isinstance(asked, Map) or not other:
            raise self.project.fault(asked, f"services.{key}.extends: needs a service")
        named = forms.text(asked.items.get("file"))
        target = posixpath.normpath(posixpath.join(base, named)) if named else file
        if (target, other) in ((file, key), *trail) or len(trail) > DEEPEST:
            raise self.project.fault(asked, f"services.{key}.extends: extends itself")
        below = self._find(target, other, asked, environ)
        folder = posixpath.dirname(target) if named else base
        parent = self._service(other, below, (folder, target), environ, (*trail, (file, key)))
        parent.items.pop("extends", None)
        return self._over(parent, made)

    def _find(self, target: str, other: str, asked: Node, environ: Mapping[str, str]) -> Map:
        self.document(target, asked)
        for root in reversed(self._roots(target, environ)):
            services = root.items.get("services")
            found = services.items.get(other) if isinstance(services, Map) else None
            if isinstance(found, Map):
                return found
        raise self.project.fault(asked, f'{target}: has no service "{other}" to extend')

    def _resource(self, kind: str, node: Node, base: str) -> None:
        if isinstance(node, Scalar) and node.kind == "null":
            self.project.rest.setdefault(kind, node)
            return
        if not isinstance(node, Map):
            raise self.project.fault(node, f"{kind}: must be a mapping of names")
        if not node.items:
            self.project.rest.setdefault(kind, node)
        have = self.project.resources.setdefault(kind, {})
        for name, one in node.items.items():
            if name in have:
                raise self.project.fault(
                    one, f"{kind}.{name}: is said by an included file and by another one"
                )
            have[name] = one
            self.project.folders[f"{kind}.{name}"] = base

    def _include(self, node: Node, base: str, trail: tuple[str, ...]) -> None:
        items = node.items if isinstance(node, Seq) else [node]
        for item in items:
            paths = item.items.get("path") if isinstance(item, Map) else item
            words = forms.listed(paths) if paths is not None else None
            if not isinstance(words, Seq) or not all(forms.text(w) for w in words.items):
                raise self.project.fault(item, "include: needs the path of a Compose file")
            names = [posixpath.normpath(posixpath.join(base, forms.text(w))) for w in words.items]
            asked = forms.text(item.items.get("project_directory")) if isinstance(item, Map) else ""
            folder = (
                posixpath.normpath(posixpath.join(base, asked))
                if asked
                else posixpath.dirname(names[0])
            )
            folder = "" if folder == "." else folder
            for name in names:
                if name in trail or len(trail) > DEEPEST:
                    way = " -> ".join((*trail, name))
                    raise self.project.fault(item, f"include: {name} includes itself ({way})")
                self.document(name, item)
            self.files(names, folder, self._environ(item, folder), trail)

    def _environ(self, item: Node, folder: str) -> Mapping[str, str]:
        """Variables of an included file: its own files of them, the environment over these."""
        asked = item.items.get("env_file") if isinstance(item, Map) else None
        words = forms.listed(asked) if asked is not None else Seq()
        names = [forms.text(w) for w in words.items] if isinstance(words, Seq) else []
        found: dict[str, str] = {}
        for name in names or [posixpath.join(folder, ".env")]:
            text = self._read(posixpath.normpath(name))
            if text is None and names:
                raise self.project.fault(item, f"include: {name}: there is no such file")
            entries = dotenv.parse(text or "", name, self.project.environ)
            found |= {key: e.value for key, e in entries.items() if e.value is not None}
        return found | self.project.environ
