"""A release is runnable, by the right code, and an environment is reused only when that is honest.

Real pip, real virtual environments, no network.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.release_bench import Bench
from tests.runtimes.process_bench import gone, reachable

from gapless import stackfile
from gapless.engine import releases
from gapless.engine.releases import environments, owned
from gapless.engine.releases.setup import Builder, Setup
from gapless.errors import Refused

ROOT = os.geteuid() == 0


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Where the tests' own tools are: uv is one of them.
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{os.environ['PATH']}")
    with reachable() as home:
        yield Bench(home)


def shop(release: releases.Release) -> str:
    """What the installed package says, run from elsewhere as a replica would be."""
    return subprocess.run(
        [f"{release.venv}/bin/python", "-c", "import shop"],
        env=release.environment(),
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    ).stdout


REQUIRE = 'setup = "uv pip install --offline -r requirements.txt"'
"""With uv, since putting pip into an environment costs seconds; pip has tests of its own below."""


async def test_an_environment_is_reused_while_its_inputs_are_the_same(bench: Bench) -> None:
    bench.write({"app.py": "1", "requirements.txt": "-r base.txt\n", "base.txt": "# none\n"})
    assert (await bench.plan(REQUIRE)).reuses is None
    first = await bench.build(REQUIRE)
    assert first.venv
    assert "setup: uv pip install --offline -r requirements.txt" in bench.lines
    bench.write({"app.py": "2"})
    assert (await bench.plan(REQUIRE)).reuses == 1
    second = await bench.build(REQUIRE)
    assert (second.venv, second.env) == (first.venv, first.env)
    assert second.digest != first.digest
    assert bench.lines[-1].startswith("environment: that of r1")
    environment = second.environment()
    assert environment["PATH"].startswith(f"{first.venv}/bin:")
    assert environment["VIRTUAL_ENV"] == str(first.venv)
    # What a named file refers to is an input as well.
    bench.write({"base.txt": "# still none\n"})
    plan = await bench.plan(REQUIRE)
    assert plan.reuses is None
    assert plan.commands == (("uv", "pip", "install", "--offline", "-r", "requirements.txt"),)
    third = await bench.build(REQUIRE)
    assert third.venv not in (None, first.venv)
    # An environment lives as long as the last release that it serves.
    bench.releases.prune(2, set())
    assert first.venv.exists()
    await bench.build(REQUIRE)
    bench.releases.prune(2, set())
    assert not first.venv.exists()


@pytest.mark.parametrize("how", ["pip install --no-index .", "uv pip install --offline -e ."])
async def test_release_2_never_runs_the_code_of_release_1(bench: Bench, how: str) -> None:
    bench.package("one")
    first = await bench.build(f'setup = "{how}"')
    bench.package("two")
    second = await bench.build(f'setup = "{how}"')
    assert (shop(first), shop(second)) == ("one\n", "two\n")
    assert first.env != second.env
    assert any("for this release alone, since" in line for line in bench.lines)


async def test_an_editable_install_points_into_its_own_release(bench: Bench) -> None:
    bench.package("one")
    made = await bench.build('setup = "uv pip install --offline -e ."')
    assert made.venv
    (path_file,) = made.venv.glob("lib/python*/site-packages/_shop.pth")
    assert path_file.read_text().strip() == str(made.tree)


async def test_files_that_setup_writes_belong_to_one_release(bench: Bench) -> None:
    bench.write({"app.py": "", "make.py": "open('made', 'w').write(open('in').read())\n"})
    bench.write({"in": "1"})
    first = await bench.build('setup = "uv run --no-project make.py"')
    bench.write({"in": "2"})
    second = await bench.build('setup = "uv run --no-project make.py"')
    assert [(each.tree / "made").read_text() for each in (first, second)] == ["1", "2"]
    assert first.venv != second.venv


async def test_all_of_it_is_read_only_and_compiled(bench: Bench) -> None:
    bench.write({"app.py": "x = 1\n", "requirements.txt": ""})
    made = await bench.build(REQUIRE)
    assert made.venv
    assert list((made.tree / "__pycache__").glob("app.*.pyc"))
    for top in (made.tree, made.venv):
        for path in (top, *top.rglob("*")):
            status = path.lstat()
            assert status.st_uid == os.geteuid()
            assert path.is_symlink() or not status.st_mode & 0o222, path


async def test_a_failing_setup_says_why_and_leaves_nothing(bench: Bench) -> None:
    bench.write({"app.py": "", "requirements.txt": "no-such-package==1.0\n"})
    with pytest.raises(Refused, match=r"setup: uv pip install .*: exit code 1: "):
        await bench.build(REQUIRE)
    assert list(bench.paths.releases.iterdir()) == []
    assert list((bench.paths.state / "envs").iterdir()) == []
    bench.write({"requirements.txt": ""})
    assert (await bench.build(REQUIRE)).number == 1


async def test_a_cancelled_build_leaves_nothing_running_and_nothing_lying(bench: Bench) -> None:
    bench.write({"wait.py": "import os\nprint(os.getpid())\nimport time\ntime.sleep(600)\n"})
    building = asyncio.create_task(bench.build('setup = "uv run --no-project wait.py"'))
    while not (numbers := [int(line) for line in bench.lines if line.isdigit()]):
        assert not building.done(), bench.lines
        await asyncio.sleep(0.01)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert gone(numbers[0])
    assert list(bench.paths.releases.iterdir()) == []


# -- one command, without an environment --------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Setup]:
    with reachable() as home:
        tree = home / "tree"
        tree.mkdir()
        builder = Builder(65_000 if ROOT else None, home / "b" / "home", home / "b" / "tmp")
        builder.home.mkdir(parents=True)
        builder.make()
        lines: list[str] = []
        yield Setup(tree, home / "venv", builder, lines.append)


def said(run: Setup) -> list[str]:
    return run.progress.__self__  # type: ignore[attr-defined, no-any-return]


async def test_output_is_streamed_line_by_line(run: Setup) -> None:
    await run.run([("sh", "-c", "echo one; printf '10%%\\r100%%\\n' >&2; printf two")])
    assert said(run)[1:] == ["one", "100%", "two"]


async def test_an_endless_line_is_not_held_in_memory(run: Setup) -> None:
    await run.run([("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")])
    assert said(run)[-1] == "end"
    assert sum(map(len, said(run)[1:-1])) == 300_000


async def test_the_first_command_that_fails_is_the_last(run: Setup) -> None:
    with pytest.raises(Refused, match=r"setup: sh -c .* exit code 7: why") as info:
        await run.run([("true",), ("sh", "-c", "echo why; exit 7"), ("touch", "never")])
    assert (info.value.detail["code"], info.value.detail["lines"]) == (7, ["why"])
    assert not (run.tree / "never").exists()


async def test_a_program_that_is_not_there_is_named(
    run: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # some have folders on it that they may not read
    with pytest.raises(Refused, match="setup: cannot run nonesuch: No such file"):
        await run.run([("nonesuch",)])


async def test_a_daemon_that_setup_leaves_is_ended(run: Setup) -> None:
    await run.run([("sh", "-c", "sleep 600 & echo $!")])
    assert gone(int(said(run)[-1]))


async def test_secrets_of_the_controller_are_not_handed_to_setup(
    run: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_KEY", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example")
    await run.run([("env",)])
    names = {line.partition("=")[0] for line in said(run)}
    assert {"PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "PIP_INDEX_URL"} <= names
    assert "SESSION_KEY" not in names


@pytest.mark.skipif(not ROOT, reason="dropping privileges needs root")
async def test_as_root_setup_is_nobody(run: Setup) -> None:
    await run.run([("sh", "-c", "id -u; id -G; touch $HOME/a && echo home")])
    assert said(run)[1:] == ["65000", "65000", "home"]


# -- what may be reused, as plain values -------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("pip install -r requirements.txt", True),
        ("python3 -m pip install x", True),
        ("uv sync --frozen", True),
        ("npm ci", True),
        ("npm run build", False),
        ("uv run python build.py", False),
        ("python manage.py collectstatic", False),
        ("make deps", False),
    ],
)
def test_only_installers_are_known(command: str, known: bool) -> None:
    assert environments.knows([command.split()]) is known


def test_inputs_are_what_installers_read(tmp_path: Path) -> None:
    texts = {
        "requirements/dev.txt": "-r prod.txt\n-c ../pins/all.txt\n",
        "requirements/prod.txt": "",
        "pins/all.txt": "",
        "tools.lst": "",
        "app.py": "",
        "web/package.json": "",
        "notes.txt": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    commands = [("pip", "install", "--requirement=tools.lst")]
    found = environments.inputs(tmp_path, list(texts), commands)
    assert found == [
        *("pins/all.txt", "requirements/dev.txt", "requirements/prod.txt", "tools.lst"),
        "web/package.json",
    ]


def test_sealing_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    mode = outside.stat().st_mode
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    owned.seal(tree, None)
    assert outside.stat().st_mode == mode
    owned.remove(tree)
    assert outside.read_text() == "mine"
    assert not tree.exists()


SERVED = """
gapless = 1
name = "chat"
setup = {setup}
[service.web]
run = "python app.py ${{socket}}"
build = {{ base = "python:3" }}
[edge]
static = {{ "/static" = "static" }}
"""


@pytest.mark.parametrize(
    ("setup", "here"),
    [
        ('"pip install -r requirements.txt"', False),
        # What is served may come from it.
        ('"pip install ."', True),
        ('["pip install -r requirements.txt", "python manage.py collectstatic"]', True),
    ],
)
async def test_beside_containers_setup_runs_where_it_may_make_what_is_served(
    setup: str, here: bool, bench: Bench
) -> None:
    bench.write({"requirements.txt": "# none\n", "static/a.css": "a"})
    stack = stackfile.parse(SERVED.format(setup=setup)).stack
    found = await bench.releases.plan(stack, bench.folder)
    assert found.commands == (stack.setup if here else ())
