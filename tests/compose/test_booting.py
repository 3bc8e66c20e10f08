"""Services are written in the order of their first boot."""

from __future__ import annotations

import pytest

from .made import imported

FILE = """\
services:
  proxy: {image: proxy, ports: ["80:80"], depends_on: [web]}
  web: {image: web, expose: [3000], environment: {BROKER: "amqp://queue:5672", PEER: "other:1"}}
  other: {image: other, environment: {PEER: "web:3000"}}
  queue: {image: queue}
  plain: {image: plain}
  store: {image: "mongo:7"}
  late: {image: web, command: [seed], depends_on: [web], restart: "no"}
  last: {image: last, depends_on: {late: {condition: service_completed_successfully}}}
"""


def test_whom_others_call_or_wait_for_comes_first() -> None:
    made = imported(FILE)
    order = list(made.tree["service"])
    assert order == ["store", "other", "queue", "web", "proxy", "plain", "last"]
    line = made.line("services.proxy.depends_on[0]")
    assert (line.kind, line.text) == ("kept", "at first boot web is ready first")


@pytest.mark.parametrize(
    ("mounted", "text"),
    [
        ("./front.conf:/etc/nginx/nginx.conf", "location /api/ { proxy_pass http://back:80/; }"),
        ("./d:/etc/nginx/conf.d", "upstream u { server back; }"),
        ("./any:/any", "uri = postgres://me@back/x"),
        ("./any:/any", "back:9000"),
    ],
)
def test_whom_a_mounted_file_names_comes_first(mounted: str, text: str) -> None:
    file = f"""\
services:
  front: {{image: nginx, volumes: ["{mounted}"]}}
  back: {{image: back}}
  backing: {{image: back, volumes: ["./no:/no"]}}
"""
    files = {"front.conf": text, "d/a.conf": text, "any": text, "no": "front is no address"}
    assert list(imported(file, files).tree["service"]) == ["back", "front", "backing"]


def test_a_job_that_waits_for_services_is_waited_for_by_none() -> None:
    made = imported(FILE)
    assert made.stack.jobs["late"].when == "after-release"
    assert made.kind("services.last.depends_on.late.condition") == "emulated"
    made = imported(FILE.replace("command: [seed], depends_on: [web]", "command: [seed]"))
    assert made.stack.jobs["late"].when == "release"
    assert made.kind("services.last.depends_on.late.condition") == "kept"
