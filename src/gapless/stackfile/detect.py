"""What a folder holds: applications, workers, migrations, how it is installed. Pure.

A folder is a mapping of relative paths to texts; of files that matter only by name the text is
empty. Python is read as syntax, never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

Folder = Mapping[str, str]
HEALTH = ("/health/ready", "/readyz", "/ready", "/healthz", "/health", "/ping", "/up")
"""Paths that usually tell readiness, best first."""
_ASGI = frozenset({"FastAPI", "Starlette", "Quart", "Litestar", "Sanic", "ASGIApp"})
_WSGI = frozenset({"Flask", "WSGIApp"})
_NAMES = ("main", "app", "asgi", "wsgi", "server", "web", "api")
_FACTORIES = ("create_app", "make_app", "get_app", "build_app")
_SKIP = re.compile(r"(^|/)(tests?|testing|docs?|examples?|migrations|conftest\.py|test_[^/]*)(/|$)")
_SECRET = re.compile(
    r"""(?:environ\[|environ\.get\(|getenv\(|env\()\s*["']"""
    r"""([A-Z][A-Z0-9_]*(?:SECRET|TOKEN|PASSWORD|_KEY)[A-Z0-9_]*|SECRET_KEY)["']"""
)


@dataclass(frozen=True, slots=True)
class App:
    """An application object: ``module:name`` or a factory, and what kind of server it needs."""

    module: str
    name: str
    asgi: bool
    factory: bool = False
    folder: str = ""
    """Folder that must be on the import path, relative; "" for the root."""
    framework: str = ""

    @property
    def target(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was recognised; every field may be empty."""

    app: App | None = None
    celery: str | None = None
    """Module of the Celery application."""
    beat: bool = False
    procfile: tuple[tuple[str, str], ...] = ()
    setup: tuple[str, ...] = ()
    migrate: str | None = None
    postgres: bool = False
    redis: bool = False
    sticky: bool = False
    ready: str | None = None
    secrets: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    """Names under which the code asks for the URLs of its stores."""
    packages: frozenset[str] = frozenset()
    noticed: tuple[str, ...] = field(default=())
    """Files that say something, but not to this version."""


def look(folder: Folder) -> Findings:
    """Everything that can be told from names and texts."""
    packages = _packages(folder)
    modules = {path: tree for path, text in _sources(folder) if (tree := _parse(text))}
    app = _django(folder, packages) or _application(modules)
    celery = _celery(modules)
    code = "\n".join(text for _, text in _sources(folder))
    return Findings(
        app=app,
        celery=celery,
        beat=celery is not None
        and (
            "beat_schedule" in code or "BEAT_SCHEDULE" in code or "django-celery-beat" in packages
        ),
        procfile=_procfile(folder.get("Procfile", "")),
        setup=_setup(folder),
        migrate=_migrate(folder, packages, app),
        postgres=bool(packages & {"psycopg", "psycopg2", "psycopg2-binary", "asyncpg", "pg8000"}),
        redis=bool(packages & {"redis", "valkey", "django-redis", "rq", "arq"})
        or "celery[redis]" in packages,
        sticky=bool(packages & {"python-socketio", "flask-socketio"}) or "import socketio" in code,
        ready=next((path for path in HEALTH if f'"{path}"' in code or f"'{path}'" in code), None),
        secrets=tuple(dict.fromkeys(_SECRET.findall(code))),
        variables=tuple(
            name
            for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "BROKER_URL")
            if re.search(rf"\b{name}\b", code)
        ),
        packages=packages,
        noticed=tuple(
            name
            for name in ("Dockerfile", "compose.yaml", "docker-compose.yml", "package.json")
            if name in folder
        ),
    )


def _sources(folder: Folder) -> Iterator[tuple[str, str]]:
    for path in sorted(folder, key=lambda path: (path.count("/"), path)):
        importable = path.endswith(".py") and all(
            part.isidentifier() for part in path.removesuffix(".py").split("/")
        )
        if importable and not _SKIP.search(path):
            yield path, folder[path]


def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _application(modules: Mapping[str, ast.Module]) -> App | None:
    found: list[tuple[tuple[int, int, int], App]] = []
    for path, tree in modules.items():
        stem = PurePosixPath(path).stem
        rank = _NAMES.index(stem) if stem in _NAMES else len(_NAMES)
        frameworks = _imported(tree) & (_ASGI | _WSGI)
        for node in tree.body:
            for name, call in _calls(node):
                if call in _ASGI | _WSGI:
                    app = _app(path, name, call, factory=False)
                    # What wraps the application (Socket.IO) is what the server must be given.
                    found.append(((0 if call.endswith("App") else 1, path.count("/"), rank), app))
            if isinstance(node, ast.FunctionDef) and node.name in _FACTORIES and frameworks:
                app = _app(path, node.name, sorted(frameworks)[0], factory=True)
                found.append(((2, path.count("/"), rank), app))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _app(path: str, name: str, framework: str, *, factory: bool) -> App:
    folder, module = _module(path)
    return App(module, name, framework in _ASGI, factory, folder, framework)


def _module(path: str) -> tuple[str, str]:
    """(folder on the import path, dotted module) of a source file."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    folder = ""
    if len(parts) > 1 and parts[0] == "src":
        folder = parts.pop(0)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return folder, ".".join(parts)


def _calls(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """(variable, called name) of ``variable = Called(…)`` at the top level of a module."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Call):
        return
    called = value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, name


def _imported(tree: ast.Module) -> set[str]:
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _django(folder: Folder, packages: frozenset[str]) -> App | None:
    if "manage.py" not in folder:
        return None
    asgi = bool(packages & {"channels", "daphne", "uvicorn"})
    for wanted in ("asgi.py", "wsgi.py") if asgi else ("wsgi.py", "asgi.py"):
        for path, text in _sources(folder):
            if PurePosixPath(path).name == wanted and "application" in text:
                root, module = _module(path)
                return App(module, "application", wanted == "asgi.py", False, root, "Django")
    return None


def _celery(modules: Mapping[str, ast.Module]) -> str | None:
    for path, tree in modules.items():
        for node in tree.body:
            if any(call == "Celery" for _, call in _calls(node)):
                return _module(path)[1]
    return None


def _procfile(text: str) -> tuple[tuple[str, str], ...]:
    found = (re.match(r"([A-Za-z0-9_-]+):\s*(\S.*)", line) for line in text.splitlines())
    return tuple((match[1], match[2].strip()) for match in found if match)


def _packages(folder: Folder) -> frozenset[str]:
    """Names of required packages, lower case; extras that matter also as ``name[extra]``."""
    text = "\n".join(
        folder[path]
        for path in folder
        if path == "pyproject.toml" or re.fullmatch(r"(requirements[/-])?[a-z-]*\.txt", path)
    )
    names: set[str] = set()
    for name, extras in re.findall(
        r"""^[ \t"',\[]*([A-Za-z][A-Za-z0-9._-]*)[ \t]*(\[[a-z,_ -]+\])?""", text, re.MULTILINE
    ):
        names.add(name.lower().replace("_", "-"))
        names.update(f"{name.lower()}[{extra.strip()}]" for extra in extras.strip("[]").split(","))
    for inline in re.findall(r"dependencies\s*=\s*\[(.*?)\]\s*$", text, re.DOTALL | re.MULTILINE):
        for name in re.findall(r"""["']([A-Za-z][A-Za-z0-9._-]*)""", inline):
            names.add(name.lower().replace("_", "-"))
    return frozenset(names)


def _setup(folder: Folder) -> tuple[str, ...]:
    if "uv.lock" in folder and "pyproject.toml" in folder:
        # The code runs from the release itself; a package below src/ must be installed to be found.
        layout = any(path.startswith("src/") for path in folder)
        how = "--no-editable" if layout else "--no-install-project"
        return (f"uv sync --frozen --no-dev {how}",)
    for path in ("requirements.txt", "requirements/production.txt", "requirements/base.txt"):
        if path in folder:
            return (f"pip install -r {path}",)
    if "[project]" in folder.get("pyproject.toml", "") or "setup.py" in folder:
        return ("pip install .",)
    return ()


def _migrate(folder: Folder, packages: frozenset[str], app: App | None) -> str | None:
    if "manage.py" in folder:
        return "python manage.py migrate --noinput"
    if "alembic.ini" in folder:
        return "alembic upgrade head"
    if "flask-migrate" in packages and app is not None:
        return f"flask --app {app.module} db upgrade"
    return None
