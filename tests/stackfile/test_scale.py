"""``scale``: what it accepts, and each contradiction with its line."""

from __future__ import annotations

import pytest

from gapless import stackfile

from .texts import SMALL, said

WEB = "6: [service.web] scale"
WORKER = "6: [service.w] scale"
HTTP = "(one whose run uses ${socket} or ${port})"
STORES = "[data.cache]\ntype = 'redis'\n[data.db]\ntype = 'postgres'\n"


def test_all_keys() -> None:
    stack = stackfile.parse(
        f"{SMALL}replicas = 3\nreserve = {{ cpu = 1, memory = '512M' }}\n"
        "[service.web.scale]\nmax = 20\nmin = 2\ncpu = '70%'\nmemory = '80%'\nrps = 100\n"
        "connections = 50\nlatency = '200ms'\nqueue = 'cache:a:b'\nbacklog = 100\n"
        f"up_after = '10s'\ndown_after = '1m'\n{STORES}"
    ).stack
    scale = stack.services["web"].scale
    assert scale is not None
    assert (scale.cpu, scale.memory, scale.rps, scale.latency) == (70, 80, 100, 0.2)
    assert (scale.store, scale.queue_name) == ("cache", "a:b")
    assert (scale.up_after, scale.down_after) == (10, 60)


PERCENT = 'must be a percentage such as "70%"'
OF_ITSELF = [
    ("3", f"{WEB}: must be a table such as {{ max = 10, rps = 100 }}, got 3"),
    ("{ rps = 3 }", f'{WEB}: key "max" is missing'),
    (
        "{ max = 3 }",
        f"{WEB}: needs a target: cpu, memory, rps, connections, latency or queue",
    ),
    ("{ max = 3, cpu = 70 }", f"{WEB}.cpu: {PERCENT}, got 70"),
    ("{ max = 3, cpu = '0%' }", f'{WEB}.cpu: {PERCENT}, got "0%"'),
    ("{ max = 3, rps = 0 }", f"{WEB}.rps: must be more than 0, got 0"),
    ("{ max = 3, latency = '0s' }", f"{WEB}: latency must be more than 0"),
    ("{ max = 3, rsp = 9 }", f'{WEB}: unknown key "rsp"; did you mean "rps"?'),
    ("{ max = 3, min = 2, rps = 9 }", f"{WEB}.min is 2 and replicas 1"),
    ("{ max = 3, min = 4, rps = 9 }", f"{WEB}: min is 4 and max 3"),
    (
        "{ max = 3, min = 0, rps = 9 }",
        f"{WEB}: min = 0 needs a queue: without replicas nothing else can be measured",
    ),
    (
        "{ max = 3, cpu = '70%' }",
        f"{WEB}.cpu is a percentage of reserve.cpu or limits.cpu: neither is there",
    ),
    (
        "{ max = 3, memory = '70%' }",
        f"{WEB}.memory is a percentage of reserve.memory or limits.memory: neither is there",
    ),
]
WITH_OTHERS = [
    ("replicas = 5", "scale.max is 3 and replicas 5"),
    ("replicas = 0", "scale from replicas = 0 needs a queue: nothing else can wake it"),
    ("singleton = true", "scale and singleton contradict each other"),
]
OF_WORKERS = [
    ("{ max = 3, rps = 9 }", f"{WORKER}.rps needs an HTTP service {HTTP}"),
    ("{ max = 3, backlog = 9 }", f"{WORKER}: queue and backlog belong together"),
    (
        "{ max = 3, queue = 'cache', backlog = 9 }",
        f'{WORKER}.queue: must be STORE:QUEUE such as "cache:default", got "cache"',
    ),
    (
        "{ max = 3, queue = 'cach:q', backlog = 9 }",
        f'{WORKER}.queue: no [data.cach] holds it (have: cache, db); did you mean "cache"?',
    ),
    (
        "{ max = 3, queue = 'db:q', backlog = 9 }",
        f"{WORKER}.queue: db is of type postgres, which holds no queues",
    ),
]


@pytest.mark.parametrize(("scale", "expected"), OF_ITSELF)
def test_faults_of_the_table_itself(scale: str, expected: str) -> None:
    assert said(f"{SMALL}scale = {scale}\n") == [expected]


@pytest.mark.parametrize(("other", "expected"), WITH_OTHERS)
def test_contradictions(other: str, expected: str) -> None:
    text = f"{SMALL}scale = {{ max = 3, rps = 9 }}\n{other}\n"
    assert said(text) == [f"6: [service.web] {expected}"]


def test_a_fixed_port_leaves_no_room() -> None:
    text = SMALL.replace(" ${socket}", "") + "scale = { max = 3, rps = 9 }\nport = 9000\n"
    assert said(text) == [
        "6: [service.web] scale needs more replicas than a fixed port allows: use ${port} in run"
    ]


@pytest.mark.parametrize(("scale", "expected"), OF_WORKERS)
def test_faults_of_workers(scale: str, expected: str) -> None:
    text = f"gapless = 1\nname = 'x'\n[service.w]\nrun = 'x'\nreplicas = 2\nscale = {scale}\n"
    assert said(f"{text}{STORES}") == [expected]


@pytest.mark.parametrize(
    ("tables", "bases"),
    [
        ("reserve = { cpu = 0.5, memory = '1G' }", (0.5, 1024**3)),
        ("limits = { cpu = 2, memory = '2G' }", (2.0, 2 * 1024**3)),
        ("reserve = { cpu = 0.5 }\nlimits = { cpu = 2, memory = '2G' }", (0.5, 2 * 1024**3)),
    ],
)
def test_percentages_are_of_what_is_reserved_else_of_the_limit(
    tables: str, bases: tuple[float, int]
) -> None:
    text = f"{SMALL}scale = {{ max = 3, cpu = '70%', memory = '80%' }}\n{tables}\n"
    service = stackfile.parse(text).stack.services["web"]
    assert (service.cpu_base, service.memory_base) == bases


@pytest.mark.parametrize(
    ("added", "bounds"),
    [
        ("replicas = 2", (2, 2)),
        ("replicas = 2\nscale = { max = 5, rps = 1 }", (2, 5)),
        ("replicas = 2\nscale = { max = 5, min = 1, rps = 1 }", (1, 5)),
        ('replicas = "cpus"\nscale = { max = 3, rps = 1 }', (3, 3)),  # of four cores
    ],
)
def test_bounds(added: str, bounds: tuple[int, int]) -> None:
    assert stackfile.parse(f"{SMALL}{added}\n").stack.services["web"].bounds(4) == bounds
