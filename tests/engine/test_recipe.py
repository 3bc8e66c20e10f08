"""The Dockerfile of source and setup: nothing of the file becomes an instruction."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.engine.releases import context, recipe

BASE = f"sha256:{'0' * 64}"
PIP = (("pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt"),)


def test_what_setup_reads_comes_before_the_source() -> None:
    lines = recipe.dockerfile(BASE, PIP, inputs_first=True).splitlines()
    assert [line for line in lines if not line.startswith("ENV")] == [
        f"FROM {BASE}",
        'RUN ["python3", "-m", "venv", "/opt/venv"]',
        "WORKDIR /app",
        "COPY inputs/ /app/",
        'RUN ["pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt"]',
        "COPY lent/ /opt/gapless/",
        f'RUN ["/opt/venv/bin/python", "-I", "-c", {json.dumps(recipe._LEND)}]',
        "COPY source/ /app/",
        f'RUN ["/opt/venv/bin/python", "-I", "-c", {json.dumps(recipe._COMPILE)}]',
        "ENTRYPOINT []",
        "CMD []",
        "USER 65532:65532",
    ]


def test_without_setup_there_is_only_the_source() -> None:
    lines = recipe.dockerfile(BASE, (), inputs_first=False).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        *("FROM", "ENV", "WORKDIR", "COPY", "ENTRYPOINT", "CMD", "USER")
    ]


@pytest.mark.parametrize(
    ("command", "text", "found"),
    [
        ("pip install -r requirements.txt", "flask==3\n-r requirements.txt\n", True),
        ("python3 -m pip install -q --no-index -r requirements.txt", "flask", True),
        ("pip install --requirement=requirements.txt", "flask", True),
        # The project itself, by whatever name.
        ("pip install .", "", False),
        ("pip install -e .", "", False),
        ("pip install --editable=. -r requirements.txt", "", False),
        ("pip install -r requirements.txt", "flask\n-e .\n", False),
        ("pip install -r requirements.txt", "./lib\n", False),
        ("pip install -r requirements.txt", "lib @ file:lib\n", False),
        ("pip install --find-links wheels -r requirements.txt", "", False),
        ("pip install -r other.txt", "", False),
        ("uv sync --frozen", "", False),
        ("pip-compile", "", False),
        ("npm ci", "", False),
    ],
)
def test_only_requirements_alone_come_first(command: str, text: str, found: bool) -> None:
    assert recipe.apart((tuple(command.split()),), {"requirements.txt": text}) is found


@given(st.lists(st.lists(st.text(min_size=1), min_size=1), min_size=1))
def test_no_word_of_setup_makes_an_instruction(setup: list[list[str]]) -> None:
    text = recipe.dockerfile(BASE, tuple(map(tuple, setup)), inputs_first=False)
    lines = text.split("\n")
    said = [json.loads(line.removeprefix("RUN ")) for line in lines if line.startswith("RUN ")]
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD", "USER", ""}
    assert {line.partition(" ")[0] for line in lines} <= known
    assert all(command in said for command in setup)
    assert text.isascii() and "\r" not in text


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    def sent(name: str, time: float) -> bytes:
        tree = tmp_path / name
        (tree / "pkg").mkdir(parents=True)
        (tree / "pkg" / "a.py").write_text("1")
        (tree / "run").write_text("2")
        (tree / "run").chmod(0o700)
        (tree / "link").symlink_to("pkg/a.py")
        os.utime(tree / "run", (time, time))
        with context.archive({"source": tree}, {"Dockerfile": b"FROM x"}) as made:
            return made.read()

    once = sent("one", 1.0)
    assert once == sent("two", 2.0)
    (tmp_path / "made.tar").write_bytes(once)
    with tarfile.open(tmp_path / "made.tar") as tar:
        modes = {entry.name: (entry.mode, entry.uid) for entry in tar if not entry.issym()}
        assert tar.getmember("source/link").linkname == "pkg/a.py"
    assert modes == {
        "source": (0o755, 0),
        "source/pkg": (0o755, 0),
        "source/pkg/a.py": (0o644, 0),
        "source/run": (0o755, 0),
        "Dockerfile": (0o644, 0),
    }
