"""``gapless secret``: values go in by prompt or pipe, and come out nowhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from gapless.engine.secrets import Secrets

from .conftest import Folder

VALUE = "hunter22 and more"


def pipe(folder: Folder, value: str | bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "gapless", "secret", *words],
        cwd=folder.path,
        env=dict(folder.env),
        input=value.encode() if isinstance(value, str) else value,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    assert b"hunter22" not in done.stdout + done.stderr
    return done


def test_set_from_a_pipe(folder: Folder) -> None:
    store = Secrets(folder.paths)
    for text, did in ((f"{VALUE}\n", b"set"), (VALUE, b"unchanged"), (f"{VALUE}\n\n", b"replaced")):
        done = pipe(folder, text, "set", "KEY")
        assert (done.returncode, done.stdout) == (0, b"KEY: " + did + b"\n")
    assert store.get("KEY") == f"{VALUE}\n"
    done = pipe(folder, VALUE, "set", "STRAY")
    assert b"does not declare it" in done.stderr


def test_set_from_a_prompt_does_not_echo(folder: Folder) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "gapless", "secret", "set", "KEY"],
        cwd=folder.path,
        env=dict(folder.env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        close_fds=True,
    )
    os.close(theirs)
    seen = b""
    for _ in range(2):
        before = seen.count(b": ")
        while seen.count(b": ") == before:
            seen += os.read(ours, 4096)
        os.write(ours, f"{VALUE}\n".encode())
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait(30) == 0
    assert b"hunter22" not in seen
    assert b"KEY: set" in seen
    assert Secrets(folder.paths).get("KEY") == VALUE


@pytest.mark.parametrize(
    ("value", "words", "said"),
    [
        (b"", ("set", "KEY"), b"empty"),
        (b"hunter22\0", ("set", "KEY"), b"NUL"),
        (b"hunter22\xff", ("set", "KEY"), b"UTF-8"),
        (b"hunter22" * 10_000, ("set", "KEY"), b"too long"),
        (b"hunter22", ("set", "data.db.password"), b"belongs to gapless"),
        (b"hunter22", ("set", "A B"), b"not a name"),
        (b"", ("generate", "KEY", "--length", "3"), b"length"),
        (b"", ("rm", "KEY"), b"has no value"),
        (b"", ("rotate", "KEY"), b"has no value"),
    ],
)
def test_refused(folder: Folder, value: bytes, words: tuple[str, ...], said: bytes) -> None:
    done = pipe(folder, value, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert Secrets(folder.paths).names() == ()


def test_generate_rotate_list_rm(folder: Folder) -> None:
    store = Secrets(folder.paths)
    assert pipe(folder, "", "generate", "KEY").returncode == 0
    first = store.get("KEY")
    assert first is not None
    assert pipe(folder, "", "generate", "KEY").returncode == 2
    asked = pipe(folder, "", "rotate", "KEY")
    assert (asked.returncode, store.get("KEY")) == (2, first)
    assert pipe(folder, "", "rotate", "KEY", "-y").returncode == 0
    second = store.get("KEY")
    assert second not in (None, first)
    store.set("STRAY", "hunter22")
    listed = pipe(folder, "", "list", "--json")
    rows = {row["name"]: row for row in json.loads(listed.stdout)["secrets"]}
    assert {name: (row["source"], row["declared"]) for name, row in rows.items()} == {
        "KEY": ("generated", True),
        "OTHER": ("missing", True),
        "STRAY": ("set", False),
    }
    assert second is not None
    assert second.encode() not in listed.stdout
    plain = pipe(folder, "", "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in plain] == ["NAME", "KEY", "OTHER", "STRAY"]
    assert pipe(folder, "", "rm", "KEY", "-y").returncode == 0
    assert store.get("KEY") is None
