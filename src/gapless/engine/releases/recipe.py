"""The Dockerfile of a release's own source and setup. Pure.

The context has ``inputs/`` (what setup reads, where that is known), ``source/`` (all of it),
``lent/`` (``gapless.app``) and the Dockerfile. No word of the file and no name of the source
becomes an instruction: commands are JSON lists, and only these three folders are copied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from gapless.engine.releases import environments

HOME = "/app"
"""Where the source lies in the image."""
VENV = "/opt/venv"
LENT = "/opt/gapless"
INPUTS, SOURCE, LENDING = "inputs", "source", "lent"
USER = "65532:65532"
"""Whom the image runs as, where nobody says otherwise: no account of any machine."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMPILE = "import compileall; compileall.compile_dir('.', quiet=2)"
_LEND = (
    "import pathlib, sysconfig; "
    f"pathlib.Path(sysconfig.get_path('purelib'), 'gapless-app.pth').write_text('{LENT}\\n')"
)
_ELSEWHERE = ("--editable", "--target", "--find-links")
_LOCAL = re.compile(r"^\s*(?:-e|--editable|\.|/|file:)|@\s*file:", re.MULTILINE)


def apart(setup: environments.Commands, texts: Mapping[str, str]) -> bool:
    """Whether setup needs its inputs alone, so that new source does not make it run again.

    ``texts``: the inputs that pip reads, by path. Only ``pip install`` with files of requirements
    is sure of that: whatever installs the project itself needs the source.
    """
    if any(_LOCAL.search(text) for text in texts.values()):
        return False
    return all(_from_files(command, texts) for command in setup)


def _from_files(command: Sequence[str], texts: Mapping[str, str]) -> bool:
    words = [PurePosixPath(command[0]).name, *command[1:]]
    if re.fullmatch(r"python[0-9.]*", words[0]) and words[1:2] == ["-m"]:
        words = words[2:]
    if words[:2] not in (["pip", "install"], ["pip3", "install"]):
        return False
    rest = iter(words[2:])
    for word in rest:
        name, _, value = word.partition("=")
        if name in ("-r", "--requirement", "-c", "--constraint"):
            if str(PurePosixPath(value or next(rest, ""))) not in texts:
                return False
        elif word != "-q" and (not word.startswith("--") or name in _ELSEWHERE):
            return False
    return True


def dockerfile(base: str, setup: environments.Commands, *, inputs_first: bool) -> str:
    """``base``: the content of the image that it begins with (``sha256:…``)."""
    python = bool(setup) and environments.may_be_python(setup)
    lines = [f"FROM {base}", f"ENV {env(python=python)}"]
    if python:
        bare = [] if environments.wants_pip(setup) else ["--without-pip"]
        lines.append(run(["python3", "-m", "venv", *bare, VENV]))
    lines.append(f"WORKDIR {HOME}")
    if not inputs_first:
        lines.append(f"COPY {SOURCE}/ {HOME}/")
    else:
        lines.append(f"COPY {INPUTS}/ {HOME}/")
    lines += [run(command) for command in setup]
    if python:
        lines += [
            "ENV UV_NO_SYNC=1",
            f"COPY {LENDING}/ {LENT}/",
            run([f"{VENV}/bin/python", "-I", "-c", _LEND]),
        ]
    if inputs_first:
        lines.append(f"COPY {SOURCE}/ {HOME}/")
    if python:
        lines.append(run([f"{VENV}/bin/python", "-I", "-c", _COMPILE]))
    return "\n".join([*lines, "ENTRYPOINT []", "CMD []", f"USER {USER}"]) + "\n"


def env(*, python: bool) -> str:
    """The variables of an image, as ENV takes them."""
    found = {"PYTHONUNBUFFERED": "1", "PIP_NO_CACHE_DIR": "1", "PIP_NO_INPUT": "1"}
    found |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_LINK_MODE": "copy"}
    if python:
        found |= {"VIRTUAL_ENV": VENV, "UV_PROJECT_ENVIRONMENT": VENV}
        found["PATH"] = f"{VENV}/bin:${{PATH:-{_PATH}}}"
    return " ".join(f"{name}={value}" for name, value in found.items())


def run(command: Sequence[str]) -> str:
    """The instruction that runs a command, as it is."""
    # JSON leaves no line break and no quote; without a shell nothing else has a meaning.
    return f"RUN {json.dumps(list(command))}"
