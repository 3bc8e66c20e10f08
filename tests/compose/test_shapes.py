"""Values of another kind than their key has: one error, with its line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gapless.compose import shapes
from gapless.errors import InvalidStack

from .made import imported

VALUES: dict[str, Any] = {"s": "y", "l": ["y"], "m": {"a": "y"}}
KEYS = [key for key in shapes.SERVICE if not set(key) & set("[].*")]


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_another_kind_has_its_line(key: str) -> None:
    for kind, value in VALUES.items():
        text = f"services:\n  web:\n    image: a\n    {key}: {json.dumps(value)}\n"
        text = text.replace("    image: a\n", "\n" if key == "image" else "    image: a\n")
        if kind in shapes.SERVICE[key]:
            continue
        with pytest.raises(InvalidStack, match=rf"compose.yaml:4: services.web.{key}: must be"):
            imported(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("build: {args: 3}", "build.args: must be a list or a mapping, got a value"),
        ("build: {context: [x]}", "build.context: must be a value, got a list"),
        ("command: [{a: b}]", r"command\[0\]: must be a value, got a mapping"),
        ("environment: {A: [b]}", "environment.A: must be a value, got a list"),
        ("depends_on: {a: 3}", "depends_on.a: must be a mapping, got a value"),
        ("ports: [[80]]", r"ports\[0\]: must be a value or a mapping, got a list"),
        ("deploy: {resources: {limits: 3}}", "deploy.resources.limits: must be a mapping"),
        ("healthcheck: {test: {a: b}}", "healthcheck.test: must be a value or a list"),
        ("volumes: [{type: [bind]}]", r"volumes\[0\].type: must be a value"),
    ],
)
def test_within_a_key(text: str, said: str) -> None:
    with pytest.raises(InvalidStack, match=f"compose.yaml:1: services.web.{said}"):
        imported(f"services: {{web: {{image: a, {text}}}}}")


@pytest.mark.parametrize("key", ["name", "version", "volumes", "networks", "secrets", "configs"])
def test_at_the_root(key: str) -> None:
    value = "[x]" if key in ("name", "version") else "{a: 3}"
    with pytest.raises(InvalidStack, match=rf"compose.yaml:2: {key}(\.a)?: must be"):
        imported(f"services: {{web: {{image: a}}}}\n{key}: {value}\n")


def test_what_is_not_said_is_of_every_kind() -> None:
    text = "".join(f"    {key}:\n" for key in KEYS if key not in ("image", "extends", "build"))
    imported(f"services:\n  web:\n    image: a\n{text}volumes:\nnetworks: {{a: }}\n")
