"""Which Python makes and runs a release's virtual environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from gapless.errors import EnvironmentFault

_ASK = (
    "import sys, venv; print(sys.implementation.cache_tag, sys.version.split()[0], sys.executable)"
)
_ASK_PIP = f"import ensurepip; {_ASK}"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``identity`` changes with whatever an environment made by it depends on."""

    path: str
    identity: str


def find(uid: int | None, *, pip: bool) -> Interpreter:
    """The interpreter that runs gapless, or else ``python3``, that the uid can execute.

    ``pip``: it must be able to put pip into an environment. Raises EnvironmentFault.
    """
    own = getattr(sys, "_base_executable", None) or sys.executable
    candidates = [os.path.realpath(own), shutil.which("python3"), "/usr/bin/python3"]
    for path in dict.fromkeys(path for path in candidates if path):
        if (identity := _ask(path, uid, pip=pip)) is not None:
            return Interpreter(path, identity)
    who = "" if uid is None else f" that uid {uid} (the builder) can run"
    raise EnvironmentFault(
        f"setup: no Python with the module venv is found{who}",
        hint="install python3 and python3-venv where all users can reach them",
    )


def _ask(path: str, uid: int | None, *, pip: bool) -> str | None:
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _ASK_PIP if pip else _ASK],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            env={"PATH": os.defpath},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
