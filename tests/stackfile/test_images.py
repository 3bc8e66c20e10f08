"""Services that are images: checked with the rest, refused where there are no containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapless import stackfile
from gapless.model import image as images
from gapless.stackfile import checks, onsite, packed, references

from .texts import said

TEXT = """\
gapless = 1
name = "demo"
[service.web]
image = "ghcr.io/me/web:1.4@sha256:{digest}"
port = 8000
replicas = 3
cwd = "/srv/app"
user = "1000:1000"
entrypoint = ["/entry.sh", "--log"]
[service.web.volumes]
"/media" = "${{media.path}}"
"/etc/web.conf" = {{ source = "web.conf", read_only = true }}
[job.migrate]
build = {{ context = "backend", target = "production", args = {{ A = "1" }} }}
run = "migrate"
[data.media]
type = "files"
""".format(digest="0" * 64)


def test_an_image_needs_no_command_and_has_many_replicas_at_one_port() -> None:
    stack = stackfile.parse(TEXT).stack
    web, migrate = stack.services["web"], stack.jobs["migrate"]
    assert web.packed and web.http and web.run == () and web.replicas == 3
    assert web.volumes["/media"].store == "media"
    assert web.volumes["/etc/web.conf"].read_only and web.volumes["/etc/web.conf"].store is None
    assert migrate.build is not None and migrate.build.context == "backend"
    assert references.dependencies(stack)["web"] == ("media",)


def test_what_is_built_has_a_dockerfile_or_a_base(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    loaded = stackfile.parse(TEXT)

    def found() -> list[str]:
        problems = onsite.problems(loaded, tmp_path, secrets=(), environ=(), containers=True)
        return [problem.message for problem in problems]

    assert len(found()) == 1 and "backend/Dockerfile is not a file: say { base" in found()[0]
    (tmp_path / "backend" / "Dockerfile").touch()
    assert found() == []
    head = 'gapless = 1\nname = "a"\n[service.web]\nbuild = { base = "python:3" }\n'
    assert stackfile.parse(f'{head}run = "serve"\ncwd = "in"\n').stack.services["web"].derived
    assert said(f'{head}run = "serve"\ncwd = "/in"\n') == [
        "6: [service.web] cwd: must lie within the source folder"
    ]


def test_without_containers_it_is_refused_with_its_line(tmp_path: Path) -> None:
    loaded = stackfile.parse(TEXT)
    found = onsite.problems(loaded, tmp_path, secrets=(), environ=())
    assert [problem.line for problem in found] == [4, 14]
    assert all("images need --target docker" in problem.message for problem in found)
    assert checks.packed(loaded.stack) == (("service", "web", "image"), ("job", "migrate", "build"))


@pytest.mark.parametrize(
    "image",
    ["postgres", "postgres:18-alpine", "docker.io/valkey/valkey:8.1", "localhost:5000/a/b_c.d-e",
     f"quay.io/x@sha256:{'a' * 64}", "[::1]:5000/x:y"],
)  # fmt: skip
def test_names_of_images(image: str) -> None:
    assert said(f'gapless = 1\nname = "a"\n[service.web]\nimage = "{image}"\n') == []


@pytest.mark.parametrize(
    "image", ["", "A", "a b", "a:", "a@sha256:0", "-a", "a\\nb", "a:${secret.X}"]
)
def test_no_names_of_images(image: str) -> None:
    assert said(f'gapless = 1\nname = "a"\n[service.web]\nimage = "{image}"\n') != []


def test_what_images_cannot_have_yet_is_told_with_its_place() -> None:
    text = """
gapless = 1
name = "a"
[service.web]
image = "web:1"
run = ["serve", "${socket}", "${api.url}", "${media.path}"]
env = { DB = "${db.url}", OUT = "${out.url}" }
route = "/"
user = "me"
ready = { command = ["true"] }
[service.api]
build = "api"
port = 80
route = false
[service.own]
run = ["work"]
env = { DB = "${db.url}" }
[data.db]
type = "postgres"
[data.out]
type = "redis"
url = "redis://elsewhere"
[data.media]
type = "files"
"""
    found = packed.problems(stackfile.parse(text).stack)
    assert [(".".join(map(str, path)), fault.partition(":")[0]) for path, fault in found] == [
        ("service.web.user", "must be a number, since ${socket} lies in a directory of its own"),
    ]


def test_registries_ask_for_secrets_by_name() -> None:
    head = 'gapless = 1\nname = "a"\nsecrets = ["X"]\n[service.web]\nimage = "ghcr.io/me/web"\n'
    stack = stackfile.parse(f'{head}[registries]\n"ghcr.io" = {{user="me", password="T"}}\n').stack
    assert checks.missing_secrets(stack, {"X"}) == ("T",)
    assert checks.missing_secrets(stack, {"X", "T"}) == ()
    assert stack.secrets == ("X",)  # no program is told
    loaded = stackfile.parse(f'{head}[registries]\n"ghcr.io" = {{user="me", password="T"}}\n')
    problems = onsite.problems(loaded, Path(), secrets=("X",), environ=(), containers=True)
    assert [(one.line, one.message.partition(":")[0]) for one in problems] == [
        (7, "[registries] ghcr.io"),
    ]
    assert said(f'{head}[registries]\n"ghcr.io" = {{user = "me", password = "a b"}}\n') == [
        '7: [registries] ghcr.io.password: must be the name of a secret such as "GHCR_TOKEN", '
        'got "a b"'
    ]


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("nginx", "docker.io"),
        ("me/web:1", "docker.io"),
        ("docker.io/me/web", "docker.io"),
        ("ghcr.io/me/web:1.4", "ghcr.io"),
        ("localhost/web", "localhost"),
        ("me:5000/web", "me:5000"),
        ("127.0.0.1:5000/a/b@sha256:" + "0" * 64, "127.0.0.1:5000"),
    ],
)
def test_the_registry_of_an_image(name: str, host: str) -> None:
    assert images.registry(name) == host
