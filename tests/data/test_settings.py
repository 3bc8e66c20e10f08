"""What a settings table may hold, and that its values stay values."""

from __future__ import annotations

import base64
import hmac
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gapless.data import pgconf, redisconf
from gapless.errors import DataFault

TEXT = some.text(some.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")))


@pytest.mark.parametrize("conf", [pgconf, redisconf])
@pytest.mark.parametrize(
    "settings",
    [
        {"port": 1},
        {"include": "/etc/passwd"},
        {"x y": 1},
        {"x\ny": 1},
        {"": 1},
        {"work": "a\nport = 1"},
        {"work": "a\0"},
        {"work": "\x7f"},
        {"work": float("nan")},
        {"work": float("inf")},
    ],
)
def test_refused(conf: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match=r"^db: settings\."):
        conf.check_settings("db", settings)


@pytest.mark.parametrize(
    "name", ["LISTEN_ADDRESSES", "Include_Dir", "hba_file", "unix_socket_directories"]
)
def test_postgres_names_have_no_case(name: str) -> None:
    with pytest.raises(DataFault):
        pgconf.check_settings("db", {name: "x"})


def test_accepted() -> None:
    pgconf.check_settings("db", {"work_mem": "8MB", "auto_explain.x": 5, "jit": True})
    redisconf.check_settings("db", {"maxmemory": "1gb", "databases": 3, "lazyfree-lazy-del": True})


@given(TEXT)
def test_postgres_value_ends_where_it_should(value: str) -> None:
    line = pgconf.quoted(value)
    # The grammar of postgresql.conf: '' and \\ escape, one quote ends.
    assert re.fullmatch(r"'(?:[^'\\]|''|\\\\)*'", line)
    inner = line[1:-1]
    assert re.sub(r"''|\\\\", lambda found: found[0][0], inner) == value


@given(TEXT)
def test_redis_value_ends_where_it_should(value: str) -> None:
    line = redisconf.quoted(value)
    assert re.fullmatch(r'"(?:[^"\\]|\\["\\])*"', line)
    assert re.sub(r"\\(.)", r"\1", line[1:-1]) == value


@given(some.dictionaries(some.from_regex(r"[a-z]{1,8}", fullmatch=True), TEXT))
def test_one_line_a_setting(settings: dict[str, str]) -> None:
    empty = len(pgconf.configuration({}, generated="g").split("\n"))
    found = pgconf.configuration(settings, generated="g").split("\n")
    assert len(found) == empty + len(settings)


def test_ours_come_before_what_the_user_wants() -> None:
    text = pgconf.configuration({"wal_level": "logical"}, generated="pgdata/postgresql.conf")
    assert text.index("include 'pgdata/postgresql.conf'") < text.index("'replica'")
    assert text.index("'replica'") < text.index("'logical'")


def test_complaints_are_short() -> None:
    output = (
        '2026-01-01 00:00:00 GMT [1] LOG:  unrecognized configuration parameter "x" in file'
        ' "/a/b.conf" line 9\n2026-01-01 [1] FATAL:  configuration file "/a/b.conf" contains errors'
    )
    assert pgconf.complaints(output) == 'unrecognized configuration parameter "x"'
    assert pgconf.complaints("gone wrong") == "gone wrong"
    assert redisconf.complaint("") != ""


def test_verifier_is_that_of_the_standard() -> None:
    # The example exchange of RFC 7677: user "user", password "pencil".
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    found = pgconf.verifier("pencil", base64.b64decode(salt))
    assert found.startswith(f"SCRAM-SHA-256$4096:{salt}$")
    server_key = base64.b64decode(found.rsplit(":", 1)[1])
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}"
    signature = hmac.digest(server_key, message.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
