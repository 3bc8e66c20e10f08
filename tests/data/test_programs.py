"""Stores whose programs are in an image; on a real engine: tests/real/test_docker_command.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gapless import data
from gapless.data import base, programs
from gapless.errors import DataFault
from gapless.model.data import Data


@pytest.mark.parametrize(("kind", "image"), [("postgres", "postgres:18"), ("redis", "redis:7")])
async def test_it_has_its_name_and_is_made_only_where_containers_are(
    kind: Any, image: str, tmp_path: Path
) -> None:
    place = base.Place(tmp_path / "home", tmp_path / "run", tmp_path / "engines", 5000, "pw")
    store = data.open("db", Data(type=kind, image=image), place)
    # The same for everybody: it is in no network but the stack's own.
    assert store.attributes()["host"] == store.attributes("172.18.0.1")["host"] == "db"
    assert "@db:5000" in store.attributes()["url"]
    assert not store.created()
    found = programs.of(kind, Data(type=kind, image=image), place, None)
    with pytest.raises(DataFault, match="there are no containers here"):
        await found.anew(None)
    plain = data.open("db", Data(type=kind), place)
    assert plain.attributes("172.18.0.1")["host"] == "172.18.0.1"


def test_what_the_machine_made_is_found_anew_in_the_image(tmp_path: Path) -> None:
    place = base.Place(tmp_path, tmp_path, tmp_path, 5000, "pw")
    noted = {"name": "postgres-18.6", "version": "18.6", "bin": "", "server": "postgres"}
    found = programs.OfImage("postgres", place, "postgres:18").recall(noted, 18)
    assert (found.name, found.major) == ("", 18)
    noted |= {"name": "sha256:1", "bin": "/usr/lib/postgresql/18/bin"}
    found = programs.OfImage("postgres", place, "postgres:18").recall(noted, 18)
    assert (found.name, found.program) == ("sha256:1", "/usr/lib/postgresql/18/bin/postgres")


@pytest.mark.parametrize(
    "table", [{"type": "files"}, {"type": "redis", "url": "redis://elsewhere"}]
)
def test_an_image_is_of_what_runs_here(table: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="image"):
        Data.model_validate({**table, "image": "redis:7"})
