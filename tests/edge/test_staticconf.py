"""What nginx is told: which names are for ever, and that nothing foreign becomes a directive."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gapless.edge import config, render, static, staticconf, staticserver
from gapless.errors import UsageError
from gapless.model.process import Address
from gapless.model.stack import Stack
from tests.edge import stand

MOUNT = staticconf.Mount("/static", "/srv/releases", ("r2/tree/web", "r1/tree/web"))
HASHED = re.compile(f"(?:{staticconf.HASHED})$")


@pytest.mark.parametrize(
    "name",
    [
        "app-5d41402abc4b.js",
        "main.3f2a1b9c.css",
        "app.55e7cbb9ba48.css",
        "runtime.5d41402a.js.map",
        "app.5d41402a.chunk.js",
        "logo.0cc175b9c0f1b6a8.svg",
        "3f2a1b9c4d5e.png",
        "index-BX3k9_aQ.js",
        "main-5FOBJ2DT.css",
        "main-5FOBJ2DT.js.map",
    ],
)
def test_a_hash_in_a_name(name: str) -> None:
    assert HASHED.search(f"/static/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "app.js",
        "bootstrap.min.js",
        "jquery-3.7.1.js",
        "jquery-migrate1.js",
        "lib-Angular2.js",
        "js/Vector3D.js",
        "js/Base64Encoder.js",
        "chunk.HelloWorld1.js",
        "report-20240101.pdf",
        "my-document.pdf",
        "my-chapter01.html",
        "trip-DSCN7263.jpg",
        "img_20240101_120000.jpg",
        "Roboto-Regular400.woff2",
        "v1.20240101/app.js",
        "5d41402abc4b/app.js",
        "decade-facade.css",
    ],
)
def test_no_hash_in_a_name(name: str) -> None:
    """One that may change must be asked about, or clients have yesterday's for a year."""
    assert not HASHED.search(f"/static/{name}")


@pytest.mark.parametrize(
    "hostile",
    [
        replace(MOUNT, root='/srv"; include /etc/passwd; "'),
        replace(MOUNT, root="/srv/$uri"),
        replace(MOUNT, root="/srv\nuser root;"),
        replace(MOUNT, folders=("r1/tree/../../..",)),
        replace(MOUNT, folders=('r1"; }',)),
        replace(MOUNT, folders=("r1/$host",)),
        replace(MOUNT, index='x"; }'),
        replace(MOUNT, fallback="../x"),
        replace(MOUNT, path='/a" { }'),
    ],
)
def test_nothing_becomes_a_directive(hostile: staticconf.Mount) -> None:
    with pytest.raises(UsageError):
        staticconf.text(staticconf.Files((hostile,)), "/run/s", "/run")


def test_nginx_takes_all_of_it(tmp_path: Path) -> None:
    files = staticconf.Files(
        (
            MOUNT,
            staticconf.Mount("/", "/srv/up loads", ("",), cache=60.0),
            staticconf.Mount("/app", "/srv", ("a",), fallback="index.html"),
            staticconf.Mount("/a.b-c_d~e+f@g", "/srv", ("a",), cache=float(staticconf.YEAR)),
        ),
        workers=2,
    )
    server = staticserver.StaticServer(tmp_path / "home", Address(socket=str(tmp_path / "s")))
    assert server.install(files).exists()
    assert staticconf.digest(files) in (tmp_path / "home" / "nginx.conf").read_text()


def test_a_folder_comes_before_all_but_what_lies_in_it() -> None:
    table = {
        "gapless": 1,
        "name": "demo",
        "service": {
            "web": {"run": "a ${socket}"},
            "api": {"run": "a ${socket}", "route": "/static/api"},
        },
        "edge": {"static": {"/static": "web", "/static/big": "big"}},
    }
    wanted = config.of_stack(
        Stack.model_validate(table), {}, run_dir="/r", maxconn=9, threads=1, static_socket="/r/s"
    )
    text = render.text(wanted)
    rules = [line.strip() for line in text.splitlines() if "use_backend" in line]
    order = [rule.split()[1] for rule in rules]
    assert order[2:6] == [static.DATA, static.BACKEND] * 2
    assert "'/static/big/'" in rules[2]
    assert "!{ path -m beg -- '/static/api/' }" in rules[4]
    assert config.from_json(config.to_json(wanted)) == wanted
    plain = config.Config("demo", "*:1", (), (stand.backend("web"),), "/r", 9, 1)
    assert static.BACKEND not in render.text(plain)
