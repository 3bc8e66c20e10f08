"""What the file takes for granted and the machine may not have: folders, files, values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path as File

from gapless.errors import Problem
from gapless.model.private import Private
from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.model.tls import GivenCertificate
from gapless.stackfile import checks, mentions, packed
from gapless.stackfile.loader import Loaded
from gapless.stackfile.overlays import Layered
from gapless.stackfile.places import Path
from gapless.stackfile.report import Report


def problems(
    loaded: Loaded,
    folder: File,
    *,
    secrets: Collection[str],
    environ: Collection[str],
    containers: bool = False,
) -> tuple[Problem, ...]:
    """Everything that a deploy would stumble over.

    ``folder``: where the file is. ``secrets``: names with a value in the store. ``environ``: names
    in the environment, which count for secrets too. ``containers``: whether the target has them.
    """
    report = Report(Layered(loaded.tree, dict(loaded.origins)), loaded.text, loaded.file)
    _folders(loaded, folder, report)
    for path in () if containers else checks.packed(loaded.stack):
        report.add(path, f"{checks.CONTAINERS}; {checks.WITHOUT}", key=False)
    if containers:
        for path, fault in packed.problems(loaded.stack):
            report.add(path, fault, key=False)
        _recipes(loaded.stack, folder, report)
    for name in checks.missing_secrets(loaded.stack, {*secrets, *environ}):
        report.add(
            _asked(loaded.stack, name),
            f"{name} has no value: gapless secret set {name}, or an environment variable",
        )
    for name, path in mentions.environment_names(loaded.tree).items():
        if name not in environ:
            report.add(
                path, f"${{env.{name}}}: the environment has no {name}, and there is no default"
            )
    return report.problems


def _asked(stack: Stack, secret: str) -> Path:
    """Where the file asks for it."""
    if secret in stack.secrets:
        return ("secrets", stack.secrets.index(secret))
    places: dict[Path, Private | None] = {
        ("edge", "private", path): table for path, table in stack.edge.private.items()
    }
    places |= {("service", name, "private"): s.private for name, s in stack.services.items()}
    found = [at for at, one in places.items() if one and secret in one.login.values()]
    found += [
        ("registries", host) for host, one in stack.registries.items() if one.password == secret
    ]
    return found[0]


def _folders(loaded: Loaded, folder: File, report: Report) -> None:
    stack = loaded.stack
    source = folder / stack.source
    if not _is_dir(source):
        report.add(("source",), f"{source} is not a directory")
        return
    owners: dict[Path, Service | Job] = {("service", name): s for name, s in stack.services.items()}
    owners |= {("job", name): job for name, job in stack.jobs.items()}
    for owner, table in owners.items():
        own = table.derived or not table.packed
        if own and table.cwd is not None and not _is_dir(source / table.cwd):
            report.add((*owner, "cwd"), f"{source / table.cwd} is not a directory")
    page = stack.edge.maintenance_page
    if page is not None and not _is_file(source / page):
        report.add(("edge", "maintenance_page"), f"{source / page} is not a file")
    files = {("edge", "acme", "ca"): stack.edge.acme.ca if stack.tls == "auto" else None}
    if isinstance(stack.tls, GivenCertificate):
        files |= {("edge", "tls", key): getattr(stack.tls, key) for key in ("cert", "key")}
    for path, file in files.items():
        if file is not None and not _is_file(folder / file):
            report.add(path, f"{folder / file} is not a file")
    binary = stack.edge.binary
    if binary is not None and "/" in binary and not _is_file(folder / binary):
        report.add(("edge", "binary"), f"{folder / binary} is not a file")


def _recipes(stack: Stack, folder: File, report: Report) -> None:
    """The Dockerfiles of what is built."""
    builds = {("service", name, "build"): s.build for name, s in stack.services.items()}
    builds |= {("job", name, "build"): job.build for name, job in stack.jobs.items()}
    for path, build in builds.items():
        if build is not None and build.base is None:
            recipe = folder / stack.source / build.context / (build.dockerfile or "Dockerfile")
            if not _is_file(recipe):
                without = "say { base = IMAGE } to do without"
                report.add(path, f"{recipe} is not a file: {without}")


def _is_dir(path: File) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_file(path: File) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
