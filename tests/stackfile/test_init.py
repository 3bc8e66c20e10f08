"""Small real folders, and the file that is written for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless import stackfile
from gapless.model.stack import Stack
from gapless.stackfile import init

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/healthz')\ndef ok(): ...\n"


def made(root: Path, files: dict[str, str]) -> Stack:
    """The stack of the file that is written for such a folder."""
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return stackfile.parse(init.text(init.survey(root), "My App")).stack


def test_fastapi(tmp_path: Path) -> None:
    stack = made(tmp_path, {"main.py": FASTAPI, "requirements.txt": "fastapi\nuvicorn\n"})
    assert stack.name == "my-app"
    assert stack.setup == (("pip", "install", "-r", "requirements.txt"),)
    web = stack.services["web"]
    assert web.run == ("uvicorn", "--uds", "${socket}", "--timeout-keep-alive", "3600", "main:app")
    assert web.ready is not None
    assert web.ready.path == "/healthz"
    assert list(stack.services) == ["web"]
    assert not stack.data


def test_what_wraps_the_application_is_served(tmp_path: Path) -> None:
    files = {
        "chat/__init__.py": "",
        "chat/main.py": "import socketio\nfrom fastapi import FastAPI\napi = FastAPI()\n"
        "sio = socketio.AsyncServer()\napp = socketio.ASGIApp(sio, api)\n",
        "chat/tasks.py": "from celery import Celery\n"
        "celery = Celery('chat')\ncelery.conf.beat_schedule = {}\n",
        "tests/test_app.py": FASTAPI,
        "alembic.ini": "",
        "pyproject.toml": '[project]\nname = "chat"\ndependencies = [\n "uvicorn",\n '
        '"psycopg[binary]>=3",\n "celery[redis]",\n]\n',
        "uv.lock": "",
        "chat/settings.py": "import os\nKEY = os.environ['SESSION_KEY']\n"
        "DB = os.environ['DATABASE_URL']\nBROKER = os.getenv('CELERY_BROKER_URL')\n",
        "Dockerfile": "FROM x",
    }
    stack = made(tmp_path, files)
    assert stack.services["web"].run[-1] == "chat.main:app"
    assert stack.services["web"].sticky == "cookie"
    assert stack.services["worker"].run[:4] == ("celery", "-A", "chat.tasks", "worker")
    assert stack.services["beat"].singleton
    assert stack.jobs["migrate"].run == ("alembic", "upgrade", "head")
    assert stack.jobs["migrate"].when == "release"
    assert stack.setup == (("uv", "sync", "--frozen", "--no-dev", "--no-install-project"),)
    assert {name: store.type for name, store in stack.data.items()} == {
        "db": "postgres",
        "cache": "redis",
        "state": "files",
    }
    assert stack.secrets == ("SESSION_KEY",)
    assert stack.env == {
        "DATABASE_URL": "${db.url}",
        "CELERY_BROKER_URL": "${cache.url}",
        "SESSION_KEY": "${secret.SESSION_KEY}",
    }
    assert "# Dockerfile is here" in init.text(init.survey(tmp_path), "x")


def test_starlette_in_a_src_layout(tmp_path: Path) -> None:
    stack = made(
        tmp_path,
        {
            "src/site/__init__.py": "",
            "src/site/web.py": "from starlette.applications import Starlette\napp = Starlette()\n",
            "pyproject.toml": "[project]\nname = 'site'\n",
        },
    )
    assert stack.services["web"].run[:3] == ("uvicorn", "--app-dir", "src")
    assert stack.services["web"].run[-1] == "site.web:app"
    assert stack.setup == (("pip", "install", "."),)


def test_django(tmp_path: Path) -> None:
    stack = made(
        tmp_path,
        {
            "manage.py": "",
            "shop/__init__.py": "",
            "shop/wsgi.py": "application = 1",
            "shop/asgi.py": "application = 1",
            "requirements.txt": "Django>=5\npsycopg2-binary\ngunicorn\n",
        },
    )
    run = stack.services["web"].run
    assert run[:3] == ("gunicorn", "--bind", "unix:${socket}")
    assert run[-1] == "shop.wsgi:application"
    assert stack.jobs["migrate"].run == ("python", "manage.py", "migrate", "--noinput")
    assert stack.data["db"].type == "postgres"


def test_a_flask_factory(tmp_path: Path) -> None:
    code = "from flask import Flask\ndef create_app():\n    return Flask(__name__)\n"
    stack = made(tmp_path, {"shop/__init__.py": code, "requirements.txt": "flask\n"})
    assert stack.services["web"].run[-1] == "shop:create_app()"
    assert "gunicorn is not among your requirements" in init.text(init.survey(tmp_path), "x")


@pytest.mark.parametrize(
    ("command", "run"),
    [
        ("gunicorn shop.wsgi", "gunicorn shop.wsgi --bind unix:${socket} --keep-alive 3600"),
        (
            "gunicorn -b 0.0.0.0:$PORT --keep-alive 9 shop.wsgi",
            "gunicorn --keep-alive 9 shop.wsgi --bind unix:${socket}",
        ),
        (
            "uvicorn a:b --host 0.0.0.0 --port ${PORT:-8000}",
            "uvicorn a:b --uds ${socket} --timeout-keep-alive 3600",
        ),
        ("node server.js --listen 0.0.0.0:$PORT", "node server.js --listen ${host}:${port}"),
        ("node server.js --host 0.0.0.0 -p $PORT", "node server.js --host ${host} -p ${port}"),
        ("app --level $LEVEL -p ${PORT}", "app --level ${env.LEVEL} -p ${port}"),
        ("app --level ${LEVEL:-info}", "app --level ${env.LEVEL:-info}"),
    ],
)
def test_a_procfile(tmp_path: Path, command: str, run: str) -> None:
    stack = made(tmp_path, {"Procfile": f"# c\nweb: {command}\n\n", "main.py": FASTAPI})
    assert " ".join(stack.services["web"].run) == run


def test_a_whole_procfile(tmp_path: Path) -> None:
    lines = (
        "web: gunicorn shop.wsgi\nadmin_panel: node x -p $PORT\nworker: celery -A t worker\n"
        "clock: celery -A t beat\nrelease: python manage.py migrate\nodd: cd x && ./y > z\n"
    )
    stack = made(tmp_path, {"Procfile": lines, "manage.py": ""})
    assert list(stack.services) == ["web", "admin-panel", "worker", "clock"]
    assert stack.services["admin-panel"].route is None
    assert stack.services["clock"].singleton
    assert {name: job.when for name, job in stack.jobs.items()} == {"release": "release"}
    written = init.text(init.survey(tmp_path), "x")
    assert "# Procfile: odd needs a shell, and none reads run: cd x && ./y > z" in written


def test_an_empty_folder_and_odd_names(tmp_path: Path) -> None:
    assert made(tmp_path, {}).services["web"].http
    assert init.stack_name("") == "app"
    assert init.stack_name("2024 Größe!") == "gr-e"
    assert init.stack_name("x" * 99) == "x" * 32


def test_what_cannot_be_read_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_bytes(b"\xff\xfe = FastAPI(")
    (tmp_path / "deep.py").write_text("x = " + "(" * 5000)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pyproject.toml").mkdir()
    assert made(tmp_path, {}).services["web"].http


TEXTS = st.text(max_size=60)


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["app.py", "a b/x'.py", "requirements.txt", "pyproject.toml", "uv.lock"]),
        TEXTS | st.just(FASTAPI),
    ),
    st.lists(st.tuples(st.text("abAB_-9", min_size=1, max_size=40), TEXTS), max_size=4),
    TEXTS,
)
def test_whatever_is_found_the_file_is_valid(
    files: dict[str, str], processes: list[tuple[str, str]], name: str
) -> None:
    procfile = "\n".join(f"{label}: {command}" for label, command in processes)
    stackfile.parse(init.text({**files, "Procfile": procfile}, name))
