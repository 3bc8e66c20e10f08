"""A scratch stack beside one of containers is made of containers, on the same base."""

from __future__ import annotations

from pathlib import Path

from gapless import stackfile
from gapless.drills import scratch
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
