"""Celery as the user's release has it, for a scratch stack of its own.

As root, a release's environment can be read by the programs of its own stack and by nobody else,
so the scratch stack gets a copy of the few packages that it needs: Celery, the Redis client and
what those two require. Where the service runs in a container, the scratch stack is made on top of
its image instead, and has them there. The Python that asks where they are runs as the service
itself would: through the controller, with the service's environment and rights.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless import errors
from gapless.model.service import Service

MARK = "celery-kit "
ASK = (
    """
import importlib, json, re, sys
from importlib import metadata
for name in ("celery", "redis", "kombu.transport.redis"):
    try:
        importlib.import_module(name)
    except Exception as fault:
        sys.exit(f"{sys.executable} has no {name.partition('.')[0]} ({type(fault).__name__})")
tops, done, todo = set(), set(), ["celery", "redis"]
while todo:
    name = re.sub("[-_.]+", "-", todo.pop()).lower()
    if name in done:
        continue
    done.add(name)
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    for path in found.files or ():
        if path.parts[0] not in ("..", "__pycache__"):
            tops.add(str(found.locate_file(path.parts[0])))
    for needed in found.requires or ():
        what, _, when = needed.partition(";")
        if "extra" not in when or re.search("extra == .redis.", when):
            todo.append(re.match("[A-Za-z0-9._-]+", what)[0])
base = getattr(sys, "_base_executable", None) or sys.executable
answer = {"python": base, "version": metadata.version("celery"), "tops": sorted(tops)}
"""
    f"print({MARK!r} + json.dumps(answer))"
)
"""A program that tells what a Python has of Celery, or ends with the reason why nothing."""


@dataclass(frozen=True, slots=True)
class Kit:
    """``python`` runs ``packages`` (folders and files) when they lie on its path.

    ``image``: the content of the one that has all of it, and then there are no packages.
    """

    python: str
    version: str
    packages: tuple[Path, ...] = ()
    image: str = ""

    def copy(self, folder: Path) -> None:
        """Copy the packages into a new ``folder``, for everybody to read. Raises WorkFailed.

        Times of files are kept, so that what was compiled stays of use.
        """
        try:
            folder.mkdir(mode=0o755)
            for package in self.packages:
                target = folder / package.name
                if package.is_dir():
                    shutil.copytree(package, target)
                else:
                    shutil.copy2(package, target)
            for place in folder.rglob("*"):
                place.chmod(0o755 if place.is_dir() else 0o644)
        except (OSError, shutil.Error) as error:
            raise errors.WorkFailed(f"{folder}: Celery cannot be copied: {error}") from None


Ask = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command with the service's environment: (exit code, what it wrote)."""


def find(service: Service, ask: Ask, image: str = "") -> Kit:
    """The first Python near the service that has Celery. ``image``: what the service runs in, by
    content; "": it is a program of the machine. Raises MissingSubject."""
    why = []
    for python in candidates(service):
        code, said = ask((python, "-c", ASK))
        lines = said.strip().splitlines()
        answers = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
        if code == 0 and answers:
            told = json.loads(answers[-1])
            if image:
                return Kit(python, str(told["version"]), image=image)
            packages = tuple(Path(top) for top in told["tops"])
            return Kit(str(told["python"]), str(told["version"]), packages)
        why.append(lines[-1] if lines else f"{python}: exit {code}")
    raise errors.MissingSubject(
        f"no Python here has celery and redis: {'; '.join(dict.fromkeys(why))}",
        hint="the drill runs tasks of its own: add celery[redis] to what setup installs",
    )


def candidates(service: Service) -> Iterator[str]:
    """Where its Python may be: beside its program, on its PATH, and ours."""
    program = Path(service.run[0]) if service.run else Path()
    if program.is_absolute():
        yield str(program.parent / "python3")
    yield "python3"
    yield sys.executable
