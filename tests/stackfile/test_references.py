"""Placeholders: what they are, where they may stand, what they make a dependency of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless import errors, stackfile
from gapless.stackfile import references
from gapless.stackfile.references import Malformed, Reference

from .texts import FULL, SMALL, said

# A busy machine must not decide a test.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${socket}", Reference("own", "socket")),
        ("${release}", Reference("own", "release")),
        ("${db.pool_url}", Reference("attribute", "db", "pool_url")),
        ("${big-db.password|url}", Reference("attribute", "big-db", "password", encode=True)),
        ("${secret.A_1}", Reference("secret", "A_1")),
        ("${secret.A|url}", Reference("secret", "A", encode=True)),
        ("${env.HOME}", Reference("env", "HOME")),
        ("${env.HOME:-}", Reference("env", "HOME", default="")),
        ("${env.HOME:-a:-b $x}", Reference("env", "HOME", default="a:-b $x")),
    ],
)
def test_a_placeholder(text: str, expected: Reference) -> None:
    assert tuple(references.scan(f"a{text}b")) == (expected,)
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("${", 'has no closing "}" (a bare "${" is written "$${")'),
        ("${db.url", 'has no closing "}" (a bare "${" is written "$${")'),
        ("${}", "is empty"),
        ("${ socket }", "holds white space: placeholders are written without"),
        ("${secret.A|base64}", 'unknown encoding "base64" (have: url)'),
        (
            "${HOME}",
            'nothing is named "HOME" (have: socket, host, port, replica, release); '
            "an environment variable is ${env.HOME}, a secret ${secret.HOME}",
        ),
        (
            "${a.b.c}",
            "is no placeholder: write ${name.attribute}, ${secret.NAME} or ${env.NAME:-default}",
        ),
    ],
)
def test_no_placeholder(text: str, fault: str) -> None:
    (piece,) = references.scan(text)
    assert isinstance(piece, Malformed)
    assert piece.fault == fault
    with pytest.raises(errors.UsageError):
        references.substitute(text, str)


def test_escapes_are_no_placeholders() -> None:
    assert tuple(references.scan("$${db.url} $ $x $$ {} }")) == ()
    assert references.substitute("$${db.url} $ $x $$ {} }", str) == "${db.url} $ $x $$ {} }"


def test_values_are_encoded_when_asked() -> None:
    text = "redis://:${secret.A|url}@h/${secret.A}"
    assert references.substitute(text, lambda _: "a/b@c%") == "redis://:a%2Fb%40c%25@h/a/b@c%"


@given(st.text(), st.text(), st.text())
def test_values_are_never_read_for_placeholders(before: str, value: str, after: str) -> None:
    text = f"{before.replace('$', '').replace('{', '')}${{socket}}{after.replace('$', '')}"
    found = references.substitute(text, lambda _: value)
    assert found == text.replace("${socket}", value, 1)


@given(st.text())
def test_any_text_is_scanned(text: str) -> None:
    pieces = tuple(references.scan(text))
    if not any(isinstance(piece, Malformed) for piece in pieces):
        assert references.substitute(text, str).count("${") <= text.count("${")


def test_the_environment_or_its_default() -> None:
    with_default, without = Reference("env", "X", default="d"), Reference("env", "X")
    assert references.environment(with_default, {}) == "d"
    assert references.environment(with_default, {"X": ""}) == "d"
    assert references.environment(with_default, {"X": "v"}) == "v"
    assert references.environment(without, {"X": ""}) == ""
    with pytest.raises(errors.UsageError, match="the environment has no X"):
        references.environment(without, {})


def test_dependencies_are_stores_and_private_services() -> None:
    stack = stackfile.parse(FULL).stack
    found = references.dependencies(stack)
    # web is published: its address is known from the start, so nobody waits for it.
    assert found == {
        "web": ("db", "cache"),
        "api": ("db", "cache"),
        "inside": ("db", "cache"),
        "worker": ("db", "cache", "inside", "legacy"),
        "beat": ("shared", "db", "cache"),
        "migrate": ("db", "cache"),
    }


def test_a_services_own_variable_hides_the_common_one() -> None:
    text = f"{SMALL}env = {{ URL = 'none' }}\n[env]\nURL = '${{db.url}}'\n[data.db]\ntype='redis'"
    assert references.dependencies(stackfile.parse(text).stack) == {"web": ()}


STORES = """
[data.db]
type = "postgres"
[data.disk]
type = "files"
[job.once]
run = "once"
[service.worker]
run = "worker"
"""


@pytest.mark.parametrize(
    ("variable", "fault"),
    [
        ("${db.url}", None),
        ("${disk.path}", None),
        ("${web.url}", None),
        ("${secret.KEY}", None),
        ("${secret.KEY|url}", None),
        ("${env.X}", None),
        ("${replica}", None),
        ("$${whatever}", None),
        (
            "${postgress.pool_url}",
            'nothing is named "postgress" (have: db, disk, web, worker, once)',
        ),
        (
            "${work.url}",
            'nothing is named "work"; did you mean "worker"? (have: db, disk, web, worker, once)',
        ),
        (
            "${db.uri}",
            '"db" has no "uri"; did you mean "url"? (have: url, pool_url, replica_url, host, '
            "port, user, password, database)",
        ),
        ("${disk.url}", '"disk" has no "url" (have: path)'),
        ("${web.path}", '"web" has no "path" (have: url, host, port)'),
        ("${worker.url}", '"worker" is not an HTTP service: it has no address'),
        ("${once.url}", '"once" is a job: nothing can be asked of it'),
        (
            "${secret.KEYS}",
            '"KEYS" is not in the list of secrets; did you mean "KEY"? (have: KEY, HIDDEN)',
        ),
        ("${secret.HIDDEN}", '"HIDDEN" is not among the secrets that web sees'),
        ("${port}", None),
    ],
)
def test_where_it_stands_in_env(variable: str, fault: str | None) -> None:
    text = f'secrets = ["KEY", "HIDDEN"]\n{SMALL}secrets = ["KEY"]\nenv.A = "{variable}"\n{STORES}'
    if variable == "${port}":
        assert said(text) == [
            "6: [service.web] run: ${socket}: a replica listens on a socket or on a port, "
            "not on both"
        ]
    else:
        assert said(text) == ([f"8: [service.web] env.A: {variable}: {fault}"] if fault else [])


BEFORE = """\
secrets = ["KEY"]
gapless = 1
name = "a"
[data.db]
type = "postgres"
[service.web]
run = "python app.py ${socket}"
route = "/"
"""


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (
            '[job.j]\nrun = "x ${secret.KEY}"',
            "10: [job.j] run: ${secret.KEY}: a secret in a command would show in the process "
            "list: put it in env",
        ),
        (
            '[job.j]\nrun = "x ${db.url}"',
            "10: [job.j] run: ${db.url}: it holds a password, which would show in the process "
            "list: put it in env",
        ),
        ('[job.j]\nrun = "x ${db.host}:${db.port} ${release}"', None),
        (
            '[job.j]\nrun = "x ${socket}"',
            "10: [job.j] run: ${socket}: a job has none (have: release)",
        ),
        (
            '[env]\nA = "${host}"',
            "10: [env] A: ${host}: this is for services and jobs alike (have: release)",
        ),
        (
            '[service.w]\nrun = "x ${host}"',
            "10: [service.w] run: ${host}: this service has no port: its run uses neither "
            "${socket} nor ${port}",
        ),
        (
            '[service.w]\nroute = "/w"\nport = 9\nrun = "x ${socket}"',
            "12: [service.w] run: ${socket}: a service with a fixed port has no socket: use "
            "${host} and ${port}",
        ),
        (
            '[service.w]\nrun = "x"\nready = { command = "ping ${secret.KEY}" }',
            "11: [service.w] ready.command: ${secret.KEY}: a secret in a command would show "
            "in the process list: put it in env",
        ),
        (
            '[data.x]\ntype = "redis"\nurl = "${db.url}"',
            "11: [data.x] url: ${db.url}: only ${secret.NAME} and ${env.NAME} can be used here",
        ),
        ('[data.x]\ntype = "redis"\nurl = "redis://:${secret.KEY|url}@h"', None),
        (
            '[data.x]\ntype = "redis"\nsettings = { a = "${db.url}" }',
            "11: [data.x] settings.a: ${db.url}: placeholders mean nothing here",
        ),
        (
            '[drill]\nhost = "${db.url}"',
            "10: [drill] host: ${db.url}: placeholders mean nothing here",
        ),
        (
            '[env]\nA = "${HOME}"',
            '10: [env] A: ${HOME}: nothing is named "HOME" (have: socket, host, port, '
            "replica, release); an environment variable is ${env.HOME}, a secret "
            "${secret.HOME}",
        ),
    ],
)
def test_where_it_stands(place: str, expected: str | None) -> None:
    assert said(f"{BEFORE}{place}\n") == ([expected] if expected else [])


def test_setup_has_nothing_to_refer_to() -> None:
    assert said(f'setup = "make ${{db.url}}"\n{SMALL}') == [
        "1: setup: ${db.url}: placeholders mean nothing here: setup runs before there is "
        "anything to refer to"
    ]


def test_the_line_of_an_argument_in_a_list() -> None:
    text = (
        'gapless = 1\nname = "a"\n[service.w]\nrun = [\n  "x",\n  "${socket}",\n  "${nope.x}",\n]'
    )
    assert said(text) == ['7: [service.w] run[2]: ${nope.x}: nothing is named "nope" (have: w)']


CIRCLE = """\
gapless = 1
name = "a"
[service.one]
run = "x ${socket}"
route = false
env.U = "${two.url}"
[service.two]
run = "x ${socket} ${three.url}"
route = false
[service.three]
run = "x ${socket}"
route = false
env.U = "${one.host}"
"""


def test_a_circle_is_a_fault_once() -> None:
    assert said(CIRCLE) == [
        "3: [service.one] refers to itself in a circle (one -> two -> three -> one): "
        "none of them can be ready first"
    ]
    assert said(CIRCLE.replace("${three.url}", "")) == []


def test_a_secret_left_out_of_a_list_must_not_come_in_by_the_common_environment() -> None:
    text = f"secrets = ['K']\n{SMALL}secrets = []\n[env]\nA = '${{secret.K}}'\n"
    assert said(text) == [
        '7: [service.web] secrets: leaves out "K", which [env] A gives to every service: '
        "move A into the services that need it"
    ]
