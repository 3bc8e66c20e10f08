"""Files that are no Compose files, or nearly: each has its line, the fault, and what to do."""

from __future__ import annotations

import pytest

from gapless.errors import InvalidStack

from .made import MAIN, imported

WEB = "services:\n  web:\n    image: a\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (f"{WEB}   ports: []\n", 4, "did not find expected key"),
        (f"{WEB}    ports:\n\t- '80:80'\n", 5, "a tab indents nothing: use spaces"),
        (f"{WEB}    user: @me\n", 4, '"@" begins no value: put quotes around it'),
        (f"{WEB}    user: {{{{ me }}}}\n", 4, "it is a template: fill it in"),
        ("services:\n{{- if .X }}\n  web: {image: a}\n{{- end }}\n", 3, "it is a template"),
        ("services:\n  %name%-web:\n    image: a\n", 2, "it is a template"),
        ("services:\n<<<<<<< HEAD\n  a: {image: a}\n=======\n", 3, "two versions of it"),
        (f'{WEB}    user: "me\n', 4, "found unexpected end of stream"),
        (f"{WEB}    image: b\n", 4, '"image" stands here a second time; it is on line 3 too'),
        ("services:\n  - web\n", 2, "services: must be a mapping, got a list"),
        (f"{WEB}volumes: [data]\n", 4, "volumes: must be a mapping, got a list"),
        (f"{WEB}name: [a]\n", 4, "name: must be a value, got a list"),
        (f"{WEB}    <<: *base\n", 4, "*base: nothing above it has this anchor"),
        (f"{WEB}    <<: base\n", 4, "<<: must be a mapping, or a list of them"),
        ("services:\n  a: {extends: b}\n  b: {extends: a}\n", 3, "extends itself"),
        ("include: [more.yaml]\n", 1, "more.yaml: there is no such file"),
        (f"{WEB}    command: echo $(date)\n", 4, 'a bare "$" is written "$$"'),
        (f"{WEB}    user: ${{ME\n", 4, '"${ME" needs "}"'),
        ("services:\n  web:\n    image: a:${X:?say which}\n", 3, "X has no value (say which)"),
        ("", 1, 'it says no "services"'),
        ("apiVersion: v1\nkind: Pod\n", 1, 'it says no "services"'),
        ("- web\n", 1, "it begins with a mapping"),
        ("services:\n", 1, "services: names no service"),
        ("services:\n  web:\n", 2, "services.web: must be a mapping of keys to values"),
        (f"{WEB}    deploy: [a]\n", 4, "services.web.deploy: must be a mapping, got a list"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_has_line_and_reason(text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidStack) as caught:
        imported(text)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (MAIN, line)
    assert said in problem.message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ports[0]", 'ports: ["eighty:80"]', 'is no port: say "8080:80"'),
        ("ports[0]", 'ports: ["80:99999"]', "is no port"),
        ("ports[0]", 'ports: ["8000-8002:80-81"]', "3 ports of the machine for 2 of it"),
        ("ports[0]", 'ports: ["10000-20000:10000-20000/udp"]', "the edge publishes HTTP alone"),
        ("expose[0]", "expose: [http]", "is no port"),
        ("stop_grace_period", "stop_grace_period: soon", 'is no duration: say "30s"'),
        ("healthcheck.interval", "healthcheck: {test: x, interval: 5 min}", "is no duration"),
        ("mem_limit", "mem_limit: lots", 'is no size: say "512m"'),
        ("cpus", "cpus: half", "is no number of cores"),
        ("deploy.replicas", "deploy: {replicas: -1}", "must be a whole number"),
        ("restart", "restart: sometimes", "say always, or no"),
        ("depends_on.x.condition", "depends_on: {x: {condition: soon}}", "is no condition"),
        ("secrets[0]", "secrets: [x]", 'no secret is called "x"'),
        ("env_file", "env_file: x.env", "x.env: there is no such file"),
        ("volumes[0]", 'volumes: ["x:here"]', 'is no place in a container: "here"'),
    ],
)
def test_a_value_that_says_nothing_is_refused_with_what_to_say(
    key: str, value: str, said: str
) -> None:
    line = imported(f"{WEB}    {value}\n").line(f"services.web.{key}")
    assert (line.kind, line.line) == ("refused", 4)
    assert said in line.text


def test_an_image_that_is_none_is_told_by_what_it_comes_to() -> None:
    made = imported("services:\n  a: {image: 'a:${TAG}', restart: always}\n  b: {image: My/App}\n")
    assert made.line("services.a.image").text == (
        'is no image: "a:"; TAG is not set: set it in .env'
    )
    assert "in small letters" in made.line("services.b.image").text
    assert made.line("services.a.restart").text == "the service has no image or build to run"


def test_a_quote_that_never_ends_in_a_file_of_variables() -> None:
    with pytest.raises(InvalidStack, match=r"\.env:2: B: its quote never ends"):
        imported(WEB, {".env": "A=1\nB='x\nC=2\n"})


def test_a_file_of_the_first_format_says_services_alone() -> None:
    made = imported(
        """\
web:
  build: .
  dockerfile: Dockerfile.web
  ports: ["80:8000"]
  links: [db]
  log_driver: syslog
  log_opt: {syslog-address: x}
  net: host
db: {image: mysql}
"""
    )
    assert set(made.stack.services) == {"web", "db"}
    build = made.stack.services["web"].build
    assert build is not None
    assert build.dockerfile == "Dockerfile.web"
    assert made.kind("web.dockerfile") == "kept"
    assert made.kind("web.log_opt.syslog-address") == "emulated"
    assert made.line("web.net").text == "each replica has a network of its own"


def test_labels_of_a_balancer_that_goes_are_accounted_for() -> None:
    text = """\
services:
  web: {image: web, environment: {VIRTUAL_HOST: a.example.com}, expose: [80]}
  front: {image: jwilder/nginx-proxy, ports: ["80:80"], labels: [com.example.proxy, a=b]}
"""
    made = imported(text)
    kinds = [made.kind(f"services.front.labels[{n}]") for n in (0, 1)]
    assert kinds == ["emulated", "emulated"]


@pytest.mark.parametrize(
    ("port", "listen"),
    [("${BIND:-}:${PORT:-443}:80", "*:443"), (":81:80/TCP", "*:81"), ("0.0.0.0:82:80", "*:82")],
)
def test_a_port_at_an_address_that_nobody_has_set(port: str, listen: str) -> None:
    made = imported(f'{WEB}    ports: ["{port}"]\n')
    assert made.kind("services.web.ports[0]") == "kept"
    assert made.tree["edge"]["listen"] == listen
