"""The probe service in each of its modes, as a program."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.drills import ports, probe_app
from tests.drills.stand import wait_for


class Probe:
    """One running probe service on a port."""

    def __init__(self, *more: str, file: str = probe_app.__file__, **env_more: str) -> None:
        self.port = ports.reserve()
        env = {**os.environ, "SERVER_ID": "web.1@r1", **env_more}
        argv = [sys.executable, file, "--port", str(self.port), *more]
        self.child = subprocess.Popen(argv, env=env)
        wait_for("the probe", self._answers)

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/ready")
        except OSError:
            return False
        return True

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def probes() -> Iterator[list[Probe]]:
    made: list[Probe] = []
    yield made
    for one in made:
        one.child.kill()
        one.child.wait()


def test_good(probes: list[Probe]) -> None:
    probes.append(probe := Probe())
    assert probe.ask("GET", "/ready") == (200, b"ready\n")
    assert probe.ask("GET", "/") == (200, b"web.1@r1\n")
    assert probe.ask("POST", "/echo", b"hello") == (200, b"hello")
    assert probe.ask("GET", "/slow?s=0.01")[0] == 200
    assert probe.ask("GET", "/nowhere")[0] == 404
    assert probe.ask("GET", "/echo")[0] == 405


def test_bad_and_never_ready(probes: list[Probe]) -> None:
    probes += [bad := Probe("--mode", "bad"), never := Probe("--mode", "never-ready")]
    assert bad.ask("GET", "/ready")[0] == 200
    assert bad.ask("GET", "/")[0] == 500
    assert never.ask("GET", "/ready")[0] == 503
    assert never.ask("GET", "/")[0] == 200


def test_crash() -> None:
    argv = [sys.executable, probe_app.__file__, "--port", "1", "--mode", "crash"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "crash" in done.stderr


def test_the_mode_lies_beside_the_file(probes: list[Probe], tmp_path: Path) -> None:
    file = tmp_path / "probe_app.py"
    shutil.copyfile(probe_app.__file__, file)
    (tmp_path / "mode").write_text("bad 7\n")
    probes.append(probe := Probe(file=str(file)))
    assert probe.ask("GET", "/")[0] == 500


def test_term_lets_what_is_in_flight_finish(probes: list[Probe]) -> None:
    probes.append(probe := Probe())
    connection = http.client.HTTPConnection("127.0.0.1", probe.port, timeout=10)
    connection.request("GET", "/slow?s=0.5")
    probe.ask("GET", "/")  # it has surely begun: this one came after it
    probe.child.send_signal(signal.SIGTERM)
    assert connection.getresponse().status == 200
    connection.close()
    assert probe.child.wait(timeout=10) == 0


def test_it_turns_bad_and_good_again_while_it_runs(probes: list[Probe]) -> None:
    probes.append(probe := Probe())
    assert probe.ask("POST", "/turn?bad")[0] == 200
    assert probe.ask("GET", "/")[0] == 500
    assert probe.ask("GET", "/ready")[0] == 200
    assert probe.ask("POST", "/turn?good")[0] == 200
    assert probe.ask("GET", "/")[0] == 200


def test_it_records_each_time_it_does_something(probes: list[Probe], tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    probes.append(probe := Probe(PROBE_LEDGER=str(ledger)))
    for _ in range(2):
        assert probe.ask("POST", "/once?s=0", b"x")[0] == 200
    assert ledger.read_text() == "-\n-\n"
