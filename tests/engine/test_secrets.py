"""The secret store: who may read it, what it refuses, what it never tells."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from gapless.engine import secrets
from gapless.engine.paths import Paths
from gapless.errors import Damaged, EnvironmentFault, GaplessError, UsageError

UNHURRIED = settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def roof() -> Iterator[Path]:
    """A short path: the run directory holds sockets."""
    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def paths(roof: Path) -> Paths:
    return Paths("chat", roof / "state", roof / "run")


@pytest.fixture
def store(paths: Paths) -> secrets.Secrets:
    return secrets.Secrets(paths)


def test_nothing_is_there_and_nothing_is_made_by_reading(
    store: secrets.Secrets, paths: Paths
) -> None:
    assert store.names() == store.values() == ()
    assert store.get("X") is None
    assert not paths.state.exists()


def test_owner_only(store: secrets.Secrets, paths: Paths) -> None:
    old = os.umask(0)
    try:
        store.set("KEY", "hunter22")
    finally:
        os.umask(old)
    assert stat.S_IMODE(paths.secrets.stat().st_mode) == 0o700
    for file in paths.secrets.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    opened = paths.secrets / "secrets.json"
    opened.chmod(0o644)
    assert secrets.Secrets(paths).get("KEY") == "hunter22"
    assert stat.S_IMODE(opened.stat().st_mode) == 0o600


@UNHURRIED
@given(some.dictionaries(some.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True), some.text()))
def test_what_is_set_comes_back(paths: Paths, values: dict[str, str]) -> None:
    store = secrets.Secrets(paths)
    for name, value in values.items():
        try:
            store.set(name, value)
        except UsageError as refused:
            wrong = not value or "\0" in value or not name.isascii()
            assert wrong or _surrogate(value)
            assert len(value) < 8 or value not in refused.message
        else:
            assert secrets.Secrets(paths).get(name) == store.get(name) == value


def _surrogate(value: str) -> bool:
    return any(0xD800 <= ord(c) <= 0xDFFF for c in value)


@pytest.mark.parametrize("name", ["", "a b", "1A", "A-B", "A=B", "A\n", "../x", ".x", "a.", "Ä"])
def test_names_that_are_none(store: secrets.Secrets, name: str) -> None:
    for attempt in (lambda: store.set(name, "value"), lambda: store.ensure(name)):
        with pytest.raises(UsageError, match="not a name"):
            attempt()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "empty"),
        ("hunter22\0", "NUL"),
        ("hunter22\udcff", "UTF-8"),
        ("hunter22" * 10_000, "too long"),
        ("é" * 32_769, "too long"),
    ],
)
def test_values_that_are_none(store: secrets.Secrets, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        store.set("KEY", value)
    assert "hunter22" not in refused.value.message
    store.set("KEY", "é" * 32_768)


def test_generate_rotate_remove(store: secrets.Secrets) -> None:
    first = store.generate("KEY", 40)
    assert len(first) == 40
    assert first.isalnum()
    with pytest.raises(UsageError, match="has a value already"):
        store.generate("KEY")
    second = store.rotate("KEY")
    assert len(second) == 40
    assert second != first
    assert store.get("KEY") == second
    store.set("WEAK", "1234")
    assert len(store.rotate("WEAK")) == secrets.LENGTH
    store.remove("KEY")
    assert store.names() == ("WEAK",)
    for gone in (store.rotate, store.remove):
        with pytest.raises(UsageError, match="has no value"):
            gone("KEY")
    for length in (0, 11, 1025):
        with pytest.raises(UsageError, match="length"):
            store.generate("SHORT", length)


def test_ours_are_not_among_the_users(store: secrets.Secrets) -> None:
    password = store.ensure("data.db.password")
    assert store.ensure("data.db.password") == password
    store.set("env.LEVEL", "")
    assert store.get("env.LEVEL") == ""
    assert store.names() == ()
    assert store.values() == (password,)
    with pytest.raises(UsageError):
        store.rotate("data.db.password")


def test_capture(store: secrets.Secrets) -> None:
    assert store.capture({"A": "one", "B": "two", "EMPTY": "", "env.X": ""}) == ()
    assert store.names() == ("A", "B")
    store.set("B", "by hand")
    # The environment replaces what came from it, and leaves what was set by hand.
    assert store.capture({"A": "three", "B": "two"}) == ("B",)
    assert (store.get("A"), store.get("B")) == ("three", "by hand")
    assert store.capture({"B": "by hand"}) == ()
    with pytest.raises(UsageError):
        store.capture({"A": "four", "C": "x\0"})
    assert store.get("A") == "three"


def test_another_process_sees_a_change(store: secrets.Secrets, paths: Paths) -> None:
    other = secrets.Secrets(paths)
    store.set("KEY", "hunter22")
    assert other.masker()("hunter22 hunter33") == "*** hunter33"
    store.set("KEY", "hunter33")
    assert other.get("KEY") == "hunter33"
    assert other.masker()("hunter22 hunter33") == "hunter22 ***"


def _ensure_many(paths: Paths, names: list[str]) -> None:
    store = secrets.Secrets(paths)
    for name in names:
        store.ensure(name)


def test_writers_take_turns(paths: Paths) -> None:
    names = [f"data.n{n}.password" for n in range(20)]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_ensure_many, args=(paths, names)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    store = secrets.Secrets(paths)
    assert len({store.get(name) for name in names} - {None}) == len(names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "secrets": {}}',
        '{"version": 1, "secrets": ["hunter22"]}',
        '{"version": 1, "secrets": {"A": {"value": "hunter22"}}}',
        "hunter22",
        "\x80",
    ],
)
def test_damage_is_one_clear_error_without_the_values(paths: Paths, text: str) -> None:
    paths.make()
    paths.secrets.mkdir()
    (paths.secrets / "secrets.json").write_bytes(text.encode("latin-1"))
    store = secrets.Secrets(paths)
    for attempt in (store.names, store.values, lambda: store.set("A", "b"), lambda: store.get("A")):
        with pytest.raises(Damaged, match="damaged") as broken:
            attempt()
        assert "hunter22" not in str(broken.value.as_dict())
    assert (paths.secrets / "secrets.json").read_bytes() == text.encode("latin-1")


def test_no_room_is_one_clear_error(paths: Paths) -> None:
    paths.state.parent.mkdir(exist_ok=True)
    paths.state.write_text("a file where a directory should be")
    with pytest.raises(GaplessError) as refused:
        secrets.Secrets(paths).set("A", "b")
    assert isinstance(refused.value, EnvironmentFault)


def test_interrupted_write_leaves_the_old_values(store: secrets.Secrets, paths: Paths) -> None:
    store.set("KEY", "old value")
    with pytest.raises(RuntimeError), store._writing() as held:
        held.clear()
        raise RuntimeError("killed here")
    assert store.get("KEY") == secrets.Secrets(paths).get("KEY") == "old value"
    (paths.secrets / ".secrets.json.abc").write_text(json.dumps({"half": "written"}))
    assert secrets.Secrets(paths).get("KEY") == "old value"


def test_repr_is_silent(store: secrets.Secrets) -> None:
    store.set("KEY", "hunter22")
    assert "hunter22" not in repr(store.about("KEY"))
    assert "hunter22" not in repr(store)
