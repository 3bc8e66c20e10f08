"""Damaged and unusable state, from the command line: one message, exit 2 or 4, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Folder

PLACES = [
    ("logs", "file", "logs: cannot be used"),
    ("logs/controller.log", "folder", "controller.log: cannot be used"),
    ("lock", "folder", "lock: cannot be read"),
    ("journal.db", "folder", "journal.db: the journal cannot be opened"),
    ("desired.json", "{", "desired.json: the record of what is wanted is damaged"),
    ("desired.json", "folder", "desired.json: cannot be read"),
    ("secrets/secrets.json", "{", "secrets.json: the secret store is damaged"),
]


@pytest.mark.parametrize(("name", "what", "message"), PLACES, ids=lambda value: str(value)[:24])
def test_up_says_what_is_wrong(folder: Folder, name: str, what: str, message: str) -> None:
    place = folder.paths.state / name
    place.parent.mkdir(parents=True)
    if what == "folder":
        place.mkdir()
    else:
        place.write_text(what)
    answer = folder.gapless("up", "-d", KEY="k" * 9, OTHER="o" * 9)
    ended = folder.gapless("down")
    assert message in answer.err
    assert answer.code == 4, answer
    assert "internal error" not in answer.err
    assert "controller.log" not in answer.err or "controller.log" in message
    assert ended.code in (0, 3, 4), ended


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replicas = 3", "replica = 3", 'unknown key "replica"; did you mean "replicas"?'),
        ("replicas = 3", 'replicas = "x"', "replicas: must be a whole number"),
        ("replicas = 3", "replicas =", "is not valid TOML"),
        ("replicas = 3", 'env = { A = "${db.url}" }', 'nothing is named "db"'),
    ],
)
def test_a_bad_file_is_the_whole_message(folder: Folder, old: str, new: str, message: str) -> None:
    place = folder.path / "gapless.toml"
    place.write_text(place.read_text().replace(old, new, 1))
    answer = folder.gapless("up", "-d")
    assert message in answer.err
    assert answer.code == 2
    assert "its output is in" not in answer.err


@pytest.mark.parametrize("state", ["/proc/nowhere", "/dev/null"])
def test_a_state_directory_that_cannot_be_made(folder: Folder, state: str) -> None:
    answer = folder.gapless("up", "-d", GAPLESS_STATE=state)
    assert (answer.code, "cannot be used" in answer.err) == (4, True)
    assert "GAPLESS_STATE" in answer.err


def test_sockets_with_too_long_a_path(folder: Folder, tmp_path: Path) -> None:
    place = tmp_path / ("n" * 90)
    place.mkdir()
    answer = folder.gapless("up", "-d", GAPLESS_STATE=str(place), TMPDIR=str(place))
    assert (answer.code, "too long for Unix sockets" in answer.err) == (4, True)
    assert list((place / "shop").iterdir()) == []
