"""On a terminal: a live table while it lasts, lines that stay, Ctrl-C that only leaves."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import Any

import pytest

from .conftest import Folder
from .test_follow import END, PROGRESS, STEP
from .test_render import STATUS
from .wire import Wire


class Terminal:
    """The command on a pseudo-terminal of its own."""

    def __init__(self, folder: Folder, *words: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        self.running = subprocess.Popen(
            [sys.executable, "-m", "gapless", *words],
            cwd=folder.path,
            env={**folder.env, "TERM": "xterm-256color", "COLUMNS": "160", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.text = ""

    def until(self, part: str) -> str:
        """Read until it was printed, or to the end."""
        while part not in self.text and self._more():
            pass
        assert part in self.text, self.text
        return self.text

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._more():
            pass
        os.close(self.master)
        return self.running.wait(30)

    def _more(self) -> bool:
        try:
            self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")
        except OSError:
            return False
        return True


def test_a_deploy_has_a_live_table(folder: Folder, wire: Wire) -> None:
    wire.status = STATUS
    wire.events = [STEP, PROGRESS, None, END]
    terminal = Terminal(folder, "deploy")
    terminal.until("web.1@r12")
    terminal.until("because release 2")
    terminal.until("port 5000 is taken")
    wire.hold.set()
    terminal.end()
    assert "Traceback" not in terminal.text


def test_it_ends_with_the_verdict(folder: Folder, wire: Wire) -> None:
    wire.status = STATUS
    wire.events = [STEP, END]
    terminal = Terminal(folder, "deploy")
    assert terminal.end() == 0
    assert "0 of 1,000 requests failed" in terminal.text


def test_ctrl_c_detaches_and_says_how_to_abort(folder: Folder, wire: Wire) -> None:
    wire.status = STATUS
    wire.events = [STEP, None]
    terminal = Terminal(folder, "deploy")
    terminal.until("because release 2")
    terminal.running.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "detached: what was begun goes on; gapless abort undoes it" in terminal.text
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured(
    folder: Folder, wire: Wire, env: dict[str, Any], coloured: bool
) -> None:
    wire.status = STATUS
    terminal = Terminal(folder, "ps", **env)
    assert terminal.end() == 0
    assert "web.1@r12" in terminal.text
    assert ("\x1b[32m" in terminal.text) == coloured


def test_a_dumb_terminal_gets_plain_lines(folder: Folder, wire: Wire) -> None:
    wire.status = STATUS
    terminal = Terminal(folder, "ps", TERM="dumb")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.text


@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 4), (b"\n", 4)])
def test_down_with_data_asks(folder: Folder, wire: Wire, typed: bytes, code: int) -> None:
    terminal = Terminal(folder, "down", "--data")
    terminal.until("remove all data for good?")
    os.write(terminal.master, typed)
    assert terminal.end() == code
    assert "not confirmed; nothing was changed" in terminal.text
    assert wire.asked == []
