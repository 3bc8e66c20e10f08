"""A quick command is quick because of what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gapless.engine import secrets

from .conftest import Folder

HEAVY = {"pydantic", "rich", "aiohttp", "asyncio", "difflib"}
PROBE = """
import atexit, json, sys
@atexit.register
def tell():
    print("MODULES " + json.dumps(sorted(sys.modules)), file=sys.stderr)
from gapless.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "--json"],
        ["logs"],
        ["history"],
        ["releases"],
        ["lock", "status"],
        ["version"],
    ],
    ids=" ".join,
)
def test_reading_commands_import_little(folder: Folder, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        cwd=folder.path,
        env=dict(folder.env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES "))
    assert not HEAVY & set(json.loads(line.removeprefix("MODULES ")))


def test_masking_a_log_imports_little_too(folder: Folder) -> None:
    secrets.Secrets(folder.paths).set("KEY", "hunter2-hunter2")
    test_reading_commands_import_little(folder, ["logs"])


def test_the_probe_sees_what_is_imported(folder: Folder) -> None:
    code = PROBE.replace("from gapless", "import rich\nfrom gapless")
    done = subprocess.run(
        [sys.executable, "-c", code, "ps"],
        cwd=folder.path,
        env=dict(folder.env),
        capture_output=True,
        text=True,
        check=False,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES "))
    assert HEAVY & set(json.loads(line.removeprefix("MODULES ")))
