"""``gapless.app`` in the environments of releases: a copy of what runs the application now.

Applications import it without naming it in their requirements. The copy is part of the environment
and of the digest that it is known by: an upgraded gapless changes nothing that was built before,
and the next release gets the new one. A gapless that setup has installed itself is left alone.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from gapless import app
from gapless.engine.releases import owned
from gapless.engine.releases.setup import Setup
from gapless.engine.releases.work import in_thread
from gapless.errors import Refused

_INIT = b'''"""What applications use of gapless, ``gapless.app``: put here by what runs them."""
'''
_ASK = (
    "import importlib.util, sysconfig;"
    "print(importlib.util.find_spec('gapless') and 'own' or sysconfig.get_path('purelib'))"
)


@functools.cache
def files() -> dict[str, bytes]:
    """Path below site-packages to content."""
    home = Path(app.__file__).parent
    found = {f"gapless/app/{path.name}": path.read_bytes() for path in sorted(home.glob("*.py"))}
    return {"gapless/__init__.py": _INIT} | found


@functools.cache
def digest() -> str:
    """Of all of it."""
    sum = hashlib.sha256()
    for path, content in files().items():
        sum.update(f"{path} {len(content)}\n".encode() + content)
    return sum.hexdigest()


async def lend(run: Setup) -> None:
    """Make ``gapless.app`` importable in an environment that is ready but for that.

    What stands in the way is told and fails nothing: most applications do without.
    """
    try:
        answer = (await run.ask(_ASK))[-1:]
        if answer == ["own"]:
            run.progress("gapless.app: the one that setup has installed")
            return
        packages = _inside(run.venv, answer)
        await in_thread(lambda: _copy(packages, run.builder.uid))
        await run.compile(str(run.venv / "bin" / "python"), packages / "gapless")
    except (Refused, OSError) as error:
        run.progress(f"gapless.app: not in this environment: {error}")


def _inside(venv: Path, answer: list[str]) -> Path:
    """What the environment's Python says, if it is within: setup may have put links anywhere."""
    packages = Path(answer[0] if answer else "").resolve()
    if not packages.is_relative_to(venv.resolve()) or not packages.is_dir():
        raise Refused("its Python keeps packages elsewhere")
    return packages


def _copy(packages: Path, uid: int | None) -> None:
    # Nothing of setup runs any more, so nobody puts a link where we are about to write.
    home = packages / "gapless"
    home.mkdir()
    (home / "app").mkdir()
    for path, content in files().items():
        (packages / path).write_bytes(content)
    if uid is not None:
        owned.give(home, uid)
