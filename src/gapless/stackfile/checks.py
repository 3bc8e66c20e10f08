"""What only the whole can tell: names, routes, secrets, drills. And what is allowed but unwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from gapless.errors import Problem
from gapless.model import front
from gapless.model.service import Service
from gapless.model.stack import RESERVED, Stack
from gapless.stackfile import mentions, private, references, scaling, securing, unknown
from gapless.stackfile.places import Path
from gapless.stackfile.report import NAMED, Report
from gapless.stackfile.source import Tree

KEEP_ALIVE = {"uvicorn": "--timeout-keep-alive", "hypercorn": "--keep-alive"}
"""Servers that drop idle connections after seconds, and the option that says otherwise."""
_SHELL = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&", "2>&1"})


def check(report: Report) -> None:
    """Add every fault that is of the tree as a whole. The tree may have other faults."""
    tree = report.layered.tree
    _names(tree, report)
    _characters(tree, report)
    _secrets(tree, report)
    _routes(tree, report)
    _shared(tree, report)
    _services(tree, report)
    scaling.check(report)
    securing.check(report)
    private.check(report)
    _cycles(tree, report)


def _names(tree: Tree, report: Report) -> None:
    seen: dict[str, str] = {}
    for kind in NAMED:
        group = tree.get(kind)
        for name in group if isinstance(group, dict) else ():
            if name in RESERVED:
                report.add((kind, name), f'"{name}" is a reserved name')
            elif name in seen:
                report.add((kind, name), f'"{name}" is the name of a {seen[name]} already')
            seen.setdefault(name, kind)
    # A job is not called, nor is a folder: those names are free.
    folders = {n for n, table in mentions.tables(tree, "data") if table.get("type") == "files"}
    for name, table in mentions.tables(tree, "service"):
        aliases = table.get("aliases")
        for at, alias in enumerate(aliases if isinstance(aliases, list) else ()):
            if isinstance(alias, str) and alias not in folders and seen.get(alias, "job") != "job":
                fault = f'"{alias}" is the name of a {seen[alias]} already'
                report.add(("service", name, "aliases", at), fault)
    if not tree.get("service"):
        report.add((), "needs at least one [service.NAME]")


def _characters(tree: Tree, report: Report) -> None:
    for path, value in _leaves((), tree):
        if isinstance(value, str) and "\0" in value:
            report.add(path, "must not contain a NUL character")
        elif isinstance(value, float) and not math.isfinite(value):
            report.add(path, "must be a finite number")
        elif any(isinstance(key, str) and "\0" in key for key in path):
            report.add(path, "must not contain a NUL character")


def _secrets(tree: Tree, report: Report) -> None:
    names = mentions.names(tree)
    twice = {name for name in names.secrets if names.secrets.count(name) > 1}
    for name in sorted(twice):
        where = _last(tree.get("secrets"), name)
        report.add(("secrets", where), f'"{name}" is listed twice')
    common = mentions.variables(tree.get("env"))
    for kind in ("service", "job"):
        for name, table in mentions.tables(tree, kind):
            own = table.get("secrets")
            if not isinstance(own, list):
                continue
            for position, secret in enumerate(own):
                if isinstance(secret, str) and secret not in names.secrets:
                    meant = unknown.closest(secret, names.secrets)
                    report.add(
                        (kind, name, "secrets", position),
                        f'"{secret}" is not in the list of secrets of the stack'
                        + (f'; did you mean "{meant}"?' if meant else ""),
                    )
            _narrowed(report, (kind, name), own, common, mentions.variables(table.get("env")))


def _narrowed(
    report: Report, owner: Path, seen: list[Any], common: dict[str, str], own: dict[str, str]
) -> None:
    for key, text in common.items():
        if key in own:
            continue
        for reference in references.of((text,)):
            if reference.kind == "secret" and reference.name not in seen:
                report.add(
                    (*owner, "secrets"),
                    f'leaves out "{reference.name}", which [env] {key} gives to every service:'
                    f" move {key} into the services that need it",
                )


def _routes(tree: Tree, report: Report) -> None:
    http = [name for name, table in mentions.tables(tree, "service") if mentions.speaks_http(table)]
    taken: dict[tuple[str | None, str], str] = {}
    for name in http:
        table = tree["service"][name]
        route = table.get("route")
        if route is False:
            continue
        if route is None and len(http) > 1:
            report.add(
                ("service", name),
                f"{len(http)} services speak HTTP: this one needs a route, "
                'say route = "/api", or route = false to keep it private',
                key=False,
            )
            continue
        if (place := _place(route)) is None:
            continue
        if place in taken:
            report.add(
                ("service", name, "route") if route is not None else ("service", name),
                f"{place[0] or ''}{place[1]} is published by {taken[place]} already",
            )
        taken.setdefault(place, name)
    for path in _published(tree):
        if (None, path) in taken:
            report.add(
                ("edge", "static", path), f"{path} is published by {taken[None, path]} already"
            )
    _drills(tree, report, taken)


def _shared(tree: Tree, report: Report) -> None:
    """Who shares an address is told apart by host name, so there must be one, and a plain one."""
    edge = tree.get("edge")
    if not isinstance(edge, dict) or edge.get("shared") is not True:
        return
    names = []
    for name, table in mentions.tables(tree, "service"):
        route = table.get("route")
        if isinstance(route, dict) and isinstance(host := route.get("host"), str):
            names.append(host)
            if not front.is_host(host):
                report.add(
                    ("service", name, "route", "host"),
                    f'"{host}" is no name that a shared address can be told apart by: '
                    'say "example.com" or "*.example.com"',
                )
    if edge.get("proxy_protocol") is True:
        report.add(
            ("edge", "proxy_protocol"),
            "on a shared address the front hears the clients, and it expects no PROXY protocol",
        )
    for source in edge.get("redirects") or ():
        if not source.startswith("/") and not front.is_host(source):
            report.add(
                ("edge", "redirects", source),
                f'"{source}" is no name that a shared address can be told apart by',
            )
    if not names and not tree.get("domains"):
        report.add(
            ("edge", "shared"),
            "the stacks on a shared address are told apart by host name: say domains, or give a "
            'route one, route = { host = "example.com", path = "/" }',
        )


def _published(tree: Tree) -> tuple[str, ...]:
    """Paths at which folders are published."""
    edge = tree.get("edge")
    table = edge.get("static") if isinstance(edge, dict) else None
    return tuple(table) if isinstance(table, dict) else ()


def _place(route: Any) -> tuple[str | None, str] | None:
    """(host, path without a final slash) of a route; None when it has faults."""
    path, host = route if route is not None else "/", None
    if isinstance(route, dict):
        path, host = route.get("path", "/"), route.get("host")
    if not isinstance(path, str) or not isinstance(host, str | None):
        return None
    return host, path.rstrip("/") or "/"


def _drills(tree: Tree, report: Report, taken: dict[tuple[str | None, str], str]) -> None:
    table = tree.get("drill")
    if not isinstance(table, dict):
        return
    host = table.get("host")
    if isinstance(host, str) and not any(_serves(known, host) for known, _ in taken):
        have = ", ".join(sorted({known for known, _ in taken if known})) or "none"
        report.add(("drill", "host"), f'no route has the host "{host}" (have: {have})')
        return
    for path, value in _leaves(("drill",), table):
        if path[1] not in ("get", "post", "slow", "socketio") or not isinstance(value, str):
            continue
        routed = any(
            _below(value, known) and (host_ is None or _serves(host_, host))
            for host_, known in taken
        ) or any(_below(value, path_) for path_ in _published(tree))
        if value.startswith("/") and not routed:
            have = ", ".join(f"{host_ or ''}{known}" for host_, known in taken) or "none"
            report.add(path, f"{value} is not published by any service (routes: {have})")


def _serves(known: str | None, host: Any) -> bool:
    if known is None or known == host:
        return True
    return known.startswith("*.") and isinstance(host, str) and host.endswith(known[1:])


def _below(path: str, prefix: str) -> bool:
    bare = path.partition("?")[0]
    return prefix == "/" or bare == prefix or bare.startswith(f"{prefix}/")


def _elsewhere(table: Tree) -> bool:
    """Whether its files are an image's own."""
    build = table.get("build")
    derived = isinstance(build, dict) and "base" in build
    return "image" in table or ("build" in table and not derived)


def _services(tree: Tree, report: Report) -> None:
    for kind in ("service", "job"):
        for name, table in mentions.tables(tree, kind):
            owner: Path = (kind, name)
            cwd = table.get("cwd")
            packed = _elsewhere(table)  # then it is a place in the container
            if (
                isinstance(cwd, str)
                and not packed
                and (cwd.startswith("/") or ".." in cwd.split("/"))
            ):
                report.add((*owner, "cwd"), "must lie within the source folder")
            if kind == "job":
                continue
            if not mentions.speaks_http(table):
                for key in ("route", "timeout"):
                    if key in table:
                        report.add(
                            (*owner, key),
                            f"{key} needs an HTTP service (one whose run uses ${{socket}} "
                            "or ${port})",
                            key=False,
                        )
            if table.get("singleton") is True and "surge" in table:
                report.add(
                    (*owner, "surge"), "singleton and surge contradict each other", key=False
                )


def _cycles(tree: Tree, report: Report) -> None:
    edges = _edges(tree)
    done: set[str] = set()
    for start in edges:
        trail = _cycle(start, edges, done)
        if trail:
            report.add(
                ("service", trail[0]),
                f"refers to itself in a circle ({' -> '.join((*trail, trail[0]))}): "
                "none of them can be ready first",
                key=False,
            )


def _edges(tree: Tree) -> dict[str, list[str]]:
    """Private service to the private services that it refers to; stores refer to nothing."""
    private = {
        name: table
        for name, table in mentions.tables(tree, "service")
        if mentions.speaks_http(table) and table.get("route") is False
    }
    common = mentions.variables(tree.get("env"))
    edges = {}
    for name, table in private.items():
        variables = {**common, **mentions.variables(table.get("env"))}
        texts = (*mentions.strings(table.get("run")), *variables.values())
        asked = (found.name for found in references.of(texts) if found.kind == "attribute")
        edges[name] = [other for other in asked if other in private and other != name]
    return edges


def _cycle(start: str, edges: dict[str, list[str]], done: set[str]) -> tuple[str, ...]:
    """The first circle reached from ``start``; what was walked is added to ``done``."""
    trail: list[str] = []
    todo: list[tuple[str, bool]] = [(start, False)]
    while todo:
        name, leaving = todo.pop()
        if leaving:
            trail.pop()
        elif name in trail:
            return tuple(trail[trail.index(name) :])
        elif name not in done:
            done.add(name)
            trail.append(name)
            todo.append((name, True))
            todo.extend((other, False) for other in reversed(edges[name]))
    return ()


def missing_secrets(stack: Stack, have: Iterable[str]) -> tuple[str, ...]:
    """The secrets that the stack asks for and ``have`` lacks; those of programs first."""
    known = set(have)
    return tuple(name for name in stack.asked if name not in known)


CONTAINERS = "images need --target docker"
WITHOUT = "without image and build it runs on the machine"


def packed(stack: Stack) -> tuple[Path, ...]:
    """What only a target with containers can run, as paths of the file."""
    owners = (("service", stack.services), ("job", stack.jobs))
    programs = tuple(
        (kind, name, "build" if owner.image is None else "image")
        for kind, tables in owners
        for name, owner in tables.items()
        if owner.packed
    )
    stores = (("data", name, "image") for name, table in stack.data.items() if table.contained)
    edge = () if stack.edge.image is None else (("edge", "image"),)
    return (*programs, *stores, *edge)


def warnings(stack: Stack, report: Report) -> tuple[Problem, ...]:
    """What is allowed but probably not meant, in the order of the file."""
    for name, service in stack.services.items():
        owner: Path = ("service", name)
        if service.http and service.route is not None and service.ready is None:
            report.add(
                owner,
                "is published without ready: a replica gets traffic as soon as it accepts "
                'connections; say ready = "/health/ready"',
            )
        if service.http and service.singleton:
            report.add((*owner, "singleton"), "a deploy stops it before the next one starts")
        for message in _command(service):
            report.add((*owner, "run"), message)
    if stack.edge.hsts is not None:
        report.add(("edge", "hsts"), "is sent only once gapless drill tls has held on this stack")
    for name, job in stack.jobs.items():
        if any(word in _SHELL for word in job.run):
            report.add(("job", name, "run"), _no_shell(job.run))
    return report.problems


def _command(service: Service) -> Iterator[str]:
    words = service.run
    if any(word in _SHELL for word in words):
        yield _no_shell(words)
    if "--reload" in words:
        yield "--reload is for development: a deploy replaces the code"
    programs = {word.rsplit("/", 1)[-1] for word in words[:3]}
    for program, option in KEEP_ALIVE.items():
        if (
            service.http
            and program in programs
            and not any(word.split("=")[0] == option for word in words)
        ):
            yield (
                f"{program} drops idle connections after 5 s while the edge may be using them: "
                f"add {option} 3600"
            )


def _no_shell(words: tuple[str, ...]) -> str:
    mark = next(word for word in words if word in _SHELL)
    return f'"{mark}" is passed to the program as it is: no shell reads this'


def _last(items: Any, wanted: str) -> int:
    return max(position for position, item in enumerate(items) if item == wanted)


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        yield path, value
    for key, below in children:
        yield from _leaves((*path, key), below)
