"""Wrong usage: one clear message, a hint, the right exit code, never a traceback."""

from __future__ import annotations

import pytest

from .conftest import Folder

WRONG: list[tuple[list[str], int, str]] = [
    (["deplyo"], 2, 'did you mean "deploy"?'),
    (["zzzzzz"], 2, 'no command "zzzzzz"'),
    (["ps", "--jsno"], 2, "did you mean --json?"),
    (["ps", "extra"], 2, "unexpected extra argument"),
    (["scale"], 2, "Missing argument"),
    (["scale", "web"], 2, '"web" is not SERVICE=NUMBER'),
    (["scale", "web=-1"], 2, "is not SERVICE=NUMBER"),
    (["scale", "web=1.5"], 2, "is not SERVICE=NUMBER"),
    (["scale", "web=5", "web=6"], 2, '"web" is named twice'),
    (["scale", "web=99999"], 2, "at most 1000 replicas"),
    (["scale", "wéb=2"], 2, "is not SERVICE=NUMBER"),
    (["rollback", "latest"], 2, '"latest" is not a release'),
    (["maintenance", "maybe"], 2, "is not one of 'on', 'off', 'hold'"),
    (["maintenance", "hold"], 2, "say on, off, or hold and for how long"),
    (["maintenance", "on", "10s"], 2, "say on, off, or hold and for how long"),
    (["maintenance", "hold", "a while"], 2, 'must be a duration such as "30s"'),
    (["deploy", "--surge", "some"], 2, "'some' is not 'all'"),
    (["plan", "lunch"], 2, 'nothing can be planned for "lunch"'),
    (["plan", "scale"], 2, "nothing can be planned"),
    (["plan", "scale", "web=2"], 4, "scale: the stack is not up"),
    (["plan", "rollback"], 4, "there is no earlier release"),
    (["logs", "--tail", "some"], 2, 'must be a number or "all"'),
    (["logs", "--since", "yesterday"], 2, 'must be a duration such as "30s"'),
    (["logs", "--grep", "("], 2, '--grep: "("'),
    (["logs", "web"], 2, 'no log of "web"'),
    (["describe", "nothing"], 2, 'no such thing: "nothing"'),
    (["exec", "web.1", "--", "ls"], 2, 'no running replica "web.1"'),
    (["exec", "web.1"], 2, "Missing argument"),
    (["ps", "--for", "production"], 2, "no overlay [for.production] (have: staging)"),
    (["ps", "-f", "absent.toml"], 2, "absent.toml: no such file"),
    (["--target", "swarm", "ps"], 2, "--target swarm: not implemented"),
    (["--timeout", "soon", "ps"], 2, "must be a duration"),
    (["down", "--data"], 2, "say so with -y"),
    (["deploy"], 3, "hint: gapless up -d"),
    (["build"], 3, "hint: gapless up -d"),
    (["rollback"], 3, "hint: gapless up -d"),
    (["abort"], 3, "hint: gapless up -d"),
    (["scale", "web=5"], 3, "hint: gapless up -d"),
    (["restart"], 3, "hint: gapless up -d"),
    (["stop", "web"], 3, "hint: gapless up -d"),
    (["start"], 3, "hint: gapless up -d"),
    (["maintenance", "on"], 3, "hint: gapless up -d"),
    (["run", "web", "--", "ls"], 3, "hint: gapless up -d"),
    (["connect", "db"], 3, "hint: gapless up -d"),
    (["wait"], 3, "hint: gapless up -d"),
    (["down"], 3, "nothing runs"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_usage_is_explained(folder: Folder, words: list[str], code: int, said: str) -> None:
    answer = folder.gapless(*words)
    assert (answer.code, answer.out) == (code, ""), answer
    assert said.lower() in answer.err.lower()


def test_an_error_is_a_document_with_json(folder: Folder) -> None:
    answer = folder.gapless("--json", "deploy")
    assert answer.code == 3
    assert answer.err == ""
    assert answer.json["exit_code"] == 3
    assert answer.json["error"] == "NoController"
    assert answer.json["hint"] == "gapless up -d"


def test_wrong_words_are_a_document_too(folder: Folder) -> None:
    answer = folder.gapless("ps", "--nonsense", "--json")
    assert answer.code == 2
    assert answer.json["error"] == "UsageError"


def test_json_behind_two_dashes_is_not_ours(folder: Folder) -> None:
    answer = folder.gapless("run", "web", "--", "tool", "--json")
    assert answer.out == ""
    assert answer.code == 3


def test_no_file_anywhere(folder: Folder) -> None:
    answer = folder.gapless("ps", cwd=folder.path.parent)
    assert answer.code == 2
    assert "no gapless.toml in" in answer.err
    assert "gapless init" in answer.err


def test_help_lists_every_command_without_loading_it(folder: Folder) -> None:
    answer = folder.gapless("--help")
    assert answer.code == 0
    for word in ("deploy", "rollback", "drill", "secret", "logs"):
        assert f"\n  {word} " in answer.out


def test_a_plan_before_the_first_up_leaves_nothing(folder: Folder) -> None:
    answer = folder.gapless("plan", KEY="x" * 20, OTHER="y" * 20)
    assert answer.code == 0, answer
    assert "web.3@r1 enter edge, it is ready" in answer.out
    assert "reserved: 0 of" in answer.out
    assert not folder.paths.state.exists()


def test_a_plan_names_missing_secrets(folder: Folder) -> None:
    answer = folder.gapless("plan", OTHER="y" * 20)
    assert (answer.code, answer.out) == (2, "")
    assert "secrets without a value: KEY" in answer.err
