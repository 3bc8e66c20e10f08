"""A scratch stack beside one of containers is made of containers, on the same base."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from gapless import stackfile
from gapless.drills import leak, scratch, stage
from gapless.drills.base import Options
from gapless.runtimes.docker.client import Client
from gapless.stackfile import checks
from tests.drills import conftest
from tests.real import boxed
from tests.runtimes import docker_bench

SUBJECT = """
gapless = 1
name = "shop"
[service.web]
{web}
run = "serve ${{socket}}"
[edge]
{edge}
"""


@pytest.mark.parametrize("front", ["", "lb:2"])
@pytest.mark.parametrize(
    ("web", "base"), [("", ""), ('image = "web:1"', ""), ('build = { base = "py:3" }', "py:3")]
)
def test_it_runs_where_its_subject_does(web: str, base: str, front: str, tmp_path: Path) -> None:
    edge = f'image = "{front}"' if front else ""
    ground = scratch.Ground.of(stackfile.parse(SUBJECT.format(web=web, edge=edge)).stack)
    assert ground == scratch.Ground(base, front)
    for source in (scratch.Settings(ledger=True, ground=ground), leak.Leaky(ground=ground)):
        source.write(tmp_path, "shop-drill")
        made = stackfile.load(tmp_path / scratch.FILE).stack
        found = {".".join(map(str, path)) for path in checks.packed(made)}
        wanted = {"service.web.build": base, "edge.image": front}
        assert found == {path for path, image in wanted.items() if image}
        service = made.services["web"]
        assert service.start == (60 if base else service.start)
        if isinstance(source, scratch.Settings):
            assert service.volumes.keys() == ({"/ledger"} if base else set())
            kept = service.env["PROBE_LEDGER"]
            assert kept == ("/ledger/runs" if base else "${ledger.path}/runs")


def test_it_is_not_asked_for_the_overlay_of_its_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.Settings().write(tmp_path, "shop-drill")
    monkeypatch.setenv("GAPLESS_FOR", "production")

    def shown(env: Mapping[str, str] | None) -> int:
        argv = [*stage.CLI, "-f", str(tmp_path / scratch.FILE), "show"]
        return subprocess.run(argv, capture_output=True, check=False, env=env).returncode

    assert (shown(None), shown(stage.environment())) == (2, 0)


def test_the_images_of_its_releases_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = scratch.Ground(base=docker_bench.python_image())
    settings = scratch.Settings(replicas=1, start="60s", watch="200ms", ground=ground)
    with conftest.state() as home:
        monkeypatch.setenv("GAPLESS_STATE", str(home))
        repository = boxed.owner("boxes").repository
        source = home / "source"
        with scratch.stack("boxes", source, lambda _: None, settings, Options()):
            assert tags(repository) == ["web-r1"]
        assert tags(repository) == []


def tags(repository: str) -> list[str]:
    async def asked() -> list[str]:
        client = Client()
        found = await client.tags(repository)
        await client.close()
        return sorted(found)

    return asyncio.run(asked())
