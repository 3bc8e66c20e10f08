"""What passes for an ordinary request is none that is to be refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.edge import forwarded, hostile

PIECES = ("/", ".", "..", "%", "%2e", "%2F", "%00", "\\", ";", "?", "a", "~", "\x00", "\x7f", " ")
URL = st.lists(st.sampled_from(PIECES) | st.characters(max_codepoint=255), max_size=12)


def plain(url: str) -> bool:
    return re.search(hostile.PLAIN_URL, url) is not None


def odd(url: str) -> bool:
    return re.search(hostile.ODD_PATH, url.partition("?")[0], re.IGNORECASE) is not None


@given(URL.map(lambda pieces: "/" + "".join(pieces)))
def test_an_odd_path_is_never_plain(url: str) -> None:
    assert not (plain(url) and odd(url))


@pytest.mark.parametrize(
    "url", ["/", "/a.b/c-d_e~f", "/x?y=%2e%2e/../", "/.well-known/a", "/a;b=1"]
)
def test_what_most_requests_ask_for_is_plain(url: str) -> None:
    assert plain(url)
    assert not odd(url)


@pytest.mark.parametrize("url", ["", "*", "//a/../b", "http://a/", "/..", "/%20", "/a\\b", "/a\tb"])
def test_what_needs_a_closer_look(url: str) -> None:
    assert not plain(url)


@given(st.text(max_size=12))
def test_an_odd_host_is_never_plain(host: str) -> None:
    plain = re.search(hostile.PLAIN_HOST, host) is not None
    assert plain != (not host or re.search(hostile.ODD_HOST, host) is not None) or host[-1:] == "\n"


HARMLESS = [
    "host",
    "accept",
    "cookie",
    "x-forward",
    "proxying",
    "user-agent",
    "x-upgrade-to",
    "via",
]
TELLING = [
    *("content-length", "transfer-encoding", "upgrade", "http2-settings", "a_b", "_", "host_"),
    *("forwarded", "proxy", "x-forwarded-for", "x-forwarded-x", "x-real-ip", "x-request-id"),
]


def tells(names: list[str]) -> bool:
    claims = forwarded.claims(forwarded.Proxies())
    return re.search(hostile.telling(claims), ",".join(names), re.IGNORECASE) is not None


@given(st.lists(st.sampled_from([*HARMLESS, *TELLING])))
def test_each_name_that_matters_is_seen_wherever_it_stands(names: list[str]) -> None:
    assert tells(names) == (names.count("host") > 1 or any(one in TELLING for one in names))


@given(st.lists(st.sampled_from([*HARMLESS, *TELLING])))
def test_what_is_stripped_has_been_seen(names: list[str]) -> None:
    claims = forwarded.claims(forwarded.Proxies())
    stripped = re.compile(f"^({'|'.join([*hostile.STRIPPED, *claims])})$")
    assert tells(names) or not any(map(stripped.match, names))
