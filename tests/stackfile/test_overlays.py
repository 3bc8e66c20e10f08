"""``[for.NAME]``: what merges, what replaces, what is deleted, and where each value is from."""

from __future__ import annotations

import pytest

from gapless import stackfile
from gapless.errors import InvalidStack
from gapless.model.service import Route
from gapless.stackfile import overlays

from .texts import FULL, SMALL, said


def line_of(text: str, start: str) -> int:
    return next(n for n, line in enumerate(text.split("\n"), 1) if line.startswith(start))


def test_tables_merge_scalars_and_lists_replace() -> None:
    base = stackfile.parse(FULL).stack
    staging = stackfile.parse(FULL, overlay="staging").stack
    assert (base.id, staging.id) == ("chat", "chat-staging")
    assert (base.keep, staging.keep) == (3, 2)
    assert staging.env == {**base.env, "LEVEL": "debug"}
    web, staged = base.services["web"], staging.services["web"]
    assert (web.replicas, staged.replicas) == (3, 1)
    assert staged.run == web.run
    lists = SMALL.replace("[service", "include = ['a', 'b']\n[service", 1)
    assert stackfile.parse(f"{lists}[for.x]\ninclude = ['c']\n", overlay="x").stack.include == (
        "c",
    )


def test_unset_deletes_with_quoted_keys_too() -> None:
    staging = stackfile.parse(FULL, overlay="staging").stack
    assert staging.services["web"].sticky is None
    assert staging.data["db"].settings == {"max_connections": 200}


def test_unset_comes_before_the_new_values() -> None:
    text = f"{SMALL}route = {{ host = 'a.b', path = '/x' }}\n[for.s]\n"
    text += "unset = ['service.web.route']\nservice.web.route.path = '/y'\n"
    assert stackfile.parse(text, overlay="s").stack.services["web"].route == Route(path="/y")


def test_a_table_and_a_scalar_replace_each_other() -> None:
    text = f"{SMALL}route = '/x'\n[for.s]\nservice.web.route = {{ host = 'a.b' }}\n"
    assert stackfile.parse(text, overlay="s").stack.services["web"].route == Route(host="a.b")
    text = f"{SMALL}route.host = 'a.b'\n[for.s]\nservice.web.route = '/x'\n"
    assert stackfile.parse(text, overlay="s").stack.services["web"].route == Route(path="/x")


def test_an_overlay_may_add_what_the_base_lacks() -> None:
    text = f"{SMALL}env.A = '${{db.url}}'\n[for.s.data.db]\ntype = 'redis'\n"
    assert said(text, "s") == []
    assert len(said(text)) == 1


def test_origins() -> None:
    loaded = stackfile.parse(FULL, overlay="staging")
    assert loaded.overlays == ("staging", "production")
    expected = {
        ("name",): (line_of(FULL, "name"), "base"),
        ("env", "KEY"): (line_of(FULL, "KEY"), "base"),
        ("env", "LEVEL"): (line_of(FULL, "LEVEL = "), "for.staging"),
        ("service", "web", "replicas"): (line_of(FULL, "service.web.replicas"), "for.staging"),
        ("service", "web", "ready", "every"): (line_of(FULL, "ready    = { path"), "base"),
        ("keep",): (line_of(FULL, "keep = 2"), "for.staging"),
    }
    for path, origin in expected.items():
        assert tuple(loaded.origins[path]) == origin
    assert ("service", "web", "sticky") not in loaded.origins
    assert ("service", "web", "sticky") in stackfile.parse(FULL).origins


def test_every_value_has_an_origin_and_every_origin_a_value() -> None:
    for overlay in (None, "staging", "production"):
        loaded = stackfile.parse(FULL, overlay=overlay)
        layered = overlays.base(loaded.tree, {})
        assert set(layered.origins) == set(loaded.origins)
        assert all(origin.line for origin in loaded.origins.values())


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("stagin", 'has no overlay "stagin"; did you mean "staging"? (have: staging, production)'),
        ("x", 'has no overlay "x" (have: staging, production)'),
        ("", 'has no overlay "" (have: staging, production)'),
    ],
)
def test_an_unknown_overlay(overlay: str, message: str) -> None:
    assert said(FULL, overlay) == [message]


def test_an_overlay_of_a_file_without_any() -> None:
    with pytest.raises(InvalidStack, match='has no overlay "x": there is no'):
        stackfile.parse(SMALL, overlay="x")


def test_faults_of_other_overlays_are_told_too() -> None:
    text = f"{SMALL}[for.a]\nkeep = 1\n[for.b]\nkepe = 3\n"
    both = [
        "7: [for.a] keep: must be at least 2, got 1",
        '9: [for.b] unknown key "kepe"; did you mean "keep"?',
    ]
    assert said(text) == both
    assert said(text, "a") == both
    assert said(text, "b") == both


def test_a_fault_that_an_overlay_brings_about_elsewhere_names_it() -> None:
    text = f"{SMALL}sticky = 'cookie'\n[for.a]\nservice.web.run = 'worker'\n"
    message = (
        "6: [service.web] sticky needs an HTTP service (one whose run uses ${socket} or ${port})"
    )
    assert said(text) == [f"{message} (with --for a)"]
    assert said(text, "a") == [message]


def test_a_text_is_as_good_as_a_file_and_stays_what_it_was() -> None:
    # Releases keep the text: what was parsed once is parsed the same again.
    first = stackfile.parse(FULL, overlay="staging")
    assert stackfile.parse(first.text, overlay="staging") == first
