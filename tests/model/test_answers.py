"""Redirects, headers and trusted proxies, as the file may say them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gapless.model.edge import EdgeTable


def table(**keys: Any) -> EdgeTable:
    return EdgeTable.model_validate(keys)


@pytest.mark.parametrize(
    "redirects",
    [
        {"/old": "/new"},
        {"/old/*": "/*"},
        {"/*": "https://new.example/*"},
        {"/a": {"to": "https://x.example/b", "status": 302}},
        {"www.example.com": "example.com:8080", "old.example": "https://example.com"},
        {"/a": "/b", "/b": "/c"},
    ],
)
def test_redirects_that_make_sense(redirects: dict[str, Any]) -> None:
    assert set(table(redirects=redirects).redirects) == set(redirects)


@pytest.mark.parametrize(
    ("redirects", "fault"),
    [
        ({"/a": "/b", "/b": "/a"}, "circle"),
        ({"/a": "/a"}, "circle"),
        ({"/a/*": "/a/b/*"}, "circle"),
        ({"/a/*": "/*", "/": "/a/"}, "circle"),
        ({"a.example": "b.example", "b.example": "https://a.example"}, "circle"),
        ({"/a": "//evil.example"}, "must go to"),
        ({"/a/*": "//evil.example/*"}, "must go to"),
        ({"/a": "/\\evil.example"}, "must go to"),
        ({"/a": "javascript:alert(1)"}, "must go to"),
        ({"/a": "/b\r\nX: y"}, "must go to"),
        ({"/a": "/b/*"}, "only what ends in"),
        ({"/a/*": "/b"}, "has no place"),
        ({"/a": "b.example"}, "say"),
        ({"a.example": "/x"}, "another host"),
        ({"a.example": "https://b.example/x"}, "keeps its paths"),
        ({"no good": "/x"}, "neither"),
        ({"/a": {"to": "/b", "status": 303}}, "301"),
    ],
)
def test_redirects_that_do_not(redirects: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        table(redirects=redirects)


def test_headers_are_ours_unless_the_file_says_otherwise() -> None:
    assert dict(table().response_headers)["X-Frame-Options"] == "SAMEORIGIN"
    assert table().removed_headers == ("Server", "X-Powered-By")
    changed = table(headers={"x-frame-options": "DENY", "Referrer-Policy": False, "Server": "us"})
    assert dict(changed.response_headers) == {
        "Server": "us",
        "X-Content-Type-Options": "nosniff",
        "x-frame-options": "DENY",
    }
    assert changed.removed_headers == ("X-Powered-By", "Referrer-Policy")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "1"},
        {"transfer-encoding": False},
        {"Bad Name": "x"},
        {"X-A": "two\r\nlines"},
        {"X-A": ""},
        {"X-A": True},
        {"X-A": "1", "x-a": "2"},
    ],
)
def test_headers_that_cannot_be(headers: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        table(headers=headers)


def test_trusted_proxies_are_networks() -> None:
    assert table(trusted=["10.0.0.0/8", "::1"]).trusted == ("10.0.0.0/8", "::1")
    with pytest.raises(ValidationError, match="address or network"):
        table(trusted=["proxy.example"])
    with pytest.raises(ValidationError, match="needs trusted"):
        table(proxy_protocol=True)
