"""The JSON Schema against the loader: what one takes the other takes."""

from __future__ import annotations

import tomllib
from typing import Any

import jsonschema
import pytest

from gapless.stackfile import reference, schema

from .texts import FULL, SMALL, said

SCHEMA = schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def faults(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [SMALL, FULL], ids=["small", "full"])
def test_valid_files(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("added", "where"),
    [
        ("replica = 3", "$.service.web"),
        ("replicas = '3'", "$.service.web.replicas"),
        ("replicas = 1001", "$.service.web.replicas"),
        ("drain = 60", "$.service.web.drain"),
        ("drain = '60'", "$.service.web.drain"),
        ("ready = 'x'", "$.service.web.ready"),
        ("ready = { every = 3 }", "$.service.web.ready"),
        ("route = true", "$.service.web.route"),
        ("sticky = 'x'", "$.service.web.sticky"),
        ("env = { A = 1 }", "$.service.web.env.A"),
        ("env = { 'A B' = 'x' }", "$.service.web.env"),
        ("reserve = { memory = '5 GB' }", "$.service.web.reserve.memory"),
        ("[service.w]", "$.service.w"),
        ("[service.w]\nrun = ''", "$.service.w.run"),
        ("[service.W]\nrun = 'x'", "$.service"),
        ("[data.q]\ntype = 'mysql'", "$.data.q.type"),
        ("[edge]\nlisten = 'x'", "$.edge.listen"),
        ("[drill]\nget = ['x']", "$.drill.get[0]"),
        ("[for.a]\nkeep = 'x'", "$['for'].a.keep"),
        ("[for.a]\nname = 'x'", "$['for'].a"),
        ("[for.a.service.web]\nreplica = 1", "$['for'].a.service.web"),
        ("[for.a]\nunset = 'x'", "$['for'].a.unset"),
        ("[other]", "$"),
    ],
)
def test_invalid_files(added: str, where: str) -> None:
    text = f"{SMALL}{added}\n"
    # jsonschema quotes keys that are words of its own path language, depending on its version.
    found = [path.replace("$.for", "$['for']") for path in faults(text)]
    assert found == [where]
    assert said(text)


def test_overlays_need_not_be_whole() -> None:
    assert faults(f"{SMALL}[for.a]\nservice.web.replicas = 2\ndata.db.version = 9\n") == []


@pytest.mark.parametrize("missing", ["gapless", "name", "service"])
def test_what_must_be_there(missing: str) -> None:
    tree = tomllib.loads(SMALL)
    del tree[missing]
    assert [error.validator for error in VALIDATOR.iter_errors(tree)] == ["required"]


def test_defaults_are_as_one_writes_them() -> None:
    service = SCHEMA["$defs"]["Service"]["properties"]
    assert service["drain"]["default"] == "30s"
    assert service["timeout"]["default"] == "1m"
    assert SCHEMA["$defs"]["DrillTable"]["properties"]["body"]["default"] == "64B"
    for name in ("start", "drain", "grace", "watch", "timeout"):
        jsonschema.validate(service[name]["default"], service[name])


def test_nothing_in_it_is_hidden_or_null() -> None:
    assert "overlay" not in SCHEMA["properties"]

    def nulls(node: Any) -> bool:
        if isinstance(node, dict):
            return node.get("type") == "null" or any(nulls(below) for below in node.values())
        return node is None or (isinstance(node, list) and any(nulls(item) for item in node))

    assert not nulls(SCHEMA)


def test_every_key_is_described_and_has_an_example() -> None:
    for key in reference.entries():
        assert key.description, key.key
        assert key.example, key.key
        assert not (key.required and key.default), key.key
    assert {key.key for key in reference.entries()} == set(reference.EXAMPLES)


CONTEXT = """\
gapless = 1
name = "demo"
secrets = ["SESSION_KEY", "DB_URL"]
[service.web]
run = "app --uds ${socket}"
[job.j]
run = "j"
[data.db]
type = "postgres"
"""


def _secured(key: str, tree: dict[str, Any], here: dict[str, Any]) -> None:
    """What else keys of TLS need."""
    if key.startswith("edge.tls."):
        here |= {"cert": "c.pem", "key": "k.pem"}
    if key.startswith("edge.hsts"):
        tree["domains"] = ["chat.example.com"]
    if key == "edge.hsts.preload":
        here["subdomains"] = True


BESIDE: dict[str, dict[str, Any]] = {
    "registries.NAME": {"user": "me", "password": "TOKEN"},
    "job.NAME.zone": {"when": "0 3 * * *"},
    "job.NAME.catch_up": {"when": "0 3 * * *"},
    "service.NAME.queue": {"concurrency": 100},
    "edge.redirects.NAME.status": {"to": "/new"},
    "edge.proxy_protocol": {"trusted": ["10.0.0.1"]},
    "edge.rate_limit.": {"rate": "100/s"},
    "edge.cors.": {"origins": ["https://app.example.com"]},
}
"""What stands beside keys that begin so."""


@pytest.mark.parametrize("key", reference.entries(), ids=lambda key: key.key)
def test_every_example_is_accepted(key: reference.Key) -> None:
    tree = tomllib.loads(CONTEXT)
    value = tomllib.loads(f"v = {key.example}")["v"]
    path = key.key.split(".")
    names = {
        "service": "web",
        "job": "j",
        "data": "db",
        "for": "staging",
        "private": "/admin",
        "redirects": "/old",
        "static": "/a",
        "volumes": "/media",
        "registries": "ghcr.io",
    }
    here: Any = tree
    for position, word in enumerate(path):
        word = names[path[position - 1]] if word == "NAME" else word
        if position == len(path) - 1:
            here[word] = value
        else:
            here = here.setdefault(word, {})
    _complete(key.key, tree, here, value)
    assert said(written(tree)) == []


def _complete(key: str, tree: dict[str, Any], here: dict[str, Any], value: Any) -> None:
    """What else must be there for the example to make sense."""
    path = key.split(".")
    if key == "service.NAME.port":
        tree["service"]["web"]["run"] = "app --port 9000"
    if path[2:3] in (["ready"], ["live"]) and path[-1] in ("every", "timeout", "after"):
        here["path"] = "/health/ready"
    if path[2:3] == ["scale"]:
        tree["service"]["web"]["reserve"] = {"cpu": 1, "memory": "512M"}
        tree["data"]["cache"] = {"type": "redis"}
        scale = tree["service"]["web"]["scale"]
        scale.setdefault("max", 10)
        scale.setdefault("rps", 100)
        if path[-1] in ("queue", "backlog"):
            scale |= {"queue": "cache:default", "backlog": 100}
    packed = path[2:3] in (["entrypoint"], ["user"], ["aliases"], ["hosts"], ["volumes"])
    if packed and path[0] in ("service", "job"):
        tree[path[0]]["web" if path[0] == "service" else "j"]["image"] = "chat:1.4"
        tree["data"]["media"] = {"type": "files"}
    if path[2:3] == ["volumes"] and path[-1] == "read_only":
        here["source"] = "."
    for name, beside in BESIDE.items():
        if key.startswith(name):
            here.update({k: v for k, v in beside.items() if k not in here})
    if path[:2] == ["edge", "static"] and len(path) == 4:
        here["dir"] = "web/dist"
    _secured(key, tree, here)
    if key in ("drill.host", "edge.shared"):
        tree["service"]["web"]["route"] = {"host": "chat.example.com"}
    if path[0] == "for":
        tree["service"]["web"]["sticky"] = "cookie"


def written(tree: dict[str, Any]) -> str:
    """TOML of a tree, every table inline."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f'"{k}" = {value(v)}' for k, v in item.items()) + " }"
        if isinstance(item, list):
            return f"[{', '.join(value(below) for below in item)}]"
        if isinstance(item, bool):
            return str(item).lower()
        return repr(item) if isinstance(item, int | float) else '"' + item.replace('"', '\\"') + '"'

    return "".join(f"{key} = {value(item)}\n" for key, item in tree.items())


def test_find() -> None:
    def names(asked: str) -> list[str]:
        return [key.key for key in reference.find(asked)]

    assert names("drain") == ["service.NAME.drain"]
    assert names("service.web.drain") == ["service.NAME.drain"]
    assert names("[service.web.reserve]") == [
        "service.NAME.reserve", "service.NAME.reserve.cpu", "service.NAME.reserve.memory",
    ]  # fmt: skip
    assert names("timeout") == [
        "service.NAME.ready.timeout", "service.NAME.live.timeout", "service.NAME.timeout",
        "job.NAME.timeout", "drill.timeout",
    ]  # fmt: skip
    assert names("edge")[0] == "edge"
    assert str(reference.find("drain")[0]) == (
        'service.NAME.drain  (duration; default "30s")\n'
        "    How long work in flight may take to finish once the replica gets no new work.\n"
        '    [service.NAME] drain = "60s"'
    )
