"""``gapless import`` through the real group."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from gapless import stackfile
from gapless.cli import main, session
from gapless.stackfile import packed

FILE = """\
services:
  web:
    image: ghcr.io/me/web:1
    ports: ["8080:80"]
    environment:
      API_TOKEN: hunter2-abc
"""
REFUSED = FILE + "    privileged: true\n"
Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "refused.yaml").write_text(REFUSED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPLESS_STATE", str(tmp_path / "s"))

    def invoke(*words: str) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main.main, words, obj=session.Session())
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def test_a_file_is_written_beside_it_and_no_secret_is_in_it(run: Run, tmp_path: Path) -> None:
    done = run("import", "compose.yaml")
    assert done.exit_code == 0, done.output
    assert "kept      compose.yaml:4  services.web.ports[0]" in done.stdout
    assert "API_TOKEN: its value is at compose.yaml:6; gapless secret set API_TOKEN" in done.stderr
    text = (tmp_path / "gapless.toml").read_text()
    assert "hunter2" not in text + done.output
    stack = stackfile.parse(text).stack
    assert stack.services["web"].port == 80
    assert stack.edge.listen == "*:8080"


def test_a_file_that_is_there_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gapless.toml").write_text("mine")
    assert run("import", "compose.yaml").exit_code == 4
    assert (tmp_path / "gapless.toml").read_text() == "mine"
    assert run("import", "compose.yaml", "--force").exit_code == 0
    assert (tmp_path / "gapless.toml").read_text() != "mine"


def test_what_a_config_holds_is_written_beside_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("server { location / { proxy_pass http://web; } }")
    config = "    configs: [rules]\n  lb: {image: nginx, volumes: ['./conf.d:/etc/nginx/conf.d']}\n"
    file = tmp_path / "compose.yaml"
    file.write_text(f"{FILE}{config}configs: {{rules: {{content: 'a: 1'}}}}\n")
    mine = tmp_path / "configs" / "rules"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = run("import", "compose.yaml")
    assert (done.exit_code, mine.read_text()) == (4, "mine")
    assert "configs/rules: exists already" in done.stderr
    assert not (tmp_path / "gapless.toml").exists()
    mine.unlink()
    done = run("import", "compose.yaml")
    assert done.exit_code == 0, done.output
    assert "wrote gapless.toml, configs/rules" in done.stdout
    assert mine.read_text() == "a: 1"
    stack = stackfile.load(tmp_path / "gapless.toml").stack
    assert stack.services["web"].volumes["/rules"].folder == "configs/rules"
    assert set(stack.services) == {"web"}  # the edge is there instead of nginx
    assert run("import", "compose.yaml", "--force").exit_code == 0


def test_what_is_mounted_may_be_anything(run: Run, tmp_path: Path) -> None:
    names = ("logo.png", "dump.sql", "closed")
    mounts = ", ".join(f"./{name}:/{name}" for name in names)
    lb = "  lb: {image: nginx, volumes: ['./dump.sql:/etc/nginx/nginx.conf']}\n"
    (tmp_path / "compose.yaml").write_text(f"{FILE}    volumes: [{mounts}]\n{lb}")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\xff\0")
    (tmp_path / "dump.sql").write_text("-" * 1_100_000)
    (tmp_path / "closed").write_text("x")
    (tmp_path / "closed").chmod(0)
    done = run("import", "compose.yaml")
    assert done.exit_code == 0, done.output
    volumes = stackfile.load(tmp_path / "gapless.toml").stack.services["web"].volumes
    assert {volume.source for volume in volumes.values()} == set(names)


def test_a_refusal_writes_nothing(run: Run, tmp_path: Path) -> None:
    done = run("import", "refused.yaml")
    assert done.exit_code == 4
    assert "refused   refused.yaml:7  services.web.privileged" in done.stdout
    assert "--allow-loss" in done.stderr
    assert not (tmp_path / "gapless.toml").exists()
    document = json.loads(run("import", "refused.yaml", "--json").stdout)
    assert (document["text"], document["file"]) == ("", None)
    assert [row["key"] for row in document["refused"]] == ["services.web.privileged"]
    assert document["refused"][0]["line"] == 7
    assert document["secrets"] == [{"name": "API_TOKEN", "place": "refused.yaml:6"}]
    assert run("import", "refused.yaml", "--allow-loss").exit_code == 0
    assert (tmp_path / "gapless.toml").exists()


def test_it_is_printed_or_written_elsewhere(run: Run, tmp_path: Path) -> None:
    done = run("import", "compose.yaml", "-o", "-")
    assert stackfile.parse(done.stdout).stack.name == stackfile.parse(done.stdout).stack.id
    (tmp_path / "deploy").mkdir()
    assert run("import", "compose.yaml", "-o", "deploy").exit_code == 0
    assert stackfile.load(tmp_path / "deploy" / "gapless.toml").stack.source == ".."


def test_what_is_written_up_does_not_refuse(run: Run, tmp_path: Path) -> None:
    more = "    healthcheck: {test: [CMD, ./ok]}\n    command: [a]\n"
    other = "  api: {image: api, expose: [80], environment: {WEB: 'http://web:80'}}\n"
    (tmp_path / "compose.yaml").write_text(FILE + more + other)
    done = run("import", "compose.yaml")
    assert done.exit_code == 0, done.output
    assert "gapless up refuses" not in done.stderr
    stack = stackfile.parse((tmp_path / "gapless.toml").read_text()).stack
    assert stack.services["web"].ready is not None
    assert stack.services["web"].ready.command == ("./ok",)
    assert packed.problems(stack) == ()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.yaml", b"services:\n  web: [", "bad.yaml:2: is not YAML"),
        ("bad.yaml", b"services:\n  web:\n    image: \xff", "bad.yaml:3: is not UTF-8 text"),
        ("gone.yaml", None, "gone.yaml: there is no such file"),
        ("bad.yaml", b"services: {web: {image: '${A'}}", "bad.yaml:1: "),
    ],
)
def test_what_is_wrong_has_file_and_line(
    run: Run, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("import", name)
    assert done.exit_code == 2
    assert done.stderr.startswith(said)


def test_without_the_library_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("gapless.compose")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = run("import", "compose.yaml")
    assert done.exit_code == 4
    assert "pip install 'gapless[compose]'" in done.stderr
