"""When the environment of an earlier release may serve another one.

It may when the commands, the Python and every input are the same, and when nothing in it comes
from the tree itself. What comes from the tree (an editable install, a local package, a file that
setup wrote there) would make release 2 run release 1's code, so such an environment belongs to
the release that it was made for, and to no other.
"""

from __future__ import annotations

import fnmatch
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

Commands = Sequence[Sequence[str]]

INPUTS = (
    *("requirements*.txt", "requirements*.in", "constraints*.txt", "*/requirements/*.txt"),
    *("requirements/*.txt", "pyproject.toml", "setup.py", "setup.cfg", "uv.lock", "uv.toml"),
    *("poetry.lock", "poetry.toml", "pdm.lock", "pylock*.toml", "Pipfile", "Pipfile.lock"),
    *(".python-version", "package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"),
    *("yarn.lock", ".yarnrc*", "pnpm-lock.yaml", "pnpm-workspace.yaml", "bun.lock*"),
)
"""Names of files that installers read by themselves, anywhere in the tree."""

READ = (".txt", ".in")
"""What pip reads of a source by itself."""

INSTALLERS = frozenset({"pip", "pip3", "uv", "poetry", "pdm", "pipenv", "npm", "pnpm", "yarn"})
"""Programs of which we know what they read. Any other may read the whole tree."""

OTHERS = frozenset({"npm", "pnpm", "yarn", "bun", "bundle", "composer", "cargo", "go", "mix"})
"""Programs that make something runnable which is not Python."""

_REFERENCE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)", re.MULTILINE)


def knows(commands: Commands) -> bool:
    """Whether all that the commands read is known: installers only, no scripts of one's own."""
    return all(_installs(command) for command in commands)


def _installs(command: Sequence[str]) -> bool:
    words = [PurePosixPath(command[0]).name, *command[1:]]
    if re.fullmatch(r"python[0-9.]*", words[0]) and words[1:2] == ["-m"]:
        words = words[2:]
    if not words or words[0] not in INSTALLERS:
        return False
    # "npm run build" and "uv run x" are scripts of one's own under an installer's name.
    return "run" not in words[1:3] and "exec" not in words[1:3]


def wants_pip(commands: Commands) -> bool:
    """Putting it into an environment takes seconds. uv brings its own, and npm asks for none."""
    without = OTHERS | {"uv"}
    return not all(PurePosixPath(command[0]).name in without for command in commands)


def may_be_python(commands: Commands) -> bool:
    """Whether what the commands make runnable may be Python."""
    return not all(PurePosixPath(command[0]).name in OTHERS for command in commands)


def inputs(root: Path, paths: Sequence[str], commands: Commands) -> list[str]:
    """The files among ``paths`` (relative to ``root``) that the commands read, sorted."""
    present = set(paths)
    found = {
        path
        for path in paths
        if any(fnmatch.fnmatch(part, glob) for glob in INPUTS for part in (path, _name(path)))
    }
    found |= {path for path in _mentioned(commands) if path in present}
    todo = [path for path in found if path.endswith(READ)]
    while todo:
        here = todo.pop()
        for path in _references(root, here):
            if path in present and path not in found:
                found.add(path)
                todo.append(path)
    return sorted(found)


def texts(root: Path, paths: Iterable[str], commands: Commands) -> dict[str, str]:
    """Those of the inputs that pip reads, by path."""
    return {
        path: (root / path).read_text(errors="replace")
        for path in inputs(root, list(paths), commands)
        if path.endswith(READ)
    }


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _mentioned(commands: Commands) -> Iterator[str]:
    for command in commands:
        for word in command:
            for text in (word, word.rpartition("=")[2], word.partition("[")[0]):
                yield str(PurePosixPath(text))


def _references(root: Path, path: str) -> Iterator[str]:
    try:
        text = (root / path).read_text(errors="replace")
    except OSError:
        return
    for name in _REFERENCE.findall(text):
        yield _normal(str(PurePosixPath(path).parent / name))


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def comes_from(tree: Path, venv: Path) -> str | None:
    """What in the environment points into the tree, or was installed out of it; None: nothing."""
    texts = (str(tree), urllib.parse.quote(str(tree)))
    for packages in sorted(venv.glob("lib*/python*/site-packages")):
        for path in sorted(packages.iterdir()):
            for mark in _marks(path):
                content = mark.read_text(errors="replace") if mark.is_file() else ""
                if any(text in content for text in texts):
                    return f"{_package(path)} is installed from the source folder"
    return None


def _marks(path: Path) -> Iterator[Path]:
    if path.suffix in (".pth", ".egg-link") or path.name.startswith("__editable__"):
        yield path
    elif path.suffix == ".dist-info":
        yield path / "direct_url.json"


def _package(path: Path) -> str:
    stem = path.name.removeprefix("__editable__").strip("._")
    return re.split(r"[-]|\.pth|_finder|\.egg", stem)[0] or path.name


def traces(tree: Path) -> dict[str, str]:
    """Each file of a tree with what changes when it is written; byte code does not count."""
    found = {}
    for here, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = Path(here, name)
            status = path.lstat()
            key = path.relative_to(tree).as_posix()
            found[key] = f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"
    return found


def written(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """The first path that setup made, changed or removed in the tree; None: it left it alone."""
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            return path
    return None
