"""A service's Dockerfile for whoever builds and runs it without gapless. Pure.

The context is the source folder. As in ``recipe`` no word of the file becomes an instruction:
commands and paths are JSON lists, values of variables are quoted.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gapless import errors
from gapless.engine.releases import environments, recipe, select
from gapless.model.service import Probe, Service
from gapless.model.stack import Stack
from gapless.stackfile import references
from gapless.stackfile.references import Reference
from gapless.targets.keys import Line

BASE = "python:3.12-slim"
"""What it begins with, where the service does not say."""
PORT = 8000
"""Where it listens that asks for ${port}: each container has a network of its own."""
_SIMPLE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./-]*")
"""Paths that COPY takes as they are: no wildcard, no variable."""
_ABROAD = frozenset(
    {"-g", "--global", "--user", "-t", "--target", "--prefix", "--root", "--system"}
)
_COMPILE = (
    "import compileall, py_compile; [compileall.compile_dir(folder, quiet=2, force=True, "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH) for folder in {folders}]"
)
"""Byte code that says nothing of when it was made: two builds are the same files."""
_ASK = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=float(sys.argv[2])).close()"


@dataclass(frozen=True, slots=True)
class _Told:
    """Variables: ``fixed`` in the image, ``asked`` by name of whoever runs it, and why."""

    fixed: Mapping[str, str]
    asked: Mapping[str, str]


def inputs(setup: environments.Commands, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The files that setup reads, where it is sure that they are all of it; else none."""
    sure = bool(setup) and recipe.apart(setup, texts) and all(map(_SIMPLE.fullmatch, texts))
    return tuple(sorted(texts)) if sure else ()


def report(stack: Stack, name: str) -> list[Line]:
    """What the image keeps of a service. Raises UsageError: there is no such one to make."""
    service = _service(stack, name)
    place = f"service.{name}"
    lines = [Line(f"{place}.run", "kept", "CMD, without a shell")]
    lines += [
        Line(str(piece), "refused", "only known when it runs: say it in env instead")
        for word in service.run
        for piece in _pieces(word)
        if not _plain(piece, service)
    ]
    if service.cwd is not None and not _SIMPLE.fullmatch(service.cwd):
        lines.append(Line(f"{place}.cwd", "refused", "has characters that a Dockerfile has not"))
    for variable, why in _environment(stack, service).asked.items():
        lines.append(Line(variable, "emulated", f"{why}: docker run -e {variable}=…"))
    if service.ready is not None and _health(stack, service) is None:
        lines.append(Line(f"{place}.ready", "refused", "without Python in it nothing would ask"))
    elif service.ready is not None:
        lines.append(Line(f"{place}.ready", "kept", "HEALTHCHECK"))
    if _python(stack):
        lines.append(Line("gapless.app", "emulated", "name gapless in what setup installs"))
    lines.append(
        Line("replicas, routes, limits, deploys", "emulated", "the affair of whoever runs it")
    )
    return lines


def dockerfile(stack: Stack, name: str, first: Sequence[str]) -> str:
    """``first``: paths of what setup reads, copied before the source (see ``inputs``).

    Raises UsageError: there is no such service to make.
    """
    service = _service(stack, name)
    base = service.build.base if service.build is not None else None
    made = list(_head(stack, name, base or BASE))
    if _apart(stack.setup):
        # Caches and what is left over of setup stay behind in the first stage.
        made += ["FROM ${BASE} AS made", *_made(stack, first), "", "FROM ${BASE}", _env(stack)]
        made += [f"COPY --from=made {folder} {folder}" for folder in _folders(stack)]
    else:
        made += ["FROM ${BASE}", *_made(stack, first)]
    return "\n".join([*made, *_runs(stack, service)]) + "\n"


def ignored(rules: Sequence[str], include: Sequence[str]) -> str:
    """The ``.dockerignore`` beside it: what no release has either.

    ``rules``: lines of the source folder's own ``.gitignore``.
    """
    never = sorted(f"**/{name}" for name in select.NEVER)
    found = [
        *never,
        ".dockerignore",
        "Dockerfile*",
        *(one for rule in rules if (one := _rule(rule))),
    ]
    return "\n".join([*found, *(f"!{glob.lstrip('/')}" for glob in include)]) + "\n"


def _rule(rule: str) -> str:
    """A line of a .gitignore: a name without a folder is meant at any depth."""
    rule = rule.rstrip()
    if not rule or rule.startswith("#"):
        return ""
    mark, rule = ("!", rule[1:]) if rule.startswith("!") else ("", rule)
    rooted = "/" in rule.rstrip("/")
    return f"{mark}{rule.strip('/')}" if rooted else f"{mark}**/{rule.rstrip('/')}"


def _service(stack: Stack, name: str) -> Service:
    service = stack.services.get(name)
    if service is None:
        have = ", ".join(stack.services)
        raise errors.UsageError(f'no service is named "{name}" (have: {have})')
    if service.packed and not service.derived:
        what = "an image" if service.image is not None else "a Dockerfile"
        raise errors.UsageError(f"{name}: has {what} of its own already")
    return service


def _head(stack: Stack, name: str, base: str) -> Iterator[str]:
    yield f"# {name} of {stack.id}, without gapless, in the source folder:"
    yield f"#   docker build -f Dockerfile.{name} -t {stack.name}-{name} ."
    yield "# BASE by its content (python@sha256:…) makes two builds alike."
    yield f"ARG BASE={base}"
    yield ""


def _apart(setup: environments.Commands) -> bool:
    """Whether all that setup makes is known to lie in the environment or the source folder."""
    words = {word.partition("=")[0] for command in setup for word in command}
    return bool(setup) and environments.knows(setup) and not words & _ABROAD


def _python(stack: Stack) -> bool:
    return bool(stack.setup) and environments.may_be_python(stack.setup)


def _folders(stack: Stack) -> list[str]:
    return [recipe.VENV, recipe.HOME] if _python(stack) else [recipe.HOME]


def _made(stack: Stack, first: Sequence[str]) -> Iterator[str]:
    """Source and setup, what changes most last."""
    python = _python(stack)
    yield _env(stack)
    if python:
        bare = [] if environments.wants_pip(stack.setup) else ["--without-pip"]
        yield recipe.run(["python3", "-m", "venv", *bare, recipe.VENV])
    yield f"WORKDIR {recipe.HOME}"
    for path in first:
        yield f"COPY {json.dumps([path, f'{recipe.HOME}/{path}'])}"
    if not first:
        yield f"COPY . {recipe.HOME}/"
    for command in stack.setup:
        yield recipe.run(command)
    if first:
        if python:
            yield _compiled(recipe.VENV)
        yield f"COPY . {recipe.HOME}/"
    if python:
        yield _compiled(*(recipe.HOME,) if first else _folders(stack))


def _compiled(*folders: str) -> str:
    text = _COMPILE.format(folders=list(folders))
    return recipe.run([f"{recipe.VENV}/bin/python", "-I", "-c", text])


def _env(stack: Stack) -> str:
    return f"ENV {recipe.env(python=_python(stack))} PIP_NO_COMPILE=1"


def _runs(stack: Stack, service: Service) -> Iterator[str]:
    """What is said of the program, which costs no layer of files."""
    fixed = _environment(stack, service).fixed
    yield f"WORKDIR {posixpath.normpath(posixpath.join(recipe.HOME, _folder(service)))}"
    for variable, value in fixed.items():
        yield f"ENV {variable}={_quoted(value)}"
    if service.http:
        yield f"EXPOSE {service.port or PORT}"
    if (check := _health(stack, service)) is not None:
        yield check
    yield f"USER {recipe.USER}"
    yield "ENTRYPOINT []"
    yield f"CMD {json.dumps([_filled(word, service) for word in service.run])}"


def _folder(service: Service) -> str:
    plain = service.cwd or "."
    return plain if _SIMPLE.fullmatch(plain) else "."


def _health(stack: Stack, service: Service) -> str | None:
    probe = service.ready
    if probe is None:
        return None
    words = _asking(stack, service, probe)
    if words is None:
        return None
    times = {"interval": probe.every, "timeout": probe.timeout, "start-period": service.start}
    options = " ".join(f"--{key}={round(value * 1000)}ms" for key, value in times.items())
    return f"HEALTHCHECK {options} --retries={probe.after} CMD {json.dumps(words)}"


def _asking(stack: Stack, service: Service, probe: Probe) -> list[str] | None:
    if probe.path is None:
        return [_filled(word, service) for word in probe.command or ()]
    if not _python(stack) and service.build is not None:
        return None  # who knows what is in that base
    python = f"{recipe.VENV}/bin/python" if _python(stack) else "python3"
    url = f"http://127.0.0.1:{service.port or PORT}{probe.path}"
    return [python, "-I", "-c", _ASK, url, f"{probe.timeout:g}"]


def _environment(stack: Stack, service: Service) -> _Told:
    fixed = {"HOST": "0.0.0.0", "PORT": str(service.port or PORT)} if service.http else {}  # noqa: S104
    seen = stack.secrets if service.secrets is None else service.secrets
    asked = dict.fromkeys(seen, "a secret")
    for name, value in {**stack.env, **service.env}.items():
        fixed.pop(name, None)
        asked.pop(name, None)
        open_ = [piece for piece in _pieces(value) if not _plain(piece, service)]
        if open_ or not value.isprintable():
            asked[name] = f"is {', '.join(map(str, open_))}" if open_ else "is more than plain text"
        else:
            fixed[name] = _filled(value, service)
    return _Told(fixed, asked)


def _pieces(text: str) -> list[Reference]:
    return [piece for piece in references.scan(text) if isinstance(piece, Reference)]


def _plain(piece: Reference, service: Service) -> bool:
    """Whether it is the same wherever the image runs."""
    if piece.kind == "env":
        return piece.default is not None
    return piece.kind == "own" and piece.name in ("host", "port") and service.http


def _filled(text: str, service: Service) -> str:
    """A text with what is known of its placeholders; others stay as they are."""
    own = {"host": "0.0.0.0", "port": str(service.port or PORT)}  # noqa: S104
    made, at = "", 0
    for found in references.positions(text):
        made += text[at : found.start()]
        at = found.end()
        piece = next(iter(_pieces(found[0])), None)
        if piece is None:
            made += "${"
        elif not _plain(piece, service):
            made += found[0]
        else:
            made += own[piece.name] if piece.kind == "own" else piece.default or ""
    return made + text[at:]


def _quoted(value: str) -> str:
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'
