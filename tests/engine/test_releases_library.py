"""Every release's environment can import ``gapless.app``, and nothing else of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.release_bench import Bench
from tests.runtimes.process_bench import reachable

from gapless.engine import releases
from gapless.engine.releases import environments, library

UV = 'setup = "uv pip install --offline -r requirements.txt"'


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{os.environ['PATH']}")
    with reachable() as home:
        one = Bench(home)
        one.write({"app.py": "", "requirements.txt": ""})
        yield one


def says(release: releases.Release, code: str) -> str:
    """What the environment's Python prints, or the last line of its fault."""
    done = subprocess.run(
        [f"{release.venv}/bin/python", "-c", code],
        env=release.environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout or done.stderr).splitlines()[-1]


async def test_applications_import_it_without_naming_it(bench: Bench) -> None:
    made = await bench.build(UV)
    home = says(made, "import gapless.app.health as h; print(h.__file__)")
    assert home.startswith(f"{made.venv}/lib")
    assert list(Path(home).parent.glob("__pycache__/health.*.pyc"))
    assert says(made, "import gapless.engine") == (
        "ModuleNotFoundError: No module named 'gapless.engine'"
    )
    assert not [line for line in bench.lines if line.startswith("gapless.app")]


async def test_an_upgrade_gives_the_next_release_a_fresh_copy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.build(UV)
    assert (await bench.plan(UV)).reuses == 1
    newer = {**library.files(), "gapless/app/health.py": b"NEW = 1\n"}
    monkeypatch.setattr(library, "files", lambda: newer)
    library.digest.cache_clear()
    try:
        assert (await bench.plan(UV)).reuses is None
        second = await bench.build(UV)
    finally:
        library.digest.cache_clear()
    ask = "import gapless.app.health as h; print(getattr(h, 'NEW', 0))"
    assert (says(first, ask), says(second, ask)) == ("0", "1")
    assert first.digest == second.digest, "an upgrade alone is no reason to deploy"


async def test_a_gapless_of_ones_own_wins(bench: Bench) -> None:
    bench.package("unused")
    for name in ("backend.py", "pyproject.toml"):
        text = (bench.folder / name).read_text()
        bench.write({name: text.replace("shop", "gapless")})
    bench.write({"gapless.py": "OWN = 1\n"})
    made = await bench.build('setup = "uv pip install --offline ."')
    assert says(made, "import gapless; print(gapless.OWN)") == "1"
    assert "gapless.app: the one that setup has installed" in bench.lines


async def test_nothing_is_written_outside_of_the_environment(bench: Bench) -> None:
    """A setup that moves its packages elsewhere gets none of ours there; the release is made."""
    outside = bench.folder.parent / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    bench.write(
        {
            "move.py": "import os, sysconfig\n"
            "here = sysconfig.get_path('purelib')\n"
            f"os.rmdir(here) if not os.listdir(here) else os.rename(here, here + '.old')\n"
            f"os.symlink({str(outside)!r}, here)\n"
        }
    )
    made = await bench.build(
        'setup = ["uv pip install --offline -r requirements.txt", "uv run --no-project move.py"]'
    )
    assert list(outside.iterdir()) == []
    assert "keeps packages elsewhere" in bench.lines[-2] + bench.lines[-1]
    assert made.venv


@pytest.mark.parametrize(
    ("commands", "python", "pip"),
    [
        ((("npm", "ci"),), False, False),
        ((("/usr/bin/yarn", "install"), ("npm", "run", "build")), False, False),
        ((("npm", "ci"), ("uv", "sync")), True, False),
        ((("npm", "ci"), ("pip", "install", "-r", "requirements.txt")), True, True),
        ((("./build.sh",),), True, True),
    ],
)
def test_what_is_not_python_is_left_alone(
    commands: environments.Commands, python: bool, pip: bool
) -> None:
    assert environments.may_be_python(commands) is python
    assert environments.wants_pip(commands) is pip


async def test_an_environment_for_something_else_has_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = bench.folder.parent / "bin"
    tools.mkdir()
    (tools / "npm").write_text("#!/bin/sh\nexit 0\n")
    (tools / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    made = await bench.build('setup = "npm ci"')
    assert says(made, "import gapless") == "ModuleNotFoundError: No module named 'gapless'"
