"""Who is struck: the processes of one replica, whatever numbers they know themselves by."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gapless import errors
from gapless.drills import strike, workers

APART = ("unshare", "--user", "--map-root-user", "--fork", "--pid", "--kill-child")


def test_processes_are_found_by_the_numbers_that_they_have_for_themselves(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run((*APART, "true"), check=False).returncode:
        pytest.skip("no namespace of pids can be made here")
    id, told = f"beat.1@r{os.getpid()}", tmp_path / "told"
    script = f"echo $$ > {told}.new; mv {told}.new {told}; exec sleep 600"
    program = subprocess.Popen((*APART, "sh", "-c", script), env={**os.environ, "SERVER_ID": id})
    try:
        assert workers.until(told.exists, 30)
        own = int(told.read_text())
        (pid,) = strike.found(id, {own})
        assert own == 1 != pid and Path(f"/proc/{pid}/root").exists()
        # By its own number it would be another process: the machine's first.
        with pytest.raises(errors.WorkFailed, match="no process of it was found"):
            strike.Struck(id, [own])
        with strike.held(id, [pid]) as struck:
            assert not struck.gone
            program.kill()
            assert workers.until(lambda: struck.gone, 30)
        assert strike.found(id, {own}) == []
    finally:
        program.kill()
        program.wait()
