"""Ports that a Compose file publishes to this machine alone."""

from __future__ import annotations

import pytest

from .made import imported


@pytest.mark.parametrize("order", [("web", "admin"), ("admin", "web")])
def test_what_was_published_to_this_machine_alone_stays_so(order: tuple[str, str]) -> None:
    tables = {
        "web": "web: {image: a, ports: ['80:80']}",
        "admin": "admin: {image: b, ports: ['127.0.0.1:9000:9000']}",
    }
    made = imported("services:\n" + "".join(f"  {tables[name]}\n" for name in order))
    assert made.tree["edge"]["listen"] == "*:80"
    web, admin = made.stack.services["web"], made.stack.services["admin"]
    assert web.private is None
    assert admin.private is not None
    assert [str(one) for one in admin.private.allow] == ["127.0.0.0/8", "::1/128"]
    assert "for this machine alone" in made.line("services.admin.ports[0]").text


def test_an_edge_that_only_this_machine_reaches_needs_no_more() -> None:
    text = "services: {a: {image: a, ports: ['127.0.0.1:80:80']}, b: {image: b, ports: ['%s']}}"
    made = imported(text % "127.0.0.1:81:81")
    assert made.tree["edge"]["listen"] == "127.0.0.1:80"
    assert made.stack.services["b"].private is None
