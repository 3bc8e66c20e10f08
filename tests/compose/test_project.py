"""Reading: variables, files of them, extends, include, merging, profiles."""

from __future__ import annotations

import pytest

from gapless.errors import InvalidStack

from .made import MAIN, imported


def test_anchors_and_merges() -> None:
    made = imported(
        """\
x-app: &app
  image: app:1
  tty: true
  environment: &env {A: one, B: two}
services:
  web:
    <<: *app
    ports: ["80:8000"]
  worker:
    <<: *app
    environment:
      <<: *env
      B: three
"""
    )
    services = made.stack.services
    assert services["web"].env == {"A": "one", "B": "two"}
    assert services["worker"].env == {"A": "one", "B": "three"}
    assert made.line("services.worker.environment.<<").line == 12
    # Of all that an alias brings along the worst counts.
    assert made.kind("services.web.<<") == "emulated"
    assert made.kind("x-app.image") == "emulated"


def test_variables() -> None:
    made = imported(
        """\
services:
  web:
    image: "app:${TAG:-1}"
    command: serve --level ${LEVEL:-info} --price $$5
    environment:
      HOST: ${HOST_NAME:-a.example.com}
      PLAIN: $$HOME ${EMPTY}
      NESTED: ${NO:-${ALSO_NO:-deep}}
      MUST: ${MUST_BE:?say it}
      OTHER: ${TAG:+set}
      PASS:
      NUMBER: 3.10
      OCTAL: 0644
      YES: yes
      ON: true
""",
        {".env": "TAG=2\nMUST_BE='x'\n"},
        environ={"LEVEL": "debug"},
    )
    web = made.stack.services["web"]
    assert web.image == "app:2"
    assert web.run == ("serve", "--level", "${env.LEVEL:-debug}", "--price", "$5")
    assert web.env == {
        "HOST": "${env.HOST_NAME:-a.example.com}",
        "PLAIN": "$HOME ${env.EMPTY:-}",
        "NESTED": "${env.NO:-deep}",
        "MUST": "${env.MUST_BE:-x}",
        "OTHER": "set",
        "NUMBER": "3.1",
        "OCTAL": "420",
        "YES": "yes",
        "ON": "true",
    }
    assert web.secrets is None
    assert made.stack.secrets == ("PASS",)
    assert made.line("services.web.image").text == "now app:2"


def test_what_must_be_set_is_asked_for_when_it_is_needed() -> None:
    made = imported("services: {web: {image: a, environment: ['A=${A:?no A}']}}")
    assert made.stack.services["web"].env == {"A": "${env.A}"}
    with pytest.raises(InvalidStack, match=r"compose.yaml:2: image: TAG has no value \(no TAG\)"):
        imported("services:\n  web: {image: 'a:${TAG:?no TAG}'}")


@pytest.mark.parametrize("value", ["'$'", "'${'", "'${A'", "'a$ b'", '"${1}"'])
def test_a_variable_that_is_none_has_its_line(value: str) -> None:
    with pytest.raises(InvalidStack, match=r"compose.yaml:3: "):
        imported(f"services:\n  web:\n    image: {value}\n")


def test_env_files() -> None:
    made = imported(
        """\
services:
  web:
    image: a
    env_file:
      - one.env
      - {path: two.env, required: false}
      - {path: gone.env, required: false}
      - {path: raw.env, format: raw}
      - lost.env
    environment: {B: mine}
""",
        {"one.env": "A=1\nB=2\nC='$X'\n", "two.env": "A=${X:-3}\n", "raw.env": "R='$q'\n"},
    )
    assert made.stack.services["web"].env == {"A": "3", "B": "mine", "C": "$X", "R": "'$q'"}
    assert made.kind("services.web.env_file[2].path") == "kept"
    assert made.kind("services.web.env_file[4]") == "refused"
    with pytest.raises(InvalidStack, match=r"bad.env:2: is no variable"):
        imported("services: {web: {image: a, env_file: bad.env}}", {"bad.env": "A=1\n=x\n"})


def test_several_files_are_merged_by_the_rules() -> None:
    made = imported(
        """\
services:
  web:
    image: a:1
    command: [serve, --old]
    ports: ["80:8000", "9000:9000/udp"]
    expose: ["8000"]
    environment: [A=1, B=1]
    volumes: ["./a:/a", "data:/data"]
    labels: {x: "1"}
    deploy: {replicas: 2, resources: {limits: {memory: 1G, cpus: "1"}}}
    healthcheck: {test: [CMD, old], interval: 5s}
  gone: {image: b}
volumes: {data: }
""",
        {
            "over.yaml": """\
services:
  web:
    image: a:2
    command: [serve]
    ports: !override ["8080:8000"]
    environment: {B: "2", A: !reset null}
    volumes: ["./b:/a:ro"]
    labels: !reset []
    deploy: {resources: {limits: {memory: 2G}}}
    healthcheck: {test: [CMD, new]}
  gone: !reset null
"""
        },
        names=[MAIN, "over.yaml"],
    )
    assert list(made.stack.services) == ["web"]
    web = made.stack.services["web"]
    assert (web.image, web.run, web.port, web.replicas) == ("a:2", ("serve",), 8000, 2)
    assert web.env == {"B": "2"}
    assert {place: v.source for place, v in web.volumes.items()} == {
        "/a": "b", "/data": "${data.path}",
    }  # fmt: skip
    assert web.volumes["/a"].read_only
    assert web.limits.memory == 2 * 1024**3
    assert web.limits.cpu == 1
    assert web.ready is not None
    assert web.ready.command == ("new",)
    assert web.ready.every == 5
    assert made.stack.edge.listen == "*:8080"
    assert made.line("services.web.image").text == "replaced by over.yaml:3"
    assert made.line("services.web.ports[0]").text == "replaced by over.yaml:5"
    assert made.line("services.gone.image").text.startswith("replaced by over.yaml")
    assert made.line("services.gone", "over.yaml").text == "taken away"


def test_extends() -> None:
    made = imported(
        """\
services:
  base: {image: a:1, environment: {A: "1", B: "1"}, volumes: ["./x:/x"]}
  web:
    extends: base
    environment: {B: "2"}
  far:
    extends: {file: deep/other.yaml, service: app}
    ports: ["80:80"]
""",
        {
            "deep/other.yaml": """\
services:
  app: {extends: {service: root}, volumes: ["./conf:/conf"], env_file: [far.env]}
  root: {image: "far:1", build: {context: ./src}}
  idle: {image: "never:1"}
""",
            "deep/far.env": "FAR=1\n",
            "x/a": "",
            "deep/conf/a": "",
        },
    )
    services = made.stack.services
    assert services["web"].env == {"A": "1", "B": "2"}
    assert services["web"].volumes["/x"].source == "x"
    assert services["far"].build is not None
    assert services["far"].build.context == "deep/src"
    assert services["far"].volumes["/conf"].source == "deep/conf"
    assert services["far"].env == {"FAR": "1"}
    assert made.line("services.idle.image", "deep/other.yaml").kind == "kept"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services: {a: {extends: b}, b: {extends: a}}", "extends itself"),
        ("services: {a: {extends: a}}", "extends itself"),
        ("services: {a: {extends: {service: gone}}}", 'has no service "gone" to extend'),
        ("services: {a: {extends: {file: x.yaml, service: b}}}", "there is no such file"),
        ("services: {a: {extends: {}}}", "needs a service"),
        ("services: {a: [x]}", "must be a mapping"),
        ("services: [a]", "must be a mapping, got a list"),
        ("include: [gone.yaml]\nservices: {a: {image: x}}", "there is no such file"),
        ("include: [{}]\nservices: {a: {image: x}}", "needs the path"),
        ("a: 1", 'it says no "services"'),
    ],
)
def test_what_cannot_be_read_has_its_line(text: str, why: str) -> None:
    with pytest.raises(InvalidStack, match=rf"compose.yaml:1: .*{why}"):
        imported(text)


def test_include() -> None:
    made = imported(
        """\
include:
  - sub/one.yaml
  - {path: [two.yaml, two.over.yaml], project_directory: other, env_file: [vars.env]}
services:
  web: {image: "web:${TAG:-none}"}
""",
        {
            "sub/one.yaml": "services: {one: {image: 'one:${TAG}', volumes: ['./d:/d']}}",
            "sub/.env": "TAG=sub\n",
            "two.yaml": "services: {two: {image: 'two:${TAG}', volumes: ['./d:/d']}}",
            "two.over.yaml": "services: {two: {command: [go]}}",
            "vars.env": "TAG=vars\n",
            "sub/d/x": "",
            "other/d/x": "",
        },
    )
    services = made.stack.services
    assert {name: service.image for name, service in services.items()} == {
        "web": "web:none", "one": "one:sub", "two": "two:vars",
    }  # fmt: skip
    assert services["one"].volumes["/d"].source == "sub/d"
    assert services["two"].volumes["/d"].source == "other/d"
    assert services["two"].run == ("go",)


def test_an_include_that_says_a_name_again_or_includes_itself_is_told() -> None:
    with pytest.raises(InvalidStack, match=r"x.yaml:1: services.web: is said by an included file"):
        imported(
            "include: [x.yaml]\nservices: {web: {image: a}}",
            {"x.yaml": "services: {web: {image: b}}"},
        )
    with pytest.raises(InvalidStack, match=r"compose.yaml:1: .* includes itself"):
        imported("include: [compose.yaml]\nservices: {web: {image: a}}")
    with pytest.raises(InvalidStack, match=r"a.yaml:1: .* -> a.yaml -> compose.yaml"):
        imported("include: a.yaml\nservices: {}", {"a.yaml": "include: compose.yaml"})


def test_services_that_wait_for_each_other_are_told() -> None:
    text = "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: {c: }}\n"
    assert imported(f"{text}  c: {{image: x, depends_on: [gone]}}\n").stack
    with pytest.raises(InvalidStack, match=r"compose.yaml:4: .*itself \(b -> c -> b\)"):
        imported(f"{text}  c: {{image: x, depends_on: [b]}}\n")


PROFILES = """\
services:
  web: {image: a, depends_on: [debug]}
  debug: {image: b, profiles: [debug]}
  test: {image: c, profiles: [test, ci]}
"""


def test_a_profile_of_no_name_is_asked_for_by_nobody() -> None:
    text = """\
services:
  db: {image: a, profiles: ["", db]}
  other: {image: b, profiles: [other]}
"""
    assert list(imported(text).stack.services) == ["db"]
    assert list(imported(text, profiles=["other"]).stack.services) == ["other"]


def test_profiles() -> None:
    made = imported(PROFILES)
    assert list(made.stack.services) == ["web"]
    assert made.line("services.debug.image").kind == "emulated"
    assert "--profile" in made.line("services.debug.image").text
    assert list(imported(PROFILES, profiles=["ci"]).stack.services) == ["web", "test"]
    assert len(imported(PROFILES, profiles=["*"]).stack.services) == 3
    named = imported(PROFILES, environ={"COMPOSE_PROFILES": "debug"})
    assert list(named.stack.services) == ["debug", "web"]


@pytest.mark.parametrize(("text", "line"), [("# a\nservices:\n", 2), ("\nservices: {}\n", 2)])
def test_no_service_at_all_is_told_with_the_line_of_the_key(text: str, line: int) -> None:
    with pytest.raises(InvalidStack) as caught:
        imported(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message) == (line, "services: names no service")
