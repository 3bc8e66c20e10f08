"""The package can be used without anything else being installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[2] / "src/gapless"

LOOK = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
import gapless.app
for one in pkgutil.iter_modules(gapless.app.__path__):
    importlib.import_module("gapless.app." + one.name)
print(json.dumps(sorted(name.partition(".")[0] for name in set(sys.modules) - before)))
"""


def test_with_the_standard_library_alone(tmp_path: Path) -> None:
    (tmp_path / "gapless").mkdir()
    shutil.copy(HERE / "__init__.py", tmp_path / "gapless")
    shutil.copytree(HERE / "app", tmp_path / "gapless/app")
    # Isolated, and without site-packages: only what the interpreter itself brings.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{LOOK}"
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) - sys.stdlib_module_names == {"gapless"}
