"""The locked requirements are what pyproject.toml asks for, and name no place to get them from."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements/run.txt", "requirements/dev.txt", "examples/chat/requirements.txt")


def locked(path: str) -> dict[str, str]:
    """Package name to version."""
    found = re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / path).read_text(), re.MULTILINE)
    return dict(found)


def asked(project: dict[str, Any], lock: str) -> list[str]:
    groups = project["dependency-groups"]
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["drill"],
        *project["project"]["optional-dependencies"]["embedded"],
        *groups["build"],
    ]
    return wanted + groups["dev"] if "dev" in lock else wanted


@pytest.mark.parametrize("lock", LOCKS[:2])
def test_everything_asked_for_is_locked(lock: str) -> None:
    versions = locked(lock)
    for text in asked(tomllib.loads((ROOT / "pyproject.toml").read_text()), lock):
        requirement = Requirement(text)
        assert requirement.name in versions, f"{text}: not in {lock}: run make lock"
        assert requirement.specifier.contains(versions[requirement.name]), f"{text}: run make lock"


def test_what_the_example_uses_is_locked() -> None:
    versions = locked(LOCKS[2])
    lines = (ROOT / "examples/chat/requirements.in").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            assert Requirement(line).name in versions, f"{line}: run make lock"


def test_both_locks_agree() -> None:
    run, dev = locked(LOCKS[0]), locked(LOCKS[1])
    assert {name: dev.get(name) for name in run} == run


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "//" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 10
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def imported(source: str) -> set[str]:
    """Top-level names that a module imports, also by ``importlib.import_module("name")``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name))]
            ):
                found.add(name)
    return {name.partition(".")[0] for name in found}


def test_imports_are_seen() -> None:
    source = "import a.b\nfrom c import d\nfrom . import e\ndef f():\n importlib.import_module('g')"
    assert imported(source) == {"a", "c", "g"}


THEIRS = {
    "celery": ("app/workers.py", "drills/probe_tasks.py"),
    "redis": ("drills/probe_tasks.py",),
}
"""Come with the user's application, in whose environment these modules are imported."""


def test_what_the_source_imports_is_locked() -> None:
    """A library that happens to be in the environment works here and nowhere else."""
    versions = locked(LOCKS[0])
    origin = importlib.metadata.packages_distributions()
    for path in sorted((ROOT / "src").rglob("*.py")):
        here = path.relative_to(ROOT / "src/gapless").as_posix()
        for name in imported(path.read_text()) - sys.stdlib_module_names - {"gapless"}:
            if here in THEIRS.get(name, ()):
                continue
            homes = {one.lower().replace("_", "-") for one in origin.get(name, [name])}
            assert homes & versions.keys(), f"{path.relative_to(ROOT)} imports {name}"
