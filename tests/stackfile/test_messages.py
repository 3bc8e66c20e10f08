"""Each fault has one exact message, with its line. The table is the specification."""

from __future__ import annotations

import re

import pytest

from gapless import stackfile
from gapless.errors import InvalidStack

from .texts import FULL, SMALL, said

HTTP = "(one whose run uses ${socket} or ${port})"
DURATION = 'must be a duration such as "10s", "5m" or "250ms"'

# Added to the smallest file, from line 6 on.
ADDED: list[tuple[str, list[str]]] = [
    # keys
    ("replica = 3", ['6: [service.web] unknown key "replica"; did you mean "replicas"?']),
    (
        "user = 'app'\nentrypoint = '/x'\nvolumes = { '/a' = '.' }",
        [
            "6: [service.web] user needs image or build",
            "7: [service.web] entrypoint needs image or build",
            "8: [service.web] volumes needs image or build",
        ],
    ),
    (
        "image = 'X Y'",
        ['6: [service.web] image: must be an image such as "ghcr.io/me/web:1", got "X Y"'],
    ),
    ("aliases = ['x']", ["6: [service.web] aliases needs image or build"]),
    ("hosts = { a = '10.0.0.5' }", ["6: [service.web] hosts needs image or build"]),
    (
        "image = 'x'\nhosts = { a = 'here', b = 'host-gateway' }",
        ['7: [service.web] hosts: a: must be an address, or "host-gateway", got "here"'],
    ),
    (
        "image = 'x'\naliases = ['a b', 'c']",
        ['7: [service.web] aliases[0]: must be a name such as "my_app", got "a b"'],
    ),
    (
        "image = 'x'\naliases = ['db']\n[data.db]\ntype = 'postgres'",
        ['7: [service.web] aliases[0]: "db" is the name of a data already'],
    ),
    (
        "image = 'x'\nvolumes = { '/a' = '../b' }",
        [
            '7: [service.web] volumes./a: must be a files store ("${uploads.path}"), a secret '
            '("${secret.KEY}"), a folder or file within the source folder, or a place of the '
            'machine, got "../b"'
        ],
    ),
    (
        "image = 'x'\nvolumes = { '/a' = '${secret.KEY}' }",
        [
            '7: [service.web] volumes./a: ${secret.KEY}: "KEY" is not in the list of secrets '
            "(have: none)"
        ],
    ),
    (
        "image = 'x'\nvolumes = { 'a' = '.' }",
        ['7: [service.web] volumes: "a" is no place in a container: say "/data"'],
    ),
    (
        "image = 'x'\nvolumes = { '/a' = '${b.path}' }",
        ['7: [service.web] volumes./a: ${b.path}: nothing is named "b" (have: web)'],
    ),
    (
        "build = { base = 'a', target = 'b' }",
        ["6: [service.web] build: target is of a Dockerfile, and base goes without"],
    ),
    (
        "build = { base = 'a' }\nuser = '1'",
        ["7: [service.web] user is of images of others"],
    ),
    ("gpu = 1", ['6: [service.web] "gpu" is not implemented in this version']),
    ("live = 'x'", ['6: [service.web] live: must start with "/", got "x"']),
    ("live = { after = 3 }", ["6: [service.web] live: needs either path or command"]),
    (
        "[service.w]\nrun = 'x'\nlive = '/x'",
        ["8: [service.w] live is a path, but no HTTP server is declared: use { command }"],
    ),
    (
        "reserve = { memory = '1G' }\nlimits = { memory = '512M' }",
        ["7: [service.web] limits.memory is less than reserve.memory"],
    ),
    (
        "limits = { memroy = '1G' }",
        ['6: [service.web] limits: unknown key "memroy"; did you mean "memory"?'],
    ),
    ("recycle = {}", ["6: [service.web] recycle: needs age or requests"]),
    ("recycle = { age = '1s' }", ["6: [service.web] recycle: age must be at least 10 s"]),
    (
        "[service.w]\nrun = 'x'\nrecycle = { requests = 5 }",
        ["8: [service.w] recycle.requests needs an HTTP service: the edge counts them"],
    ),
    ("listen = '*:1'", ['6: [service.web] unknown key "listen"; it belongs in [edge]']),
    (
        "standbys = 1",
        [
            '6: [service.web] unknown key "standbys"; in [data.NAME] it '
            "is not implemented in this version"
        ],
    ),
    (
        "reserve.gpus = 1",
        ['6: [service.web] reserve: unknown key "gpus" (have: cpu, memory)'],
    ),
    ("x-mine = 1", None),  # type: ignore[list-item]  # filled in below: the list of keys is long
    # types
    ("replicas = '3'", ['6: [service.web] replicas: must be a whole number or "cpus", got "3"']),
    ("replicas = 1.0", ['6: [service.web] replicas: must be a whole number or "cpus", got 1.0']),
    ("replicas = -1", ['6: [service.web] replicas: must be at least 0 or "cpus", got -1']),
    ("replicas = 9999", ['6: [service.web] replicas: must be at most 1000 or "cpus", got 9999']),
    ("singleton = 'yes'", ['6: [service.web] singleton: must be true or false, got "yes"']),
    ("singleton = 1", ["6: [service.web] singleton: must be true or false, got 1"]),
    ("drain = 60", [f"6: [service.web] drain: {DURATION}, got 60"]),
    ("drain = '60'", [f'6: [service.web] drain: {DURATION}, got "60"']),
    ("drain = '5m\\n'", [f'6: [service.web] drain: {DURATION}, got "5m\\\\n"']),
    ('drain = "5m\\n"', [f'6: [service.web] drain: {DURATION}, got "5m\\n"']),
    (
        "reserve = { memory = '5 GB' }",
        ['6: [service.web] reserve.memory: must be a size such as "512M" or "2G", got "5 GB"'],
    ),
    ("reserve = { cpu = 0 }", ["6: [service.web] reserve.cpu: must be more than 0, got 0"]),
    ("reserve = { cpu = inf }", ["6: [service.web] reserve.cpu: must be a finite number"]),
    ("reserve = 1", ["6: [service.web] reserve: must be a table, got 1"]),
    ("env = { A = 1 }", ["6: [service.web] env.A: must be a string, got 1"]),
    ('env = { A = "a\\u0000b" }', ["6: [service.web] env.A: must not contain a NUL character"]),
    (
        "env = { 'A B' = 'x' }",
        [
            '6: [service.web] env.A B: "A B" is not a valid name: must be letters, digits, '
            "underscores, dots and hyphens, not starting with a digit"
        ],
    ),
    ("secrets = 'A'", ['6: [service.web] secrets: must be a list, got "A"']),
    (
        "sticky = 'cookies'",
        ['6: [service.web] sticky: must be "cookie", got "cookies"; did you mean "cookie"?'],
    ),
    ("ready = 'health'", ['6: [service.web] ready: must start with "/", got "health"']),
    (
        "ready = '/a b'",
        ['6: [service.web] ready: holds a character that a URL path may not have: "/a b"'],
    ),
    (
        "ready = 3",
        ['6: [service.web] ready: must be a path such as "/health/ready" or a table, got 3'],
    ),
    (
        "ready = { path = '/x', command = 'y' }",
        ["6: [service.web] ready: needs either path or command"],
    ),
    (
        "ready = { path = '/x', after = 0 }",
        ["6: [service.web] ready.after: must be at least 1, got 0"],
    ),
    (
        "route = true",
        [
            '6: [service.web] route: must be a path such as "/api", a table { host, path } or '
            "false, got true"
        ],
    ),
    ("cwd = '../other'", ["6: [service.web] cwd: must lie within the source folder"]),
    ("cwd = '/etc'", ["6: [service.web] cwd: must lie within the source folder"]),
    # illogical pairs
    (
        "singleton = true\nreplicas = 2",
        ["6: [service.web] singleton and replicas contradict each other"],
    ),
    (
        "singleton = true\nsurge = 2",
        ["7: [service.web] singleton and surge contradict each other"],
    ),
    (
        "singleton = true\nswitch = 'atomic'",
        ["7: [service.web] switch = atomic and singleton contradict each other"],
    ),
    (
        "[service.w]\nrun = 'x'\nsticky = 'cookie'\nready = '/x'",
        [
            f"8: [service.w] sticky needs an HTTP service {HTTP}",
            "9: [service.w] ready is a path, but no HTTP server is declared: use { command }",
        ],
    ),
    (
        "[service.w]\nrun = 'x'\nroute = '/x'\ntimeout = '1s'",
        [
            f"8: [service.w] route needs an HTTP service {HTTP}",
            f"9: [service.w] timeout needs an HTTP service {HTTP}",
        ],
    ),
    # a fault hides no other one, in its own table either
    (
        "singleton = true\nreplicas = 2\nreplicsa = 2\ndrain = 3",
        [
            "6: [service.web] singleton and replicas contradict each other",
            '8: [service.web] unknown key "replicsa"; did you mean "replicas"?',
            f"9: [service.web] drain: {DURATION}, got 3",
        ],
    ),
    # a missing run is one fault, not a handful
    (
        "[service.w]\nsticky = 'cookie'",
        ['6: [service.w] key "run" is missing'],
    ),
    ("[service.w]\nrun = ''", ["7: [service.w] run: must not be empty"]),
    (
        "[service.w]\nrun = ['a', 3]",
        ['7: [service.w] run: must be a string or a list of strings, got ["a", 3]'],
    ),
    (
        '[service.w]\nrun = "a \'b"',
        ["7: [service.w] run: cannot be split into words: No closing quotation"],
    ),
    # names
    (
        "[service.Web]\nrun = 'x'",
        [
            '6: [service.Web] "Web" is not a valid name: must be lower-case letters, digits and '
            "hyphens, starting with a letter"
        ],
    ),
    ("[job.web]\nrun = 'x'", ['6: [job.web] "web" is the name of a service already']),
    ("[data.edge]\ntype = 'redis'", ['6: [data.edge] "edge" is a reserved name']),
    ("[service]\nw = 3", ["7: [service.w] must be a table, got 3"]),
    ("[servce.w]\nrun = 'x'", ['6: unknown key "servce"; did you mean "service"?']),
    ("[services.w]\nrun = 'x'", ['6: unknown key "services"; did you mean "service"?']),
    ("[[data]]\ntype = 'redis'", ['6: [data] must be a table, got [{"type": "redis"}]']),
    # jobs and data
    (
        "[job.j]\nrun = 'x'\nwhen = '0 25 * * *'",
        ["8: [job.j] when: not a schedule: bad hour"],
    ),
    (
        "[job.j]\nrun = 'x'\nwhen = '0 0 31 2 *'",
        ["8: [job.j] when: not a schedule: bad day-of-month"],
    ),
    (
        "[job.j]\nrun = 'x'\nwhen = '0 3 * * * *'",
        [
            "8: [job.j] when: a schedule has 5 fields (minute, hour, day of month, month, "
            "day of week), got 6"
        ],
    ),
    (
        "[job.j]\nrun = 'x'\nwhen = '0 3 * * *'\nzone = 'Europe/Berln'",
        ['9: [job.j] zone: must be a time zone, got "Europe/Berln"; did you mean "Europe/Berlin"?'],
    ),
    (
        "[job.j]\nrun = 'x'\nwhen = 'manual'\nzone = 'UTC'\ncatch_up = '1h'",
        [
            "9: [job.j] zone is of a schedule alone",
            "10: [job.j] catch_up is of a schedule alone",
        ],
    ),
    (
        "[job.j]\nrun = 'x'\nwhen = 'relase'",
        [
            '8: [job.j] when: must be "release", "after-release", "manual" or a schedule such as '
            '"0 3 * * *", got "relase"; did you mean "release"?'
        ],
    ),
    (
        "[data.q]\ntype = 'rabbitmq'",
        ['7: [data.q] type: "rabbitmq" is not implemented in this version'],
    ),
    (
        "[data.q]\ntype = 'mysql'",
        ['7: [data.q] type: must be "postgres", "redis" or "files", got "mysql"'],
    ),
    ("[data.q]", ['6: [data.q] key "type" is missing']),
    (
        "[data.q]\ntype = 'redis'\nversion = 9.0",
        ["8: [data.q] version: must be a whole number, got 9.0"],
    ),
    (
        "[data.q]\ntype = 'redis'\nversion = 9\nurl = 'redis://h'",
        ["8: [data.q] an external store takes no version, port or settings"],
    ),
    (
        "[data.q]\ntype = 'redis'\nsettings = { a = [1] }",
        [
            "8: [data.q] settings.a: must be a string or a whole number or a number or "
            "true or false, got [1]"
        ],
    ),
    # edge and drills
    (
        "[edge]\nlisten = '8080'",
        [
            '7: [edge] listen: must be an address and a port, such as "127.0.0.1:8080" or "*:80", '
            'got "8080"'
        ],
    ),
    (
        "[edge]\nrate_limit = '9/q'",
        ['7: [edge] rate_limit: must be a rate such as "200/s" or "30/m", got "9/q"'],
    ),
    (
        "[edge]\nrate_limit = 9",
        [
            '7: [edge] rate_limit: must be a rate such as "100/s", a table { rate, path, … }'
            " or a list, got 9"
        ],
    ),
    (
        "[edge]\nrate_limit = { rate = '5/m', paht = '/login' }",
        ['7: [edge] rate_limit: unknown key "paht"; did you mean "path"?'],
    ),
    (
        "[edge]\nrate_limit = ['9/s', { rate = '5/m', key = 'ip' }]",
        [
            '7: [edge] rate_limit[1].key: must be "address", "header:NAME" or "cookie:NAME",'
            ' got "ip"'
        ],
    ),
    (
        "[edge]\nrate_limit = { rate = '1/h', burst = 9, allow = ['home'] }",
        [
            "7: [edge] rate_limit.allow[0]: must be an address or network such as"
            ' "10.0.0.0/8", got "home"'
        ],
    ),
    ("[edge]\nrate_limit = { path = '/x' }", ['7: [edge] rate_limit: key "rate" is missing']),
    (
        "[service.w]\nrun = 'x'\nconcurrency = 5",
        [
            "8: [service.w] concurrency needs an HTTP service (one whose run uses ${socket} or"
            " ${port})"
        ],
    ),
    (
        "queue = '5s'",
        ["6: [service.web] queue needs concurrency"],
    ),
    ("[drill]\nget = ['x']", ['7: [drill] get[0]: must start with "/", got "x"']),
    # two services
    (
        "[service.w]\nrun = 'x ${port}'",
        [
            "4: [service.web] 2 services speak HTTP: this one needs a route, "
            'say route = "/api", or route = false to keep it private',
            "6: [service.w] 2 services speak HTTP: this one needs a route, "
            'say route = "/api", or route = false to keep it private',
        ],
    ),
    (
        "route = '/a'\n[service.w]\nrun = 'x ${port}'\nroute = '/a/'",
        ["9: [service.w] route: /a is published by web already"],
    ),
    (
        "route = '/a'\n[drill]\nget = ['/a/b', '/ab']",
        ["8: [drill] get[1]: /ab is not published by any service (routes: /a)"],
    ),
    (
        "route = { host = 'a.b' }\n[drill]\nhost = 'c.d'",
        ['8: [drill] host: no route has the host "c.d" (have: a.b)'],
    ),
    # private pages
    (
        "[edge]\nprivate = { '/admin' = 5, '/b' = {}, '/c' = ['x'], '/d' = { login = 'A-B' } }",
        [
            "7: [edge] private./admin: must be the name of a secret, a list of addresses "
            "or a table { allow, login }, got 5",
            "7: [edge] private./b: needs allow or login",
            '7: [edge] private./c: must be an address or network such as "10.0.0.0/8", got "x"',
            '7: [edge] private./d.login: must be the name of a secret such as "ADMIN_PASSWORD", '
            'got "A-B"',
        ],
    ),
    (
        "[edge]\nprivate = { '/%61' = 'A' }",
        [
            '7: [edge] private: must be paths such as "/admin", decoded and without empty parts, '
            'got "/%61"'
        ],
    ),
    (
        "[edge]\nprivate = { '/a' = 'A', '/A/' = 'B' }",
        ['7: [edge] private: "/A/" is there twice'],
    ),
    (
        "private = 'A'\nroute = false",
        [
            "6: [service.web] private is about who may ask from outside, and nobody may: "
            "route = false"
        ],
    ),
    (
        "private = false",
        [
            "6: [service.web] private: must be the name of a secret, a list of addresses "
            "or a table { allow, login }, got false"
        ],
    ),
    (
        "private = 'A'\n[edge]\nlisten = '*:80'\nprivate = { '/a' = ['10.0.0.0/8'] }",
        [
            "6: [service.web] private: a password would go through the network in clear: "
            "say domains or tls, listen on 127.0.0.1, or name the proxy that speaks TLS in trusted"
        ],
    ),
    (
        "[edge]\nprivate = { '/a' = 'A', '/a/b' = false }\n[drill]\nget = ['/a/b/c', '/A/c?d']",
        ["9: [drill] get[1]: /A/c?d is behind the login of /a: drills do not log in"],
    ),
    # CORS
    ("[edge]\ncors = 5", ["7: [edge] cors: must be origins or a table { origins, … }, got 5"]),
    (
        "[edge.cors]\norigins = ['https://a/', 'null', 'https://A.b', 'https://*.b', 'http://a:80']",
        [
            f"7: [edge] cors.origins[{at}]: must be an origin (scheme://host or "
            f'scheme://host:port, in lower case, as browsers write it), got "{one}"'
            for at, one in enumerate(["https://a/", "null", "https://A.b", "https://*.b"])
        ]
        + [
            '7: [edge] cors.origins[4]: browsers leave the usual port out: say "http://a", '
            'got "http://a:80"'
        ],
    ),
    (
        "[edge.cors]\norigins = '*'\ncredentials = true",
        [
            "8: [edge] cors: credentials for any origin would let every page act as its visitor: "
            "name origins"
        ],
    ),
    (
        "[edge.cors]\norigins = ['*', 'https://a']",
        ['7: [edge] cors: origins has "*" and others: "*" stands alone'],
    ),
    ("[edge.cors]\norigins = []", ["7: [edge] cors: origins is empty: nobody would be let in"]),
    (
        "[edge.cors]\norigins = 'https://a'\nmethods = ['TRACE']\nheaders = ['X y']",
        [
            '8: [edge] cors.methods[0]: must be "GET", "HEAD", "POST", "PUT", "PATCH" or "DELETE", '
            'got "TRACE"',
            '9: [edge] cors.headers[0]: must be the name of a header, got "X y"',
        ],
    ),
    (
        "[edge.cors]\norigins = 'https://a'\nmax_age = '2d'",
        ['8: [edge] cors: max_age must be at most "1d"'],
    ),
    # overlays
    ("[for.a]\nkeep = 'x'", ['7: [for.a] keep: must be a whole number, got "x"']),
    (
        "[for.a]\nservice.web.replica = 1",
        ['7: [for.a.service.web] unknown key "replica"; did you mean "replicas"?'],
    ),
    ("[for.a]\nname = 'x'", ['7: [for.a] "name" is the same in every environment']),
    ("[for.a]\nfor.b.keep = 2", ["7: [for.a] an overlay has no overlays"]),
    ("[for.a]\nx-b = 2", ['7: [for.a] "x-b": x- keys belong at the root']),
    (
        "[for.a]\nunset = 'keep'",
        ['7: [for.a] unset: must be a list of keys such as "service.web.sticky"'],
    ),
    ("[for.a]\nunset = ['keep']", ['7: [for.a] unset: the base has no "keep"']),
    ("[for.a]\nunset = ['name']", ['7: [for.a] unset: "name" cannot be left out']),
    (
        "[for.a]\nunset = ['service.web.run']",
        ['4: [service.web] key "run" is missing (with --for a)'],
    ),
    (
        "[for.A_]\nkeep = 2",
        ['6: [for] A_: "A_" is not a valid name: must be lower-case letters, digits and hyphens'],
    ),
    ("[for]\na = 2", ["7: [for] a: must be a table"]),
]
UNLISTED = {
    "x-mine = 1": r'6: \[service\.web\] unknown key "x-mine" \(have: aliases, body, build, .*\)',
}


@pytest.mark.parametrize(("added", "expected"), ADDED, ids=[added for added, _ in ADDED])
def test_message(added: str, expected: list[str] | None) -> None:
    found = said(f"{SMALL}{added}\n")
    if expected is None:
        assert len(found) == 1
        assert re.fullmatch(UNLISTED[added], found[0])
    else:
        assert found == expected


WHOLE: list[tuple[str, list[str]]] = [
    ("", ['is empty: a stack needs "gapless = 1", a name and one [service.NAME] with run']),
    (" \n\t\n", ['is empty: a stack needs "gapless = 1", a name and one [service.NAME] with run']),
    (
        "x-a = 1",
        ['key "gapless" is missing', 'key "name" is missing', "needs at least one [service.NAME]"],
    ),
    (
        'gapless = 1\nname = "a"\nservice = 3\n',
        ["3: [service] must be a table, got 3"],
    ),
    (
        SMALL.replace("= 1", "= 2", 1),
        ["1: gapless: must be 1, the only version of the file format, got 2"],
    ),
    (
        SMALL.replace("= 1", "= true", 1),
        ["1: gapless: must be 1, the only version of the file format, got true"],
    ),
    (
        SMALL.replace("shop", "Shop_1"),
        ['2: name: must be lower-case letters, digits and hyphens, such as "chat", got "Shop_1"'],
    ),
    (
        SMALL.replace("shop", "s" * 33),
        [f'2: name: must be at most 32 characters long, got "{"s" * 33}"'],
    ),
    (f"overlay = 'x'\n{SMALL}", ['1: unknown key "overlay"']),
    (
        f"domains = ['x']\n{SMALL}",
        ['1: domains[0]: must be a host name such as "chat.example.com", got "x"'],
    ),
    (
        f"domains = ['a.example.com', '*.example.com', 'a.example.com']\n{SMALL}",
        [
            "1: domains[1]: no certificate for *.example.com can be had by HTTP: name each host, "
            "or give [edge] tls = { cert, key }",
            '1: domains[2]: "a.example.com" is listed twice',
        ],
    ),
    (f"{SMALL}[edge]\ntls = 'auto'\n", ['7: [edge] tls: needs domains = ["chat.example.com"]']),
    (
        f"{SMALL}[edge]\nhsts = '1y'\n",
        ['7: [edge] hsts: needs TLS: say domains = ["chat.example.com"], or tls'],
    ),
    (f"{SMALL}[edge]\ntls = {{ cert = 'x' }}\n", ['7: [edge] tls: key "key" is missing']),
    (
        f"{SMALL}[edge]\ntls = 'off'\n",
        ['7: [edge] tls: must be "auto", "self-signed", { cert, key } or false, got "off"'],
    ),
    (f"secrets = ['A', 'A']\n{SMALL}", ['1: secrets[1]: "A" is listed twice']),
    (
        f"secrets = ['A-B']\n{SMALL}",
        [
            "1: secrets[0]: must be letters, digits and underscores, not starting with a digit, "
            'got "A-B"'
        ],
    ),
    (
        f"secrets = ['TOKEN']\n{SMALL}secrets = ['TOKENS']\n",
        [
            '7: [service.web] secrets[0]: "TOKENS" is not in the list of secrets of the stack; '
            'did you mean "TOKEN"?'
        ],
    ),
    (f"for = 3\n{SMALL}", ["1: for: must hold tables: [for.staging]"]),
    ("gapless = 1\nname = \n", ["2: is not valid TOML: invalid value"]),
    ("gapless = 1\ngapless = 2\n", ["2: is not valid TOML: cannot overwrite a value"]),
    ("name = 'a", ['1: is not valid TOML: expected "\'"']),
    ("[service.web\n", ["1: is not valid TOML: expected ']' at the end of a table declaration"]),
    ("a = " + "[" * 5000, ["is nested too deeply"]),
    ("a = " + "[" * 40 + "]" * 40, ["is nested too deeply (more than 16 levels)"]),
    ("gapless = 1\nname = 'a\0b'\n", ["2: holds a NUL character"]),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE, ids=[text[:40] for text, _ in WHOLE])
def test_message_of_a_whole_file(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_a_number_without_end_is_a_fault_of_the_file() -> None:
    assert said(f"gapless = {'9' * 5000}")[0].startswith("is not valid TOML: ")


def test_the_printed_form() -> None:
    with pytest.raises(InvalidStack) as caught:
        stackfile.parse(f"{SMALL}\n\nreplica = 3\n", file="here/gapless.toml")
    assert str(caught.value) == (
        'here/gapless.toml:8: [service.web] unknown key "replica"; did you mean "replicas"?\n'
        "    8 | replica = 3"
    )
    assert caught.value.exit_code == 2
    assert caught.value.detail["problems"] == [
        {
            "file": "here/gapless.toml",
            "line": 8,
            "message": '[service.web] unknown key "replica"; did you mean "replicas"?',
            "text": "replica = 3",
        }
    ]


def test_control_characters_of_a_line_are_not_shown() -> None:
    with pytest.raises(InvalidStack) as caught:
        stackfile.parse(f'{SMALL}zzz = "\u202e\u009b"\n')
    (problem,) = caught.value.problems
    assert problem.text == 'zzz = "\ufffd\ufffd"'


def test_the_valid_files_are_valid() -> None:
    assert said(SMALL) == []
    assert said(FULL) == []
    assert said(FULL, "staging") == []
    assert said(FULL, "production") == []
