"""Which files of a working folder belong to its release.

Everything does but what ``.gitignore`` files leave out (nested ones, and those above the folder in
the same repository), caches, version control and virtual environments. ``include`` globs add
ignored files back. A link that leaves the folder, or a special file, is refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from gapless.errors import Refused, UsageError

NEVER = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to copy: ``path`` relative to the folder; a link has a ``target``."""

    path: str
    kind: str
    """``file``, ``link`` or ``folder``."""
    size: int = 0
    executable: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class _Rules:
    """One ``.gitignore``: ``base`` is its folder, relative to the root of the walk ("" or "a/b").

    ``above`` is set instead where it lies over the root: how the root is called from there.
    """

    base: str
    above: str
    spec: pathspec.GitIgnoreSpec

    def says(self, path: str) -> bool | None:
        """True: ignored. False: explicitly not. None: nothing."""
        if self.base and not path.startswith(f"{self.base}/"):
            return None
        inner = path[len(self.base) + 1 :] if self.base else f"{self.above}{path}"
        return self.spec.check_file(inner).include


def entries(
    root: Path, include: Sequence[str], closed: Collection[Path], private: Collection[str] = ()
) -> list[Entry]:
    """What belongs to a release of ``root``, sorted by path. ``closed`` folders never do, nor do
    the files ``private`` (paths within it).

    Raises Refused (a link that leaves, a special file, not readable) and UsageError (no folder).
    """
    if not root.is_dir():
        raise UsageError(f"source: {root} is not a folder", hint="set source to the folder to run")
    walk = _Walk(root.resolve(), include, {_identity(path) for path in closed if path.exists()})
    walk.private = frozenset(private)
    found = list(walk.folder("", walk.above(), ignored=False))
    return sorted(found, key=lambda entry: entry.path)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


class _Walk:
    def __init__(self, root: Path, include: Sequence[str], closed: set[tuple[int, int]]) -> None:
        self.root = root
        self.closed = closed
        self.private: frozenset[str] = frozenset()
        self.wanted = pathspec.GitIgnoreSpec.from_lines(include) if include else None
        # The part of each glob before its first wildcard tells which ignored folders to enter.
        self.prefixes = [re.split(r"[*?\[]", glob.lstrip("!/"), maxsplit=1)[0] for glob in include]

    def above(self) -> list[_Rules]:
        """The rules of the folders over the root, up to the repository's own."""
        rules: list[_Rules] = []
        for folder in (self.root, *self.root.parents):
            if folder != self.root and (spec := _read(folder)) is not None:
                above = self.root.relative_to(folder).as_posix() + "/"
                rules.insert(0, _Rules("", above, spec))
            if (folder / ".git").exists():
                return rules
        return []

    def folder(self, path: str, rules: list[_Rules], *, ignored: bool) -> Iterator[Entry]:
        here = self.root / path
        if (spec := _read(here)) is not None:
            rules = [*rules, _Rules(path, "", spec)]
        try:
            with os.scandir(here) as listing:
                children = sorted(listing, key=lambda child: child.name)
        except OSError as error:
            raise Refused(f"{here}: cannot be read: {error.strerror}") from None
        for child in children:
            inner = f"{path}/{child.name}" if path else child.name
            if child.name not in NEVER and inner not in self.private:
                yield from self.child(child, inner, rules, ignored=ignored)

    def child(
        self, child: os.DirEntry[str], path: str, rules: list[_Rules], *, ignored: bool
    ) -> Iterator[Entry]:
        is_folder = child.is_dir(follow_symlinks=False)
        ignored = ignored or _ignored(f"{path}/" if is_folder else path, rules)
        if is_folder:
            yield from self.subfolder(child, path, rules, ignored=ignored)
        elif not ignored or self.included(path):
            yield self.leaf(child, path)

    def subfolder(
        self, child: os.DirEntry[str], path: str, rules: list[_Rules], *, ignored: bool
    ) -> Iterator[Entry]:
        if ignored and not self.may_hold(path):
            return
        if _identity(Path(child.path)) in self.closed or Path(child.path, "pyvenv.cfg").exists():
            return
        if not ignored:
            yield Entry(path, "folder")
        yield from self.folder(path, rules, ignored=ignored)

    def included(self, path: str) -> bool:
        return self.wanted is not None and self.wanted.match_file(path)

    def may_hold(self, path: str) -> bool:
        """Whether an included file can lie in or under an ignored folder."""
        inside = f"{path}/"
        return any(
            inside.startswith(prefix) or prefix.startswith(inside) or f"{prefix}/" == inside
            for prefix in self.prefixes
        )

    def leaf(self, child: os.DirEntry[str], path: str) -> Entry:
        status = child.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return Entry(path, "link", target=self.link(path))
        if not stat.S_ISREG(status.st_mode):
            raise Refused(
                f"{path}: is a special file (socket, pipe or device) and cannot be released",
                hint="remove it, or name it in .gitignore",
            )
        return Entry(path, "file", status.st_size, bool(status.st_mode & 0o111))

    def link(self, path: str) -> str:
        """Its target, which must be relative and stay inside: a release stands for itself."""
        link = self.root / path
        target = str(link.readlink())
        # Both as it is written and as it resolves today: other links on the way may bend it.
        written = Path(os.path.normpath(link.parent / target))
        real = Path(os.path.realpath(link))
        inside = written.is_relative_to(self.root) and real.is_relative_to(self.root)
        if target.startswith("/") or not inside:
            raise Refused(
                f"{path}: is a link that leaves the released folder (to {target})",
                hint="put a copy in its place, or name it in .gitignore",
            )
        return target


def _read(folder: Path) -> pathspec.GitIgnoreSpec | None:
    try:
        text = (folder / ".gitignore").read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise Refused(f"{folder}/.gitignore: cannot be read: {error.strerror}") from None
    return pathspec.GitIgnoreSpec.from_lines(text.splitlines())


def _ignored(path: str, rules: list[_Rules]) -> bool:
    """The deepest file that says anything decides."""
    for rule in reversed(rules):
        if (said := rule.says(path)) is not None:
            return said
    return False
