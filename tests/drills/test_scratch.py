"""A scratch stack beside one of containers is made of containers, on the same base."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from gapless import stackfile
from gapless.drills import scratch, stage
from gapless.stackfile import checks

SUBJECT = """
gapless = 1
name = "shop"
[service.web]
{web}
run = "serve ${{socket}}"
"""


def test_it_runs_where_its_subject_does(tmp_path: Path) -> None:
    for web, on in (("", ""), ('image = "web:1"', ""), ('build = { base = "py:3" }', "py:3")):
        subject = stackfile.parse(SUBJECT.format(web=web)).stack
        settings = scratch.alike(scratch.Settings(ledger=True), subject)
        settings.write(tmp_path, "shop-drill")
        made = stackfile.load(tmp_path / scratch.FILE).stack
        assert (settings.base, bool(checks.packed(made))) == (on, bool(on))
        service = made.services["web"]
        assert service.volumes.keys() == ({"/ledger"} if on else set())
        assert service.env["PROBE_LEDGER"].startswith("/ledger/" if on else "${ledger.path}/")


def test_it_is_not_asked_for_the_overlay_of_its_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.Settings().write(tmp_path, "shop-drill")
    monkeypatch.setenv("GAPLESS_FOR", "production")

    def shown(env: Mapping[str, str] | None) -> int:
        argv = [*stage.CLI, "-f", str(tmp_path / scratch.FILE), "show"]
        return subprocess.run(argv, capture_output=True, check=False, env=env).returncode

    assert (shown(None), shown(stage.environment())) == (2, 0)
