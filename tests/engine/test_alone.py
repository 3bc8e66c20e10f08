"""The Dockerfile of a service without gapless: what is in it, and what is asked or refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless import errors, stackfile
from gapless.engine.releases import alone, recipe
from gapless.model.stack import Stack
from gapless.stackfile import write

FILE = """\
gapless = 1
name = "shop"
setup = "pip install -r requirements.txt"
secrets = ["TOKEN"]

[service.web]
run = "uvicorn app:app --host ${host} --port ${port}"
cwd = "backend"
ready = "/health/ready"
route = "/"
env = { DB = "${db.url}", LEVEL = "${env.LEVEL:-info}", SHOWN = "$${x} \\"$y" }

[service.own]
image = "nginx"

[service.uds]
route = false
run = "uvicorn app:app --uds ${socket}"

[data.db]
type = "postgres"
"""


def stack(text: str = FILE) -> Stack:
    return stackfile.parse(text).stack


def test_setup_comes_before_the_source_and_stays_behind() -> None:
    text = alone.dockerfile(stack(), "web", ("requirements.txt",))
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "RUN"))]
    compiled = [text.index(f"for folder in ['{folder}']") for folder in ("/opt/venv", "/app")]
    assert compiled[0] < text.index("COPY . /app/") < compiled[1]
    env = f"ENV {recipe.env(python=True)} PIP_NO_COMPILE=1"
    assert lines[:15] == [
        "ARG BASE=python:3.12-slim",
        "FROM ${BASE} AS made",
        env,
        "WORKDIR /app",
        'COPY ["requirements.txt", "/app/requirements.txt"]',
        "COPY . /app/",
        "FROM ${BASE}",
        env,
        "COPY --from=made /opt/venv /opt/venv",
        "COPY --from=made /app /app",
        "WORKDIR /app/backend",
        'ENV HOST="0.0.0.0"',
        'ENV PORT="8000"',
        'ENV LEVEL="info"',
        'ENV SHOWN="\\${x} \\"\\$y"',
    ]
    assert lines[15] == "EXPOSE 8000"
    asking = json.loads(lines[16].partition(" CMD ")[2])
    assert lines[16].startswith("HEALTHCHECK --interval=")
    assert asking[4:] == ["http://127.0.0.1:8000/health/ready", asking[-1]]
    assert lines[17:] == [
        "USER 65532:65532",
        "ENTRYPOINT []",
        'CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"]',
    ]
    asked = {line.key for line in alone.report(stack(), "web") if "docker run -e" in line.text}
    assert asked == {"TOKEN", "DB"}
    assert not any(line.kind == "refused" for line in alone.report(stack(), "web"))


@pytest.mark.parametrize(
    ("setup", "stages"),
    [
        ('setup = "pip install -r requirements.txt"', 2),
        ('setup = "uv sync --frozen"', 2),
        ('setup = "npm ci"', 2),
        # Who knows where these put what they make.
        ('setup = "npm install --global x"', 1),
        ('setup = "pip install --user x"', 1),
        ('setup = "make"', 1),
        ("", 1),
    ],
)
def test_two_stages_where_all_that_is_made_is_known(setup: str, stages: int) -> None:
    made = stack(FILE.replace('setup = "pip install -r requirements.txt"', setup))
    text = alone.dockerfile(made, "web", ())
    assert text.count("\nFROM ") == stages


def test_what_cannot_be_an_image_is_told() -> None:
    with pytest.raises(errors.UsageError, match="own: has an image of its own already"):
        alone.dockerfile(stack(), "own", ())
    with pytest.raises(errors.UsageError, match='no service is named "x"'):
        alone.report(stack(), "x")
    refused = [line for line in alone.report(stack(), "uds") if line.kind == "refused"]
    assert [line.key for line in refused] == ["${socket}"]


def test_setup_that_reads_more_has_the_source_first() -> None:
    setup = (("pip", "install", "-r", "a.txt"),)
    assert alone.inputs(setup, {"a.txt": "flask"}) == ("a.txt",)
    assert alone.inputs(setup, {"a.txt": "-e ."}) == ()
    assert alone.inputs(setup, {"a.txt": "", "b*.txt": ""}) == ()
    assert alone.inputs((), {}) == ()


def test_what_no_release_has_no_image_has() -> None:
    rules = ["# x", "", "*.log", "/dist/", "a/b", "!keep.log", "node_modules/"]
    lines = alone.ignored(rules, ["dist/app.js"]).splitlines()
    assert {"**/.git", "**/.venv", "Dockerfile*"} <= set(lines)
    at = lines.index("Dockerfile*") + 1
    assert lines[at:] == [
        *("**/*.log", "dist", "a/b", "!**/keep.log", "**/node_modules", "!dist/app.js")
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    st.lists(TEXT.filter(lambda word: word.strip()), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["A", "B"]), TEXT),
    st.one_of(st.none(), TEXT.filter(lambda text: ".." not in text and text[:1] != "/")),
)
def test_nothing_of_the_file_makes_an_instruction(
    words: list[str], env: dict[str, str], cwd: str | None
) -> None:
    table: dict[str, Any] = {"run": words, "env": env} | ({} if cwd is None else {"cwd": cwd})
    tree = {"gapless": 1, "name": "shop", "setup": [words], "service": {"web": table}}
    try:
        made = stackfile.parse(write.document(tree)).stack
    except errors.GaplessError:
        return
    text = alone.dockerfile(made, "web", ())
    for line in text.split("\n"):
        word, _, rest = line.partition(" ")
        if word in ("RUN", "CMD"):
            assert isinstance(json.loads(rest), list)
        elif word == "ENV":
            assert re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*=("([^"\\$]|\\.)*"|\S+)( .*)?', rest)
        else:
            assert word in {"", "#", "ARG", "FROM", "COPY", "WORKDIR", "USER", "ENTRYPOINT"}
    assert not re.search(r"[\r\v\f\x85\u2028\u2029]", text)
