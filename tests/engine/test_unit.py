"""The systemd unit: sound for systemd itself, and nothing of a path becomes a directive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.engine import unit
from gapless.errors import UsageError

PLAIN = unit.Unit(
    stack="shop",
    command=(sys.executable, "-P", "-m", "gapless.engine.main", "--file", "/srv/shop/gapless.toml"),
    state="/var/lib/gapless/shop",
    environment={"PATH": "/usr/bin:/bin"},
)
NASTY = (
    'a b"c',
    "%n%h%%",
    "$HOME ${PATH} $$",
    "back\\slash\\n",
    "'quote'; reboot",
    "ü–日本",
    "x\\",
    "-leading",
    "#comment",
    "[Service]",
)


def directives(text: str) -> list[str]:
    """The keys, in order, sections too."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    return [line.partition("=")[0] for line in lines]


def test_it_outlives_what_it_must() -> None:
    text = str(PLAIN)
    for line in ("KillMode=process", "OOMPolicy=continue", "Type=notify", "Restart=on-failure"):
        assert line in text.splitlines()
    assert "WantedBy=multi-user.target" in text
    user = str(replace(PLAIN, system=False))
    assert "WantedBy=default.target" in user
    assert "Protect" not in user


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_path_becomes_a_directive(path: str) -> None:
    named = replace(
        PLAIN, command=(*PLAIN.command, path), state=path, environment={"GAPLESS_STATE": path}
    )
    try:
        text = str(named)
    except UsageError:
        assert any(ord(sign) < 32 or ord(sign) == 127 for sign in path)
        return
    assert directives(text) == directives(str(replace(PLAIN, environment={"GAPLESS_STATE": "/"})))


@pytest.mark.parametrize("path", ["/srv/a\nExecStartPre=/bin/false", "a\rb", "\x1b[1m", "a\udc80b"])
def test_what_cannot_be_quoted_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="cannot be written into a systemd unit"):
        str(replace(PLAIN, state=path))


def verified(text: str, folder: Path) -> str:
    """What systemd says of the unit; "" when it is sound."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("there is no systemd-analyze here")
    place = folder / PLAIN.name
    place.write_text(text)
    done = subprocess.run(
        [tool, "verify", "--man=no", str(place)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    said = [line for line in done.stderr.splitlines() if PLAIN.name in line]
    return "\n".join(said)


@pytest.mark.parametrize("system", [True, False])
def test_systemd_finds_nothing_wrong(tmp_path: Path, system: bool) -> None:
    assert verified(str(replace(PLAIN, system=system)), tmp_path) == ""


def test_systemd_understands_every_path(tmp_path: Path) -> None:
    named = replace(
        PLAIN,
        command=(*PLAIN.command, *NASTY),
        environment={f"V{n}": text for n, text in enumerate(NASTY)},
        state=NASTY[0],
    )
    assert verified(str(named), tmp_path) == ""


def test_systemd_would_tell(tmp_path: Path) -> None:
    """The planted fault: were it not quoted, systemd would see other words and directives."""
    broken = str(PLAIN).replace("KillMode=process", "KillMode=proces\nNonsense=1")
    told = verified(broken, tmp_path)
    assert "Nonsense" in told
    assert "KillMode" in told or "kill mode" in told.lower()
