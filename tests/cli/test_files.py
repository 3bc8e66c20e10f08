"""The commands that need nothing but the file, through the real group."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import click.testing
import jsonschema
import pytest

from gapless.cli import files, main, session
from gapless.engine.paths import Paths
from gapless.engine.secrets import Secrets

FILE = """\
gapless = 1
name = "shop"
secrets = ["KEY", "OTHER"]

[env]
LEVEL = "${env.SHOP_LEVEL:-info}"

[service.web]
run = "python app.py ${socket}"
replicas = 3
ready = "/ok"

[for.staging]
service.web.replicas = 1
"""

Run = Callable[..., click.testing.Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stack file; its secrets have values in the environment."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "gapless.toml").write_text(FILE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GAPLESS_STATE", str(tmp_path / "s"))
    for name in ("KEY", "OTHER"):
        monkeypatch.setenv(name, "value")
    for name in ("GAPLESS_FOR", "GAPLESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def run(place: Path) -> Run:
    """Run a command line in the folder."""

    def invoke(*words: str) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main.main, words, obj=session.Session())
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        return result

    return invoke


def test_all_are_registered() -> None:
    assert [command.name for command in files.COMMANDS] == [
        "check", "show", "schema", "docs", "init",
    ]  # fmt: skip
    for command in files.COMMANDS:
        assert main.COMMANDS[str(command.name)][0] == "files"


def test_check(run: Run, place: Path) -> None:
    result = run("check")
    valid, holds, *_ = result.stdout.splitlines()
    assert (result.exit_code, valid) == (0, "gapless.toml: valid: shop: web x3")
    assert holds.startswith("connections: ")
    answer = json.loads(run("check", "--json", "--for", "staging").stdout)
    assert answer.pop("connections")["edge"] > 0
    assert answer == {
        "valid": True,
        "file": str(place / "gapless.toml"),
        "stack": "shop-staging",
        "overlays": ["staging"],
        "warnings": [],
        "limits": {},
        "ports": {},
    }


def test_check_says_what_becomes_of_limits(run: Run, place: Path) -> None:
    file = place / "gapless.toml"
    file.write_text(f"{file.read_text()}\n[service.w]\nrun = 'w'\nlimits = {{ memory = '1G' }}\n")
    result = run("check")
    assert result.exit_code == 0
    assert "limits.memory: measured: a replica that stays above is replaced; " in result.stderr
    assert "limits.cpu" not in result.stderr
    assert list(json.loads(run("check", "--json").stdout)["limits"]) == ["memory"]


def test_check_shows_every_fault(run: Run, place: Path) -> None:
    (place / "gapless.toml").write_text(f"{FILE}[edge]\nlisten = 'x'\nlsten = 1\n")
    result = run("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "gapless.toml:16: [edge] listen: must be an address and a port, "
        'such as "127.0.0.1:8080" or "*:80", got "x"',
        "   16 | listen = 'x'",
        'gapless.toml:17: [edge] unknown key "lsten"; did you mean "listen"?',
        "   17 | lsten = 1",
    ]
    answer = json.loads(run("check", "--json").stdout)
    assert (answer["error"], answer["exit_code"]) == ("InvalidStack", 2)
    assert [problem["line"] for problem in answer["problems"]] == [16, 17]


def test_check_warns_without_failing(run: Run, place: Path) -> None:
    (place / "gapless.toml").write_text(FILE.replace('ready = "/ok"\n', ""))
    result = run("check")
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "warning: gapless.toml:8: [service.web] is published without ready"
    )
    (warning,) = json.loads(run("check", "--json").stdout)["warnings"]
    assert (warning["line"], warning["text"]) == (8, "[service.web]")


def test_check_misses_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY")
    monkeypatch.delenv("OTHER")
    result = run("check")
    assert result.exit_code == 2
    assert "gapless.toml:3: secrets[0]: KEY has no value" in result.stderr
    assert "gapless.toml:3: secrets[1]: OTHER has no value" in result.stderr
    store = Secrets(Paths.of("shop"))
    store.set("KEY", "a")
    store.set("OTHER", "b")
    assert run("check").exit_code == 0
    # Another stack, another store.
    assert run("check", "--for", "staging").exit_code == 2


PLAIN = """\
gapless = 1
name = "shop"
source = "."

[service.web]
run = "python app.py ${socket}"
ready = "/ok"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PLAIN.replace('"."', '"nowhere"'),
            "3: source: FOLDER/nowhere is not a directory",
        ),
        (
            f"{PLAIN}cwd = 'nowhere'",
            "8: [service.web] cwd: FOLDER/nowhere is not a directory",
        ),
        (
            f"{PLAIN}[edge]\nmaintenance_page = 'page.html'",
            "9: [edge] maintenance_page: FOLDER/page.html is not a file",
        ),
        (
            f"{PLAIN}[edge]\nbinary = '/nowhere/haproxy'",
            "9: [edge] binary: /nowhere/haproxy is not a file",
        ),
        (
            f"{PLAIN}env.A = '${{env.GAPLESS_TEST_UNSET}}'",
            "8: [service.web] env.A: ${env.GAPLESS_TEST_UNSET}: the environment has no "
            "GAPLESS_TEST_UNSET, and there is no default",
        ),
    ],
    ids=["source", "cwd", "page", "binary", "variable"],
)
def test_check_looks_around(run: Run, place: Path, text: str, message: str) -> None:
    (place / "gapless.toml").write_text(PLAIN)
    assert run("check").exit_code == 0
    (place / "gapless.toml").write_text(text)
    result = run("check")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"gapless.toml:{message}".replace("FOLDER", str(place))


def test_check_production_is_refused(run: Run) -> None:
    result = run("check", "--production")
    assert result.exit_code == 2
    assert result.stderr == "check --production: not implemented in this version\n"


def test_show(run: Run) -> None:
    lines = run("show", "--for", "staging").stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "gapless = 1 # gapless.toml:1",
        'name = "shop" # gapless.toml:2',
        'secrets = ["KEY", "OTHER"] # gapless.toml:3',
        'env.LEVEL = "${env.SHOP_LEVEL:-info}" # gapless.toml:6',
        'service.web.run = "python app.py ${socket}" # gapless.toml:9',
        "service.web.replicas = 1 # gapless.toml:14 [for.staging]",
        'service.web.ready = "/ok" # gapless.toml:11',
    ]
    answer = json.loads(run("--json", "show").stdout)
    assert answer["overlay"] is None
    assert answer["values"][5] == {
        "key": "service.web.replicas", "value": 3, "line": 10, "from": "base",
    }  # fmt: skip


def test_show_of_the_base_is_a_file_that_says_the_same(run: Run, place: Path) -> None:
    shown = run("show").stdout
    tree = tomllib.loads(FILE)
    del tree["for"]
    assert tomllib.loads(shown) == tree


def test_an_unknown_overlay(run: Run) -> None:
    result = run("show", "--for", "stagin")
    assert result.exit_code == 2
    assert result.stderr == (
        'gapless.toml: has no overlay "stagin"; did you mean "staging"? (have: staging)\n'
    )


def test_schema(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    jsonschema.validate(tomllib.loads(FILE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**tomllib.loads(FILE), "domain": 1}, schema)


def test_docs(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The reference needs no stack file at all.
    monkeypatch.chdir(tmp_path)
    lines = run("docs").stdout.splitlines()
    assert lines[0].split() == ["KEY", "TYPE", "DEFAULT", "IS"]
    assert lines[2].startswith("name ")
    assert run("docs", "drain").stdout.startswith('service.NAME.drain  (duration; default "30s")')
    (key,) = json.loads(run("docs", "service.web.drain", "--json").stdout)
    assert key["example"] == '"60s"'
    wrong = run("docs", "drian")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith('no key is named "drian"; did you mean "drain"?\n')
    later = run("docs", "standbys")
    assert (later.exit_code, later.stderr) == (2, '"standbys" is not implemented in this version\n')


def test_init(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "New App"
    empty.mkdir()
    monkeypatch.chdir(empty)
    (empty / "main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    result = run("init")
    assert result.exit_code == 0
    assert result.stdout == "wrote gapless.toml: new-app: web x2\n"
    assert run("check").exit_code == 0

    before = (empty / "gapless.toml").read_text()
    again = run("init")
    assert again.exit_code == 4
    assert "exists already" in again.stderr
    (empty / "gapless.toml").write_text("mine")
    assert run("init").exit_code == 4
    assert (empty / "gapless.toml").read_text() == "mine"
    assert json.loads(run("init", "--force", "--json").stdout)["stack"] == "new-app"
    assert (empty / "gapless.toml").read_text() == before


def test_init_elsewhere(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert run("-f", str(other), "init").exit_code == 0
    assert (other / "gapless.toml").is_file()
    missing = run("-f", str(tmp_path / "no" / "gapless.toml"), "init")
    assert missing.exit_code == 2
    assert "is not a directory" in missing.stderr


@pytest.mark.parametrize(
    "made", [b"", b"\xff", b"a = ", b"[" * 3000, b"a=1\0", b"gapless = 9"], ids=repr
)
@pytest.mark.parametrize("command", ["check", "show"])
def test_bad_files_of_any_kind(run: Run, place: Path, command: str, made: bytes) -> None:
    (place / "gapless.toml").write_bytes(made)
    result = run(command)
    assert result.exit_code == 2
    assert result.stderr.startswith("gapless.toml")
    assert json.loads(run(command, "--json").stdout)["error"] == "InvalidStack"
