"""``install``: the unit that is printed, and what systemctl is told where systemd runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gapless.cli import install
from gapless.cli.session import Session
from gapless.engine import unit

from .conftest import Folder

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{log}"
"""


@pytest.fixture
def told(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd, as far as ``install`` sees of it; the file has what it was told."""
    log = tmp_path / "told"
    log.touch()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(SYSTEMCTL.format(log=log))
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(install, "RUNNING", tmp_path)
    monkeypatch.setattr(install, "SYSTEM", tmp_path / "units")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(folder.path)
    return log


def run(*words: str) -> None:
    install.install.main(list(words), standalone_mode=False, obj=Session())


def test_print_changes_nothing(folder: Folder) -> None:
    answer = folder.gapless("install", "--print")
    assert answer.code == 0
    assert "ExecStart=" in answer.out
    assert f'"--file" "{folder.path}/gapless.toml" "--stack" "shop" "--supervised"' in answer.out
    assert f'Environment="GAPLESS_STATE={os.environ["GAPLESS_STATE"]}"' in answer.out


def test_a_path_with_specifiers_stays_a_path(folder: Folder) -> None:
    place = folder.path / '50%n $HOME "x"'
    place.mkdir()
    (place / "gapless.toml").write_bytes((folder.path / "gapless.toml").read_bytes())
    answer = folder.gapless("--for", "staging", "install", "--print", cwd=place)
    assert '/50%%n $$HOME \\"x\\"/gapless.toml" "--stack" "shop-staging" "--for" "staging"' in (
        answer.out
    )


@pytest.mark.skipif(install.RUNNING.exists(), reason="systemd runs here: it would be told")
def test_without_systemd_it_is_refused(folder: Folder) -> None:
    answer = folder.gapless("install")
    assert answer.code != 0
    assert "systemd is not this machine's service manager" in answer.err
    assert "install --print" in answer.err


def test_it_is_written_enabled_and_removed(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = [] if os.geteuid() == 0 else ["--user"]
    run()
    place = install.path(install.of(Session()))
    assert place.stat().st_mode & 0o777 == 0o644
    assert place.read_text() == str(install.of(Session()))
    said = told.read_text().splitlines()
    assert said == [" ".join([*user, *w]) for w in (["daemon-reload"], ["enable", place.name])]
    told.write_text("")
    run("--remove")
    assert not place.exists()
    assert told.read_text().splitlines()[0] == " ".join([*user, "disable", place.name])


def test_up_starts_it_by_systemd_only_where_it_is_this_very_stack(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not install.started(Session())
    run()
    told.write_text("")
    assert install.started(Session())
    assert told.read_text().split()[-2:] == ["start", unit.file_name("shop")]
    monkeypatch.setenv("GAPLESS_STATE", f"{os.environ['GAPLESS_STATE']}2")
    told.write_text("")
    assert not install.started(Session())
    assert told.read_text() == ""
