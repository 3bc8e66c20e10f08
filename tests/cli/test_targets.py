"""``gapless render`` through the real group."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from gapless import stackfile
from gapless.cli import main, session

FILE = """\
gapless = 1
name = "shop"

[service.web]
run = "python app.py ${socket}"
sticky = "cookie"
scale = { max = 3, rps = 100 }

[edge]
maintenance_page = "page.html"
"""

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "gapless.toml").write_text(FILE)
    (tmp_path / "page.html").write_text("soon")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPLESS_STATE", str(tmp_path / "s"))
    monkeypatch.delenv("GAPLESS_FOR", raising=False)

    def invoke(*words: str) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main.main, words, obj=session.Session())
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


INSTEAD = ("--upstream", "web=10.0.0.5:8001,10.0.0.6:8001")


def test_a_refusal_writes_nothing(run: Run, tmp_path: Path) -> None:
    done = run("render", "nginx", *INSTEAD, "-o", "made")
    assert done.exit_code == 4
    assert "service.web.scale" in done.stderr
    assert "--allow-loss" in done.stderr
    assert not (tmp_path / "made").exists()
    document = json.loads(run("render", "nginx", *INSTEAD, "-o", "made", "--json").stdout)
    assert document["files"] == {}
    assert [line["key"] for line in document["refused"]] == ["service.web.scale"]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("target", ["nginx", "haproxy"])
def test_files_and_report(run: Run, tmp_path: Path, target: str) -> None:
    done = run("render", target, *INSTEAD, "-o", "made", "--allow-loss")
    assert done.exit_code == 0
    kinds = {line.split()[0] for line in done.stdout.splitlines()}
    assert kinds == {"kept", "emulated", "refused"}
    files = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert "soon" in files.values()
    assert any(f"{tmp_path}/made/" in text for text in files.values())
    document = json.loads(
        run("render", target, *INSTEAD, "--at", f"{tmp_path}/made", "--allow-loss", "--json").stdout
    )
    assert document["files"] == files
    assert (document["target"], document["mode"]) == (target, "instead")


def test_the_file_alone_on_stdout(run: Run) -> None:
    done = run("render", "nginx", *INSTEAD, "--allow-loss")
    assert done.exit_code == 0
    assert done.stdout.startswith("# The stack shop")
    assert "/etc/nginx/shop/maintenance.html" in done.stdout
    assert "emulated" in done.stderr
    front = run("render", "haproxy", "--allow-loss")
    assert front.stdout.startswith("# The stack shop, in front")
    assert "server edge.1 '127.0.0.1:8080'" in front.stdout


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("render", "apache"), "apache"),
        (("render", "nginx", "--cert", "/c"), "--cert needs --key"),
        (("render", "nginx", "--key", "/c"), "need --cert"),
        (("render", "haproxy", "--cert", "/c", "--key", "/k"), "HAProxy finds the key"),
        (("render", "nginx", "--at", "there"), "absolute path"),
        (("render", "nginx", "--upstream", "shop=a:1"), "no published service shop"),
        (("render", "nginx", "--listen", "80"), "not an address to listen on"),
    ],
)
def test_wrong_use(run: Run, words: tuple[str, ...], fault: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert fault in done.stderr


def test_a_page_that_is_not_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "page.html").unlink()
    done = run("render", "nginx", *INSTEAD)
    assert done.exit_code == 2
    assert "maintenance_page" in done.stderr


PACKED = """\
gapless = 1
name = "shop"

[service.web]
image = "ghcr.io/me/web:1"
port = 8000
replicas = 2
env = { DATABASE_URL = "${db.url}" }

[data.db]
type = "postgres"
image = "postgres:18"
port = 5432
"""


def test_a_compose_file_has_its_losses_on_top_and_comes_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gapless.toml").write_text(PACKED)
    done = run("render", "compose", "-o", "out")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "compose.yaml").read_text()
    assert "# emulated  deploys: with a gap" in text.partition("\nname:")[0]
    assert "emulated  deploys" in done.stdout
    again = run("import", "out/compose.yaml", "-o", "again.toml")
    assert again.exit_code == 0, again.output
    before, after = (
        stackfile.load(tmp_path / name).stack for name in ("gapless.toml", "again.toml")
    )
    assert after.model_copy(update={"source": "."}).model_dump() == before.model_dump()


def test_what_compose_cannot_do_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gapless.toml").write_text(PACKED.replace("replicas = 2", 'drain = "60s"'))
    done = run("render", "compose", "-o", "out")
    assert done.exit_code == 4
    assert "refused   service.web.drain" in done.stdout
    assert not (tmp_path / "out").exists()
    assert run("render", "compose", "-o", "out", "--allow-loss").exit_code == 0
    assert run("render", "compose", "--listen", "*:80").exit_code == 2
    document = json.loads(run("render", "compose", "--json").stdout)
    assert (document["files"], "mode" in document) == ({}, False)


def test_a_dockerfile_is_of_one_service_and_is_not_written_where_something_is_lost(
    run: Run, tmp_path: Path
) -> None:
    done = run("render", "dockerfile", "web", "-o", "made")
    assert done.exit_code == 4
    assert "refused   ${socket}" in done.stdout
    assert not (tmp_path / "made").exists()
    assert run("render", "dockerfile").exit_code == 2
    assert run("render", "nginx", "web").exit_code == 2
    assert run("render", "dockerfile", "web", "--listen", "*:80").exit_code == 2
    (tmp_path / "gapless.toml").write_text(FILE.replace("${socket}", "${port}"))
    assert run("render", "dockerfile", "web", "-o", "made").exit_code == 0
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made == {"Dockerfile.web", "Dockerfile.web.dockerignore"}
