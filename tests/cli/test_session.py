"""Which file, which overlay, which stack; options before and after the command's name."""

from __future__ import annotations

from pathlib import Path

import click
import click.testing
import pytest

from gapless import errors
from gapless.cli import main, session

from .conftest import Folder


def test_the_file_is_found_in_a_folder_above(folder: Folder) -> None:
    below = folder.path / "src" / "deep"
    below.mkdir(parents=True)
    answer = folder.gapless("ps", "--json", cwd=below)
    assert answer.json["stack"] == "shop"


def test_options_stand_before_and_after_the_command(folder: Folder) -> None:
    for words in (("--json", "--for", "staging", "ps"), ("ps", "--for", "staging", "--json")):
        assert folder.gapless(*words).json["stack"] == "shop-staging"


def test_the_environment_names_the_overlay_and_words_override_it(folder: Folder) -> None:
    assert folder.gapless("ps", "--json", GAPLESS_FOR="staging").json["stack"] == "shop-staging"
    answer = folder.gapless("--for", "staging", "ps", "--json", GAPLESS_FOR="absent")
    assert answer.json["stack"] == "shop-staging"


def test_f_may_name_a_folder(folder: Folder) -> None:
    answer = folder.gapless("ps", "--json", "-f", str(folder.path), cwd=folder.path.parent)
    assert answer.json["stack"] == "shop"


def test_a_slip_in_the_file_does_not_hide_the_stack(folder: Folder) -> None:
    with (folder.path / "gapless.toml").open("a") as file:
        file.write("\n[service.web\n")
    assert folder.gapless("ps", "--json").json["stack"] == "shop"


@pytest.mark.parametrize(
    "text", ["gapless = 1\n", 'name = "Bad Name"\n', "name = 3\n", 'name="../x"']
)
def test_a_file_without_a_usable_name(folder: Folder, text: str) -> None:
    (folder.path / "gapless.toml").write_text(text)
    answer = folder.gapless("ps")
    assert answer.code == 2
    assert "has no usable name" in answer.err


def test_a_file_that_is_no_text(folder: Folder) -> None:
    (folder.path / "gapless.toml").write_bytes(b"\xff\xfe\x00")
    answer = folder.gapless("ps")
    assert (answer.code, "is not UTF-8 text" in answer.err) == (2, True)


def test_only_declared_secrets_are_captured(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEY", "OTHER", "UNDECLARED"):
        monkeypatch.setenv(name, f"value of {name}")
    one = session.Session()
    one.given_file = folder.path / "gapless.toml"
    assert one.captured() == {"KEY": "value of KEY", "OTHER": "value of OTHER"}
    two = session.Session()
    two.given_file, two.overlay = one.given_file, "staging"
    assert two.captured() == {"KEY": "value of KEY"}


def test_what_the_file_asks_of_the_environment_is_captured(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEVEL", "UNASKED", "KEY", "OTHER"):
        monkeypatch.setenv(name, "x")
    with (folder.path / "gapless.toml").open("a") as file:
        file.write('[env]\nLOG = "${env.LEVEL:-info}"\nABSENT = "${env.NOT_SET:-1}"\n')
    one = session.Session()
    one.given_file = folder.path / "gapless.toml"
    assert sorted(one.captured()) == ["KEY", "LEVEL", "OTHER"]


def test_passwords_of_pages_are_captured(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABCDEFG":
        monkeypatch.setenv(name, "x")
    with (folder.path / "gapless.toml").open("a") as file:
        file.write('[edge.private]\n"/a" = "A"\n"/b" = { login = { x = "B", y = "C" } }\n')
        file.write('"/c" = false\n"/d" = ["10.0.0.0/8"]\n"/e" = { login = "D" }\n')
        file.write('[for.extra.service.web]\nprivate = "E"\n[for.extra.edge]\nprivate = 7\n')
    one = session.Session()
    one.given_file = folder.path / "gapless.toml"
    assert one.declared == ("KEY", "OTHER", "A", "B", "C", "D")
    assert sorted(one.captured()) == ["A", "B", "C", "D"]
    two = session.Session()
    two.given_file, two.overlay = one.given_file, "extra"
    assert two.declared[-1] == "E"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5s", 1.5), ("5m", 300.0), ("250ms", 0.25), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert session.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "5 m", "1e3", "５s", "9999999d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        session.duration(text)


def test_a_commands_own_meaning_of_an_option_wins() -> None:
    command = main.main.get_command(click.Context(main.main), "logs")
    assert command is not None
    owners = [p.name for p in command.params if "-f" in p.opts]
    assert owners == ["follow"]


def test_an_unexpected_fault_is_one_line(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> Path:
        raise RuntimeError("boom\nand more")

    monkeypatch.setattr(session.Session, "stack_id", property(broken))
    monkeypatch.chdir(folder.path)
    result = click.testing.CliRunner().invoke(main.main, ["ps"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == (
        "internal error: RuntimeError: boom and more; please report it"
    )
    assert "Traceback" not in result.stderr


def test_the_trace_is_there_for_those_who_ask(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> Path:
        raise RuntimeError("boom")

    monkeypatch.setenv("GAPLESS_DEBUG", "1")
    monkeypatch.setattr(session.Session, "stack_id", property(broken))
    monkeypatch.chdir(folder.path)
    result = click.testing.CliRunner().invoke(main.main, ["ps"])
    assert "Traceback" in result.stderr


def test_unknown_names_the_nearest() -> None:
    error = main.unknown("service", "wbe", ["web", "worker"])
    assert isinstance(error, errors.UsageError)
    assert error.message == 'no service "wbe"; did you mean "web"?'
