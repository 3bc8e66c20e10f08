"""Every command against a real stack: a controller, an edge and replicas of one's own."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.drills import ports
from gapless.runtimes.machine import proc

from .conftest import Answer, Folder
from .test_terminal import Terminal

HELLO = Path(__file__).parents[2] / "examples" / "hello"
STACK = """\
gapless = 1
name = "hello"

[service.web]
run = "python3 app.py ${socket}"
replicas = 2
watch = "200ms"
drain = "2s"

[job.greet]
run = "python3 -c 'print(6 * 7)'"

[edge]
listen = "127.0.0.1:%d"
"""


class Stack:
    """A folder, its address, and short words for what tests do."""

    def __init__(self, folder: Folder, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}/"

    def __call__(self, *words: str) -> Answer:
        return self.folder.gapless(*words)

    def get(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, ""

    def replicas(self) -> list[dict[str, object]]:
        found = self("ps", "--json").json["services"][0]["replicas"]
        assert isinstance(found, list)
        return found

    def write(self, text: str) -> None:
        (self.folder.path / "app.py").write_text(text)

    def controller(self) -> int:
        return int(self("lock", "status", "--json").json["holder"].split()[1].rstrip(","))


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A folder that replicas can come into: as root they have a user of their own.

    Not below pytest's own, which every run of pytest closes to others.
    """
    with tempfile.TemporaryDirectory(prefix="gx") as place:
        Path(place).chmod(0o711)
        yield Path(place)


def place_stack(place: Path, port: int) -> Folder:
    app = place / "app"
    app.mkdir(parents=True)
    (app / "gapless.toml").write_text(STACK % port)
    (app / "app.py").write_bytes((HELLO / "app.py").read_bytes())
    return Folder(app, {**os.environ, "GAPLESS_STATE": str(place / "s")})


@pytest.fixture(scope="module")
def stack(room: Path) -> Iterator[Stack]:
    """A running stack of two replicas; it is down and gone afterwards."""
    port = ports.reserve()
    one = Stack(place_stack(room, port), port)
    begun = one("up", "-d")
    assert begun.code == 0, begun
    assert begun.out == f"hello is up at {one.url.rstrip('/')}\n"
    yield one
    ended = one("down", "--data", "-y")
    assert ended.code in (0, 3), ended


def test_it_serves_and_ps_says_so(stack: Stack) -> None:
    assert stack.get()[0] == 200
    status = stack("ps", "--json").json
    assert (status["controller"], status["release"]) == ("running", "r1")
    assert [r["state"] for r in status["services"][0]["replicas"]] == ["ready", "ready"]
    text = stack("ps").out
    assert "web.1@r1  ready" in text
    assert stack.url.rstrip("/") in text


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = [r["pid"] for r in stack.replicas()]
    assert stack("up", "-d").code == 0
    assert [r["pid"] for r in stack.replicas()] == before


def test_a_deploy_of_the_same_code_does_nothing(stack: Stack) -> None:
    before = [r["pid"] for r in stack.replicas()]
    answer = stack("deploy")
    assert (answer.code, answer.out) == (0, "r1 is what the folder holds\n")
    assert [r["pid"] for r in stack.replicas()] == before


def test_plan_shows_steps_with_causes_and_does_nothing(stack: Stack) -> None:
    answer = stack("plan", "scale", "web=3")
    assert "web.3@r1 start, scaled to 3" in answer.out
    assert len(stack.replicas()) == 2
    assert stack("plan", "scale", "web=3", "--json").json["steps"]
    assert stack("plan", "rollback").code == 4


def test_scale_up_and_back(stack: Stack) -> None:
    answer = stack("scale", "web=3")
    assert (answer.code, answer.out) == (0, "scaled web=3\n")
    assert "[1] web.3@r1 start   because scaled to 3" in answer.err
    assert "scaled to 3 by hand" in stack("ps").out
    assert stack("scale", "web=2").code == 0
    assert len(stack.replicas()) == 2
    assert stack("scale", "wbe=2").code == 2


def test_jobs_and_one_offs(stack: Stack) -> None:
    assert stack("run", "greet").out == "42\n"
    answer = stack("run", "web", "--", "python3", "-c", "import os; print(os.environ['RELEASE'])")
    assert (answer.code, answer.out) == (0, "r1\n")
    answer = stack("run", "web", "--", "python3", "-c", "raise SystemExit(5)")
    assert (answer.code, "exit code 5" in answer.err) == (1, True)
    assert stack("run", "absent").code == 2


def test_exec_and_connect(stack: Stack) -> None:
    answer = stack(
        "exec", "web.1", "--", "python3", "-c", "import os; print(os.environ['SERVER_ID'])"
    )
    assert answer.code == 0
    assert answer.out.startswith("web.1@r1")
    answer = stack("connect", "db")
    assert (answer.code, 'no store is named "db"' in answer.err) == (2, True)


def test_maintenance_on_and_off(stack: Stack) -> None:
    assert stack("maintenance", "on").out == "maintenance: on\n"
    assert stack.get()[0] == 503
    assert "maintenance: on" in stack("ps").out
    assert stack("maintenance", "off").code == 0
    assert stack.get()[0] == 200


def test_stop_and_start(stack: Stack) -> None:
    assert stack("stop", "web").code == 0
    assert stack.get()[0] == 503
    assert stack("start", "web").code == 0
    assert stack("wait").code == 0
    assert stack.get()[0] == 200


def test_a_bad_version_costs_nothing_and_is_explained(stack: Stack) -> None:
    good = (stack.folder.path / "app.py").read_text()
    before = sorted(str(r["pid"]) for r in stack.replicas())
    stack.write("raise SystemExit('no such table: users')\n")
    try:
        answer = stack("deploy")
        assert answer.code == 4
        assert "ended before it was ready (exit code 1)" in answer.err
        assert "    | no such table: users" in answer.err
        assert "hint: gapless logs web" in answer.err
        assert sorted(str(r["pid"]) for r in stack.replicas()) == before
        document = stack("deploy", "--json")
        assert document.json["exit_code"] == 4
        assert document.json["held"] is False
    finally:
        stack.write(good)


def test_deploy_rollback_and_their_traces(stack: Stack) -> None:
    good = (stack.folder.path / "app.py").read_text()
    stack.write(good.replace("hello from", "hi from"))
    try:
        answer = stack("deploy", "--json")
        assert (answer.code, answer.json["held"]) == (0, True)
        release = f"r{answer.json['release']}"
        assert stack.get()[1].startswith("hi from web.")
        listed = {entry["release"]: entry["state"] for entry in stack("releases", "--json").json}
        assert (listed[release], listed["r1"]) == ("current", "previous")
        answer = stack("rollback")
        assert answer.out.startswith("rolled back: r1 has the traffic")
        assert stack.get()[1].startswith("hello from web.")
    finally:
        stack.write(good)
    lines = stack("history", "--json").json
    assert any(entry["what"].startswith("rollback") for entry in lines)
    assert {entry["actor"] for entry in lines} > {"controller"}


def test_a_restart_replaces_every_replica(stack: Stack) -> None:
    before = {r["pid"] for r in stack.replicas()}
    assert stack("restart", "--wait").code == 0
    assert not before & {r["pid"] for r in stack.replicas()}


def test_up_stays_and_ctrl_c_only_leaves(stack: Stack) -> None:
    terminal = Terminal(stack.folder, "up")
    terminal.until("Ctrl-C leaves")
    terminal.until("web.1@r1")
    terminal.running.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "detached: the stack goes on" in terminal.text
    assert stack.get()[0] == 200


def test_describe_and_top(stack: Stack) -> None:
    assert stack("describe", "web.1", "--json").json["state"] == "ready"
    assert "state: running" in stack("describe", "edge").out
    assert stack("describe", "absent").code == 2
    assert {row["service"] for row in stack("top", "--json").json["rows"]} >= {"web"}


def test_metrics(stack: Stack) -> None:
    assert stack.get()[0] == 200
    samples = stack("metrics", "--json").json
    found = {(one["name"], *one["labels"].values()): one["value"] for one in samples}
    assert found["gapless_replicas_ready", "web"] == found["gapless_replicas_wanted", "web"]
    assert found["gapless_edge_requests_total", "web"] > 0
    assert ("gapless_edge_nobody_left_total", "web") in found
    assert 'gapless_replica_memory_bytes{replica="web.' in stack("metrics").out


def test_a_killed_controller_is_seen_through_and_taken_over(stack: Stack) -> None:
    running = stack("ps", "--json").json
    os.kill(stack.controller(), signal.SIGKILL)
    dead = stack("ps", "--json").json
    assert dead["controller"] == "dead"
    assert dead["edge"]["url"] == running["edge"]["url"]

    def facts(status: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[tuple[str, ...]]:
        replicas = status["services"][0]["replicas"]
        return [(r["id"], r["state"], r["pid"], r["release"], r["address"]) for r in replicas]

    assert facts(dead) == facts(running)
    assert stack.get()[0] == 200
    assert (stack("deploy").code, stack("prune").code) == (3, 3)
    assert json.dumps(stack("releases", "--json").json)
    assert stack("up", "-d").code == 0
    assert facts(stack("ps", "--json").json) == facts(running)


def test_down_finds_what_a_dead_controller_left(stack: Stack) -> None:
    pids = [int(str(r["pid"])) for r in stack.replicas()]
    os.kill(stack.controller(), signal.SIGKILL)
    answer = stack("down")
    assert (answer.code, answer.out) == (0, "hello is down\n")
    for pid in pids:
        found = proc.stat(pid)
        assert found is None or found.dead
    assert stack("down").code == 3
    # Whatever else is kept, it comes up again as it was.
    assert stack("prune").code == 0
    assert "r1" in {entry["release"] for entry in stack("releases", "--json").json}
    assert stack("up", "-d").code == 0
    assert stack.get()[0] == 200


def test_prune_removes_what_nothing_needs(stack: Stack) -> None:
    needed = {entry["release"] for entry in stack("releases", "--json").json}
    built = [f"r{stack('build', '--json').json['release']}" for _ in range(2)]
    answer = stack("prune", "--keep", "1")
    assert answer.code == 0
    assert answer.out.startswith(f"removed {built[0]}; kept ")
    kept = {entry["release"] for entry in stack("releases", "--json").json}
    assert kept == {*needed, built[1]}
    assert f"removed {built[1]}; kept" in stack("prune").out
    assert stack("prune").out.startswith("removed nothing; kept ")
    assert stack.get()[0] == 200


def test_a_port_that_is_taken_is_said_and_nothing_stays(stack: Stack, room: Path) -> None:
    port = int(stack.url.rstrip("/").rpartition(":")[2])
    other = place_stack(room / "other", port)
    answer = other.gapless("up", "-d")
    try:
        assert answer.code in (1, 4)
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in answer.err
    finally:
        other.gapless("down")


def test_an_invalid_file_starts_no_controller(folder: Folder) -> None:
    (folder.path / "gapless.toml").write_text('name = "shop"\n[service.web]\nreplica = 3\n')
    answer = folder.gapless("up", "-d")
    assert answer.code == 2
    assert 'unknown key "replica"' in answer.err
    assert folder.gapless("ps", "--json").json["controller"] == "dead"
