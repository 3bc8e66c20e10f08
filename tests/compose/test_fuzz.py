"""Whatever a Compose file holds: a stack file with all of it accounted for, or one clear error."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless import errors
from gapless.compose import fates

from . import test_balancers as incoming
from . import test_project as projects
from .made import MAIN, imported

TEXTS = [
    *(value for name, value in vars(incoming).items() if name.isupper() and "services:" in value),
    projects.PROFILES,
]
KEYS = sorted(
    {*fates.SERVICE, "image", "build", "ports", "expose", "volumes", "environment", "env_file",
     "command", "entrypoint", "healthcheck", "deploy", "depends_on", "restart", "secrets",
     "configs", "networks", "network_mode", "user", "working_dir", "scale", "cpus", "mem_limit",
     "labels", "extends", "profiles", "stop_grace_period", "stop_signal", "x-any", "nonsense"}
)  # fmt: skip
WORDS = st.sampled_from(
    ["", "a", "web", "db:5432", "80:80", "1-99999", "${A}", "${A:-b}", "${A:?}", "$", "$$", "../x",
     "/run/secrets/s", "http://web:80/x?y", "postgres://u:p@db/x", "postgres:16", "redis", "nginx",
     "traefik:2", "no", "0", "-1", "1e9", "9" * 40, "1.5G", "10s", "1h61m", "~/x", "\0", "é\u2028",
     "Host(`a`)", "{", "a b 'c", "service_completed_successfully", "file", "./.env", ".env", "::",
     "[::1]:80:80", "127.0.0.1::80", "x" * 300, "A=b", "=", "\x7f", "a\nb", "NONE", "CMD", "<<"]
)  # fmt: skip
SCALARS = st.one_of(WORDS, st.none(), st.booleans(), st.integers(-5, 70000), st.floats(), st.text())
NAMES = st.sampled_from(
    ["source", "target", "type", "test", "resources", "limits", "condition", "file", "service",
     "path", "context", "published", "interval", "replicas", "memory"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(WORDS, NAMES), inner, max_size=3)
    ),
    max_leaves=5,
)


def attempt(text: str) -> None:
    """Import it; errors are ours, have no traceback's words, and one place at least."""
    more = {".env": "A=x\n", "nginx.conf": incoming.CONF, "other.yaml": "services: {b: {image: b}}"}
    try:
        imported(text, more)
    except errors.GaplessError as error:
        assert "internal" not in error.message
        assert MAIN in error.message or "other.yaml" in error.message or ".env" in error.message


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_mangled_text(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 12)))
        piece = data.draw(
            st.one_of(WORDS, st.text(max_size=4), st.sampled_from("\n: -[]{}&*!|>'\"\t#?%@`,"))
        )
        text = text[:at] + piece + text[end:]
    attempt(text)


@settings(max_examples=140, deadline=None)
@given(st.data())
def test_mangled_values(data: st.DataObject) -> None:
    tree = yaml.safe_load(data.draw(st.sampled_from(TEXTS)))
    for _ in range(data.draw(st.integers(1, 4))):
        services = tree["services"]
        name = data.draw(st.sampled_from(sorted(map(str, services))))
        if not isinstance(services.get(name), dict):
            continue
        services[name][data.draw(st.sampled_from(KEYS))] = data.draw(VALUES)
        if data.draw(st.booleans()):
            kind = data.draw(st.sampled_from(["volumes", "secrets", "configs", "networks", "name"]))
            tree[kind] = data.draw(VALUES)
    attempt(_yaml(tree))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(WORDS, st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), max_size=3)
)
def test_services_of_anything(services: dict[str, Any]) -> None:
    attempt(_yaml({"services": services}))


def _yaml(tree: Any) -> str:
    """JSON is YAML, but for what no YAML file may hold."""
    return re.sub(r"NaN|-?Infinity", "1", json.dumps(tree, default=str))
