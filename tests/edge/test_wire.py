"""Commands and answers of the runtime API, as text."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.edge import config, wire
from gapless.errors import UsageError
from gapless.model.process import Address
from tests.edge import stand

HEAD = (
    *("pxname", "svname", "qcur", "scur", "status", "check_status", "check_code", "check_desc"),
    *("last_chk", "hanafail", "sid", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"),
    *("hrsp_other", "req_tot", "srv_abrt"),
)


def _table(*rows: dict[str, str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, HEAD, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return f"# {out.getvalue()}\n"


def _server(**cells: str) -> wire.Seen:
    row = {"pxname": "web", "svname": "web.1:r1", "status": "UP", "check_status": "L7OK"}
    (seen,) = wire.servers("Pid: 3\n\n" + _table({**row, **cells}))
    return seen


@pytest.mark.parametrize(
    ("status", "check", "trips", "admin", "up", "tripped"),
    [
        ("UP", "L7OK", "0", "ready", True, False),
        ("UP 2/3", "L7STS", "0", "ready", True, False),
        ("no check", "", "", "ready", True, False),
        ("DOWN", "L7STS", "0", "ready", False, False),
        ("DOWN", "HANA", "1", "ready", False, True),
        ("DOWN 1/5", "* L7OK", "1", "ready", False, True),
        ("DOWN", "L4CON", "1", "ready", False, False),
        ("DOWN 1/5", "L7OK", "0", "ready", False, False),
        ("UP", "L7OK", "3", "ready", True, False),
        ("MAINT", "HANA", "1", "maint", False, False),
        ("MAINT (via web/x)", "", "", "maint", False, False),
        ("DRAIN", "L7OK", "0", "drain", True, False),
    ],
)
def test_a_row_says_what_a_server_is_like(
    status: str, check: str, trips: str, admin: str, up: bool, tripped: bool
) -> None:
    server = _server(status=status, check_status=check, hanafail=trips).server
    assert (server.admin, server.up, server.tripped) == (admin, up, tripped)


def test_what_is_queued_is_in_flight_too() -> None:
    assert _server(scur="3", qcur="2").server.in_flight == 5


def test_a_check_may_hold_commas_quotes_and_lines() -> None:
    text = _server(check_status="L7STS", check_code="503", check_desc='a, "b"', last_chk="c").server
    assert text.check == 'L7STS/503: a, "b": c'


def test_workers_of_before_are_told_from_the_present_one() -> None:
    answer = (
        "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
        "10              master          2 [failed: 0]   0d00h00m04s     2.8.25\n"
        "# workers\n13              worker          0               0d00h00m01s     2.8.25\n"
        "# old workers\n12              worker          1               0d00h00m04s     2.8.25\n"
        "11              worker          2               0d00h00m04s     2.8.25\n"
        "# programs\n\n"
    )
    assert wire.workers(answer) == wire.Workers(10, 13, (12, 11))
    assert wire.workers(answer.split("# workers")[0]) == wire.Workers(10, None)
    with pytest.raises(ValueError, match="name itself"):
        wire.workers("Unknown command\n")


def test_another_haproxy_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="not an edge of ours"):
        wire.info("Pid: 3\nUptime_sec: 1\ndescription: somebody else's\n")


def test_refusals_are_what_is_neither_empty_nor_good_news() -> None:
    assert wire.refusals("New server registered.\n\n\n\nNo such server.\n\n") == ["No such server."]


@given(st.text(min_size=1, max_size=30))
def test_an_argument_stays_one_argument(word: str) -> None:
    try:
        escaped = wire.escape(word)
    except UsageError:
        assert not word.isprintable()
        return
    bare = False
    plain = ""
    for char in escaped:
        if bare or char != "\\":
            assert bare or char not in " ;<#"
            plain, bare = plain + char, False
        else:
            bare = True
    assert plain == word


def test_a_server_is_added_with_every_keyword() -> None:
    server = config.Server("web.1@r1", "web", Address(socket="/run/a b;c"), "token")
    add, enable = wire.add(stand.backend("web"), server)
    assert add.startswith("add server web/web.1:r1 unix@/run/a\\ b\\;c check id ")
    for keyword in ("inter", "fall", "rise", "observe layer7", "on-error mark-down", "cookie"):
        assert keyword in add
    assert enable == "enable health web/web.1:r1"
    assert "cookie" not in wire.add(stand.backend("web", sticky=False), server)[0]


def test_a_line_through_the_master_addresses_each_command() -> None:
    assert wire.line(["a", "b"]) == "a;b\n"
    assert wire.line(["a", "b"], worker=7) == "@!7 a;@!7 b;quit\n"
