"""Warnings, and what is missing."""

from __future__ import annotations

import pytest

from gapless import stackfile
from gapless.stackfile import checks, onsite

from .texts import FULL, SMALL, said


def warned(text: str) -> list[str]:
    return [f"{warning.line}: {warning.message}" for warning in stackfile.parse(text).warnings]


NOT_READY = (
    "4: [service.web] is published without ready: a replica gets traffic as soon as it accepts "
    'connections; say ready = "/health/ready"'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALL, [NOT_READY]),
        (f"{SMALL}ready = '/ok'", []),
        (f"{SMALL}route = false", []),
        (
            f"{SMALL}ready = '/ok'\nsingleton = true",
            ["7: [service.web] singleton: a deploy stops it before the next one starts"],
        ),
        (
            SMALL.replace("python app.py", "uvicorn a:b --reload --uds") + "ready = '/ok'",
            [
                "5: [service.web] run: --reload is for development: a deploy replaces the code",
                "5: [service.web] run: uvicorn drops idle connections after 5 s while the edge "
                "may be using them: add --timeout-keep-alive 3600",
            ],
        ),
        (
            SMALL.replace("python app.py", "uvicorn --timeout-keep-alive=60 a:b --uds")
            + "ready = '/ok'",
            [],
        ),
        (
            f"{SMALL}ready = '/ok'\n[job.j]\nrun = 'a && b'",
            [
                '8: [job.j] run: "&&" is passed to the program as it is: '
                "no shell reads this"
            ],
        ),
        (FULL, []),
    ],
)  # fmt: skip
def test_warnings(text: str, expected: list[str]) -> None:
    assert warned(text) == expected


def test_missing_secrets() -> None:
    stack = stackfile.parse(FULL).stack
    assert checks.missing_secrets(stack, ()) == ("SESSION_KEY", "DB_URL")
    assert checks.missing_secrets(stack, {"DB_URL", "OTHER"}) == ("SESSION_KEY",)
    assert checks.missing_secrets(stack, {"DB_URL", "SESSION_KEY"}) == ()


def test_passwords_of_pages_are_asked_for_as_well(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("app")
    text = f"{SMALL}private = 'FLOWER'\n[edge]\nprivate = {{ '/admin' = {{ login.ops = 'OPS' }} }}"
    loaded = stackfile.parse(text)
    assert checks.missing_secrets(loaded.stack, ()) == ("OPS", "FLOWER")
    found = onsite.problems(loaded, folder, secrets={"OTHER"}, environ=())
    assert [(problem.line, problem.message.split(":")[0]) for problem in found] == [
        (6, "[service.web] private"),
        (8, "[edge] private./admin"),
    ]
    assert onsite.problems(loaded, folder, secrets={"OPS"}, environ={"FLOWER"}) == ()
    assert loaded.stack.secrets == ()  # no program gets them in its environment


def test_a_variable_with_a_default_may_be_absent(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("app")
    text = f"{SMALL}env = {{ A = '${{env.A:-}}', B = '${{env.B}}' }}"
    loaded = stackfile.parse(text)
    assert onsite.problems(loaded, folder, secrets=(), environ={"B"}) == ()
    (problem,) = onsite.problems(loaded, folder, secrets=(), environ=())
    assert problem.line == 6
    assert "${env.B}" in problem.message


def test_a_circle_among_many_is_found_quickly() -> None:
    # A ladder: each service refers to the two below it, so the paths double at every step.
    count = 60
    lines = ['gapless = 1\nname = "a"']
    for number in range(count):
        below = [f"${{s{n}.url}}" for n in (number + 1, number + 2) if n < count]
        lines.append(f'[service.s{number}]\nrun = "x ${{socket}} {" ".join(below)}"\nroute = false')
    stackfile.parse("\n".join(lines))


SHARED = """
gapless = 1
name = "chat"
[service.web]
run = "app ${socket}"
route = { host = "HOST" }
[edge]
shared = true
"""


@pytest.mark.parametrize("host", ["example.com", "*.example.com", "localhost"])
def test_a_shared_address_needs_names(host: str) -> None:
    assert said(SHARED.replace("HOST", host)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('{ host = "HOST" }', '"/"', "[edge] shared: the stacks on a shared address are told"),
        ("HOST", "*", '[service.web] route.host: "*" is no name'),
        ("HOST", "*x.example.com", "is no name that a shared address can be told apart by"),
        ("HOST", "a..example.com", "is no name that a shared address can be told apart by"),
        (
            "shared = true",
            'shared = true\nproxy_protocol = true\ntrusted = ["10.0.0.1"]',
            "expects no PROXY protocol",
        ),
        (
            "shared = true",
            'shared = true\nredirects = { "old.example.com:81" = "example.com" }',
            "is no name that a shared address can be told apart by",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(old: str, new: str, fault: str) -> None:
    (found,) = said(SHARED.replace(old, new).replace("HOST", "example.com"))
    assert fault in found
