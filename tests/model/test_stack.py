"""What a stack says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.model.stack import Stack

TLS = {"edge": {"tls": "self-signed", "tls_listen": "127.0.0.1:8443"}}
NAMED = {"edge": {"tls": "self-signed"}, "domains": ["chat.example.com"]}


@pytest.mark.parametrize(
    ("keys", "public", "from_container"),
    [
        ({}, "http://127.0.0.1:8080", "http://172.17.0.1:8080"),
        (TLS, "https://127.0.0.1:8443", "https://172.17.0.1:8443"),
        (NAMED, "https://chat.example.com", "https://chat.example.com"),
    ],
)
def test_who_calls_this_machine_otherwise_finds_it_there(
    keys: dict[str, Any], public: str, from_container: str
) -> None:
    services = {"web": {"run": "serve"}}
    stack = Stack.model_validate({"gapless": 1, "name": "x", "service": services, **keys})
    assert stack.url == public
    assert stack.url_from("172.17.0.1") == from_container
