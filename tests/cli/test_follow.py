"""Long operations over the wire: lines, endings, exit codes, hanging up, time limits."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from .conftest import Folder
from .wire import Wire

STEP = {"event": "step", "n": 1, "text": "web.1@r2 start", "cause": "release 2", "state": "done"}
RESULT = {"release": 2, "requests": 1000, "failed": 0, "p99_ms": 5.0, "baseline_p99_ms": 4.0}
END = {"event": "end", "exit": 0, "message": "r2 is live", "hint": None, "result": RESULT}
PROGRESS = {"event": "progress", "phase": "rolling", "services": {"web": {"ready": 1, "wanted": 3}}}


def test_a_deploy_as_lines(folder: Folder, wire: Wire) -> None:
    wire.events = [
        {"event": "build", "line": "\x1b[1mpip"},
        STEP, PROGRESS, PROGRESS,
        {"event": "note", "text": "undo by restart"},
        END,
    ]  # fmt: skip
    answer = folder.gapless("deploy", "web", "--force", "--surge", "all", "--wait")
    assert answer.code == 0
    assert answer.err.splitlines() == [
        "build | �[1mpip",
        "[1] web.1@r2 start   because release 2",
        "rolling: web 1/3",
        "note: undo by restart",
    ]
    assert answer.out.splitlines() == ["r2 is live", "0 of 1,000 requests failed, p99 +1 ms"]
    path, body = wire.asked[0]
    assert (path, body) == (
        "/v1/deploy",
        {
            "file": str(folder.path / "gapless.toml"),
            "environment": {},
            "services": ["web"],
            "force": True,
            "surge_all": True,
            "wait": True,
        },
    )


def test_code_of_another_folder_needs_a_yes(folder: Folder, wire: Wire) -> None:
    other = folder.path.parent / "other.toml"
    other.touch()
    wire.place = {"config_file": str(other)}
    wire.events = [END]
    answer = folder.gapless("deploy")
    assert (answer.code, wire.asked) == (2, [])
    assert f"shop runs from {other}" in answer.err
    assert folder.gapless("deploy", "-y").code == 0
    wire.asked.clear()
    other.unlink()
    assert folder.gapless("deploy").code == 0


def test_json_is_the_result_alone(folder: Folder, wire: Wire) -> None:
    wire.events = [STEP, END]
    answer = folder.gapless("deploy", "--json")
    assert answer.json == {"exit_code": 0, "message": "r2 is live", "hint": None, **RESULT}


@pytest.mark.parametrize("code", [1, 2, 4])
def test_the_end_decides_the_exit_code(folder: Folder, wire: Wire, code: int) -> None:
    wire.events = [
        {"event": "end", "exit": code, "message": "web: not ready", "hint": "gapless logs web.1"}
    ]
    answer = folder.gapless("deploy")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err == "web: not ready\nhint: gapless logs web.1\n"
    assert folder.gapless("deploy", "--json").json["exit_code"] == code


def test_a_refusal_keeps_its_code_and_hint(folder: Folder, wire: Wire) -> None:
    wire.refusal = {"error": "Refused", "message": "busy", "hint": "gapless abort", "exit_code": 4}
    answer = folder.gapless("deploy")
    assert (answer.code, answer.err) == (4, "busy\nhint: gapless abort\n")
    assert folder.gapless("--json", "deploy").json["message"] == "busy"


@pytest.mark.parametrize("before", [[], [STEP]])
def test_a_controller_that_dies_is_said_to_have(
    folder: Folder, wire: Wire, before: list[dict[str, Any]]
) -> None:
    wire.hold.set()
    wire.events = [*before, None]
    answer = folder.gapless("deploy")
    assert answer.code == 3
    assert "the controller went away" in answer.err
    assert "gapless up -d" in answer.err


def test_no_longer_than_the_timeout(folder: Folder, wire: Wire) -> None:
    wire.events = [STEP, None]
    answer = folder.gapless("deploy", "--timeout", "300ms")
    assert answer.code == 1
    assert "not done within 0.3 s; what was begun goes on" in answer.err


def test_output_of_a_one_off_is_data(folder: Folder, wire: Wire) -> None:
    wire.events = [
        {"event": "output", "text": "a\nb"},
        {"event": "output", "text": "c\n"},
        {"event": "end", "exit": 0, "message": "", "hint": None, "result": {}},
    ]
    answer = folder.gapless("run", "web", "--", "manage", "--json", "-f", "x")
    assert (answer.code, answer.out, answer.err) == (0, "a\nbc\n", "")
    assert wire.asked[0] == (
        "/v1/run", {"name": "web", "argv": ["manage", "--json", "-f", "x"]},
    )  # fmt: skip


def test_a_job_runs_as_declared(folder: Folder, wire: Wire) -> None:
    wire.events = [END]
    folder.gapless("run", "migrate")
    assert wire.asked[0][1] == {"name": "migrate", "argv": None}


BODIES: list[tuple[list[str], str, dict[str, Any]]] = [
    (["scale", "web=auto"], "/v1/scale", {"counts": {"web": None}}),
    (["scale", "web=5", "worker=0"], "/v1/scale", {"counts": {"web": 5, "worker": 0}}),
    (["restart"], "/v1/restart", {"services": [], "wait": False}),
    (["stop", "web"], "/v1/stop", {"services": ["web"]}),
    (["start", "web"], "/v1/start", {"services": ["web"]}),
    (["maintenance", "off"], "/v1/maintenance", {"on": False}),
    (["maintenance", "hold", "1.5s"], "/v1/maintenance", {"hold": 1.5}),
    (["rollback", "r11", "-y"], "/v1/rollback", {"release": 11, "wait": False, "yes": True}),
    (["rollback"], "/v1/rollback", {"release": None, "wait": False, "yes": False}),
    (["abort"], "/v1/abort", {}),
    (["wait", "web"], "/v1/wait", {"services": ["web"]}),
]


@pytest.mark.parametrize(("words", "path", "body"), BODIES, ids=[" ".join(b[0]) for b in BODIES])
def test_what_each_command_asks_for(
    folder: Folder, wire: Wire, words: list[str], path: str, body: dict[str, Any]
) -> None:
    wire.events = [{"event": "end", "exit": 0}]
    assert folder.gapless(*words).code == 0
    assert wire.asked == [(path, body)]
    assert wire.actors == {pwd.getpwuid(os.getuid()).pw_name}
