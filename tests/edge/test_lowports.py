"""Ports below 1024: who may listen there is found out, and who may not is told the ways."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from gapless.edge import files, lowports
from gapless.errors import EnvironmentFault

BIND = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""As setcap cap_net_bind_service=+ep writes it."""


def test_it_is_the_machine_that_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lowports, "FIRST", tmp_path / "first")
    assert lowports.first() == 1024
    (tmp_path / "first").write_text("80\n")
    assert lowports.allowed(80, None)
    assert not lowports.allowed(79, "/no/haproxy")


def test_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert lowports.allowed(1, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a program the right")
def test_a_program_that_was_given_the_right_may(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/true")
    assert not lowports.given(program)
    try:
        os.setxattr(program, "security.capability", BIND)
    except OSError as error:
        pytest.skip(f"no file can have capabilities here: {error.strerror}")
    assert lowports.given(program)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen anywhere")
def test_who_may_not_is_told_the_ways() -> None:
    if lowports.first() <= 1:
        pytest.skip("on this machine everybody may listen anywhere")
    with pytest.raises(EnvironmentFault) as refused:
        files.check_port("127.0.0.1:1")
    hint = refused.value.hint or ""
    for way in ("ip_unprivileged_port_start=1", "setcap", "redirect to", "as root"):
        assert way in hint
