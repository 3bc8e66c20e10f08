"""A stack as a Compose file that runs without gapless. Values in, a tree of YAML values out."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from gapless import errors
from gapless.compose import losses, proxies, singles, stores
from gapless.compose.tree import kind_of
from gapless.model.data import Data
from gapless.model.image import Build, Volume
from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.model.units import format_size
from gapless.stackfile import references
from gapless.stackfile.references import Reference
from gapless.targets.keys import Line

EDGE = "edge"
TRAEFIK = "traefik:v3"
PYTHON = "python:3.12-slim"
PORT = 8000
"""Where a program listens that asks for ${port}: each container has a network of its own."""
USER = DATABASE = "app"
WHY = ":?secret"
"""What stands behind a secret's variable; gapless import knows it again by this."""
Tree = dict[str, Any]


def tree(stack: Stack) -> Tree:
    """The Compose file. Raises UsageError for what cannot run in a container at all."""
    services: Tree = {}
    for name, service in stack.services.items():
        services[name] = _service(stack, name, service)
    for name, job in stack.jobs.items():
        services[name] = _job(stack, name, job)
    volumes: Tree = {}
    owners: list[Service | Job] = [*stack.services.values(), *stack.jobs.values()]
    asked = {one.name for o in owners for one in references.of(references.texts(stack, o))}
    for name, store in stack.data.items():
        if store.type == "files":
            volumes[name] = {}
        elif store.runs:
            held = _held(stack, f"{name}-data")
            services[name] = store_tree(name, store, held)
            if name not in asked:
                services[name][stores.STAYS] = stores.STORE
            volumes[held] = {}
    if any(service.http and service.route for service in stack.services.values()):
        services[EDGE] = _edge(stack)
        if stack.tls is not None:
            volumes[_held(stack, "certificates")] = {}
    made: Tree = {"name": stack.id, "services": services}
    tables = [owner.volumes for owner in (*stack.services.values(), *stack.jobs.values())]
    mounted = {v.secret for table in tables for v in table.values() if v.secret}
    if mounted:
        made["secrets"] = {name: {"environment": name} for name in sorted(mounted)}
    return made | ({"volumes": volumes} if volumes else {})


def text(stack: Stack, lines: Iterable[Line]) -> str:
    """The file, with the report of what it cannot promise on top."""
    head = [
        f"# {stack.id}, without gapless: docker compose up -d",
        "#",
        *(_comment(line) for line in lines if line.kind != "kept" or line.text),
        "",
    ]
    body = yaml.dump(tree(stack), Dumper=_Dumper, sort_keys=False, width=98)
    return "\n".join(head) + "\n" + body


class _Dumper(yaml.SafeDumper):
    """Quotes also what only newer readers take for a number: ``0E0``, ``0o17``."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if kind_of(value) == "str" else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def _comment(line: Line) -> str:
    said = f"# {line.kind.ljust(8)}  {line.key}: {line.text}"
    return "".join(c if c.isprintable() else " " for c in said).rstrip()


def report(stack: Stack, file: Mapping[str, Any]) -> list[Line]:
    """What is kept, emulated and refused of the keys of a file, and of what is always done."""
    lines = [*losses.ALWAYS, *losses.report(file, stack)]
    bare = [n for n, s in stack.services.items() if not s.packed]
    if any("${socket}" in word for name in bare for word in stack.services[name].run):
        lines.append(
            Line("${socket}", "refused", "no socket is shared with Traefik: say ${host}, ${port}")
        )
    return lines


def _service(stack: Stack, name: str, service: Service) -> Tree:
    made = _program(stack, name, service)
    if service.aliases:
        made["networks"] = {"default": {"aliases": list(service.aliases)}}
    port = _port(service)
    if port is not None:
        made["expose"] = [str(port)]
        made["labels"] = _labels(stack, name, service, port)
    if (check := _health(stack, service, port)) is not None:
        made["healthcheck"] = check
    stop = service.grace if service.http else service.drain
    made["stop_grace_period"] = seconds(stop)
    if service.signal is not None:
        made["stop_signal"] = f"SIG{service.signal}"
    made["restart"] = "unless-stopped"
    deploy = _deploy(name, service, made)
    if deploy:
        made["deploy"] = deploy
    return made


def _job(stack: Stack, name: str, job: Job) -> Tree:
    made = _program(stack, name, job)
    made["restart"] = "no"
    if job.when not in ("release", "after-release"):
        made["profiles"] = ["manual"]
    return made


def _program(stack: Stack, name: str, owner: Service | Job) -> Tree:
    """What a service and a job have in common."""
    made: Tree = _image(stack, owner)
    lookup = _lookup(stack, owner)
    if owner.entrypoint is not None:
        made["entrypoint"] = [_words(word, lookup) for word in owner.entrypoint]
    if owner.run:
        made["command"] = [_words(word, lookup) for word in owner.run]
    if owner.user is not None:
        made["user"] = owner.user
    if owner.cwd is not None:
        folder = (
            owner.cwd if owner.packed and not owner.derived else posixpath.join("/app", owner.cwd)
        )
        made["working_dir"] = folder.replace("$", "$$")
    env = _environment(stack, owner, lookup)
    if env:
        made["environment"] = env
    mounts = [_volume(place, v) for place, v in owner.volumes.items() if v.secret is None]
    files = [{"source": v.secret, "target": p} for p, v in owner.volumes.items() if v.secret]
    if files:
        made["secrets"] = files
    if not owner.packed:
        mounts += [
            {"type": "volume", "source": store, "target": f"/{store}"}
            for store in _stores(stack, owner)
        ]
    if mounts:
        made["volumes"] = mounts
    if owner.hosts:
        made["extra_hosts"] = dict(owner.hosts)
    after = _after(stack, name, owner)
    if after:
        made["depends_on"] = after
    return made


def _image(stack: Stack, owner: Service | Job) -> Tree:
    if owner.build is not None and not owner.derived:
        return {"build": _build(stack, owner.build)}
    if owner.image is not None:
        named = owner.image
        special = stores.kind_of(named) or proxies.kind_of(named) or singles.keeper(named)
        return {"image": named} | ({stores.STAYS: stores.STAYS_IMAGE} if special else {})
    base = PYTHON if owner.build is None else owner.build.base
    lines = [f"FROM {base}", "WORKDIR /app", "COPY . ."]
    # A list, in the form that no shell reads.
    lines += [f"RUN {_exec(command)}" for command in stack.setup]
    source = posixpath.normpath(stack.source)
    return {
        "build": {
            "context": source,
            "dockerfile_inline": "\n".join(lines).replace("$", "$$") + "\n",
        }
    }


def _exec(command: tuple[str, ...]) -> str:
    return json.dumps(list(command))


def _build(stack: Stack, build: Build) -> Tree:
    made: Tree = {"context": posixpath.normpath(posixpath.join(stack.source, build.context))}
    if build.dockerfile is not None:
        made["dockerfile"] = build.dockerfile.replace("$", "$$")
    if build.target is not None:
        made["target"] = build.target
    if build.args:
        made["args"] = {key: plain(value) for key, value in build.args.items()}
    return made


def _volume(place: str, volume: Volume) -> Tree:
    made: Tree = {"type": "bind", "source": volume.source, "target": place}
    if volume.store is not None:
        rest = volume.source.partition("}")[2].lstrip("/")
        made |= {"type": "volume", "source": volume.store}
        if rest:
            made["volume"] = {"subpath": rest}
    elif not volume.source.startswith("/"):
        made["source"] = f"./{volume.source}" if volume.source != "." else "."
    if volume.read_only:
        made["read_only"] = True
    return made


def plain(value: str) -> str:
    """A text that holds no variables: ``$${`` is ``${`` to the stack file, ``$$`` to Compose."""
    return references.substitute(value, str).replace("$", "$$")


def _words(value: str, lookup: Any) -> str:
    """A text with its placeholders as variables and names of Compose."""
    made, at = [], 0
    for found in references.positions(value):
        made.append(value[at : found.start()].replace("$", "$$"))
        whole = found[0]
        made.append("$${" if whole == "$${" else lookup(whole))
        at = found.end()
    return "".join(made) + value[at:].replace("$", "$$")


def _lookup(stack: Stack, owner: Service | Job) -> Any:
    def said(whole: str) -> str:
        (piece,) = references.scan(whole)
        if not isinstance(piece, Reference):
            raise errors.UsageError(f"{whole}: is no placeholder")
        return _meant(stack, owner, piece)

    return said


def _meant(stack: Stack, owner: Service | Job, piece: Reference) -> str:
    match piece.kind:
        case "secret":
            return f"${{{piece.name}{WHY}}}"
        case "env" if piece.default is None:
            return f"${{{piece.name}:?must be set}}"
        case "env":
            return f"${{{piece.name}:-{(piece.default or '').replace('$', '$$')}}}"
        case "own":
            return _own(piece.name, owner)
    if piece.name in stack.data:
        return _of_store(piece.name, stack.data[piece.name], piece.attribute, stack, owner)
    return _of_service(piece.name, stack.services[piece.name], piece.attribute)


def _own(name: str, owner: Service | Job) -> str:
    port = _port(owner) if isinstance(owner, Service) else None
    told = {"host": "0.0.0.0", "port": str(port or PORT), "release": "compose"}  # noqa: S104
    # A replica's own name is the container's, which a shell would have to look up.
    return told.get(name, "/tmp/app.sock" if name == "socket" else "compose")  # noqa: S108


def _of_service(name: str, service: Service, attribute: str) -> str:
    port = _port(service) or PORT
    return {"url": f"http://{name}:{port}", "host": name, "port": str(port)}[attribute]


def _password(name: str) -> str:
    return f"${{{name.upper().replace('-', '_')}_PASSWORD{WHY}}}"


def _of_store(name: str, store: Data, attribute: str, stack: Stack, owner: Service | Job) -> str:
    if store.url is not None:
        return _words(store.url, _lookup(stack, owner))
    if store.type == "files":
        return f"/{name}"
    password = _password(name)
    if store.type == "redis":
        told = {"user": "default", "port": "6379", "database": "0"}
        url = f"redis://:{password}@{name}:6379/0"
    else:
        told = {"user": USER, "port": "5432", "database": DATABASE}
        url = f"postgresql://{USER}:{password}@{name}:5432/{DATABASE}"
    told |= {"host": name, "password": password}
    return told.get(attribute, url)


def _environment(stack: Stack, owner: Service | Job, lookup: Any) -> dict[str, str]:
    seen = stack.secrets if owner.secrets is None else owner.secrets
    made = {name: f"${{{name}{WHY}}}" for name in seen}
    for name, value in {**stack.env, **owner.env}.items():
        made[name] = _words(value, lookup)
    return made


def _stores(stack: Stack, owner: Service | Job) -> list[str]:
    """Files stores that a program of the release asks the path of."""
    found = references.of(references.texts(stack, owner))
    return list(
        dict.fromkeys(r.name for r in found if r.kind == "attribute" and r.attribute == "path")
    )


def _after(stack: Stack, name: str, owner: Service | Job) -> Tree:
    asked = references.of(references.texts(stack, owner))
    stores = dict.fromkeys(
        r.name
        for r in asked
        if r.kind == "attribute" and r.name in stack.data and stack.data[r.name].runs
    )
    made: Tree = {store: {"condition": "service_healthy"} for store in stores}
    if isinstance(owner, Service):
        first = [job for job, table in stack.jobs.items() if table.when == "release"]
        made |= {job: {"condition": "service_completed_successfully"} for job in first}
    elif owner.when == "after-release":
        for other, service in stack.services.items():
            healthy = service.ready is not None
            condition = "service_healthy" if healthy else "service_started"
            made[other] = {"condition": condition}
    return made


def _port(service: Service) -> int | None:
    if not service.http:
        return None
    return service.port or PORT


def _labels(stack: Stack, name: str, service: Service, port: int) -> dict[str, str]:
    route = service.route
    told_port = {f"traefik.http.services.{name}.loadbalancer.server.port": str(port)}
    if route is None:
        return {"traefik.enable": "false"} | told_port
    hosts = [route.host] if route.host else list(stack.domains)
    parts = []
    if hosts and hosts != ["*"]:
        told = " || ".join(f"Host(`{host}`)" for host in hosts)
        parts.append(f"({told})" if len(hosts) > 1 else told)
    if route.path != "/" or not parts:
        parts.append(f"PathPrefix(`{route.path}`)")
    made = {
        "traefik.enable": "true",
        f"traefik.http.routers.{name}.rule": " && ".join(parts).replace("$", "$$"),
        **told_port,
    }
    if stack.tls == "auto":
        made[f"traefik.http.routers.{name}.tls.certresolver"] = "acme"
    elif stack.tls is not None:
        made[f"traefik.http.routers.{name}.tls"] = "true"
    if service.sticky:
        made[f"traefik.http.services.{name}.loadbalancer.sticky.cookie"] = "true"
    return made


def _health(stack: Stack, service: Service, port: int | None) -> Tree | None:
    probe = service.ready
    if probe is None:
        return None
    if probe.path is not None:
        test = ["CMD", "curl", "-fsS", f"http://localhost:{port}{probe.path.replace('$', '$$')}"]
    else:
        lookup = _lookup(stack, service)
        test = ["CMD", *(_words(word, lookup) for word in probe.command or ())]
    made: Tree = {
        "test": test,
        "interval": seconds(probe.every),
        "timeout": seconds(probe.timeout),
        "retries": probe.after,
    }
    # Compose counts its retries on top of that.
    if service.start != 30 and (free := service.start - probe.after * probe.every) > 0:
        made["start_period"] = seconds(free)
    return made


def _deploy(name: str, service: Service, program: Tree) -> Tree:
    made: Tree = {}
    if service.replicas == "cpus":
        made["replicas"] = 1
    elif service.replicas != 1:
        made["replicas"] = service.replicas
    resources = {
        kind: {
            **({"cpus": f"{table.cpu:g}"} if table.cpu is not None else {}),
            **({"memory": format_size(table.memory)} if table.memory is not None else {}),
        }
        for kind, table in (("limits", service.limits), ("reservations", service.reserve))
    }
    if any(resources.values()):
        made["resources"] = {kind: table for kind, table in resources.items() if table}
    update: Tree = {}
    if service.surge != 1:
        update["parallelism"] = 0 if service.surge == "all" else service.surge
    if service.watch != 5:
        update["monitor"] = seconds(service.watch)
    words = [*program.get("entrypoint", []), *program.get("command", [])]
    alike = singles.clock(name, words) or singles.keeper(program.get("image", ""))
    if update or (alike and not service.singleton):
        made["update_config"] = {**update, "order": "start-first", "failure_action": "rollback"}
    return made


def seconds(value: float) -> str:
    """A duration as Compose writes it: ``90s``, ``250ms``."""
    whole = round(value * 1000)
    return f"{whole // 1000}s" if whole % 1000 == 0 else f"{whole}ms"


def _held(stack: Stack, volume: str) -> str:
    """The name of a volume that no files store has: nobody else may mount it."""
    while volume in stack.data:
        volume += "-1"
    return volume


def store_tree(name: str, store: Data, volume: str) -> Tree:
    """A store as a service of Compose, with its files in a volume of this name."""
    password = _password(name)
    made: Tree
    if store.type == "redis":
        image = store.image or "valkey/valkey:8"
        kind = "redis" if "redis" in image.rpartition("/")[2] else "valkey"
        words = [f"{kind}-server", "--requirepass", password, "--appendonly", "yes"]
        for key, value in store.settings.items():
            words += [f"--{key}", _setting(value)]
        made = {
            "image": image,
            "command": words,
            "environment": {f"{kind.upper()}CLI_AUTH": password},
        }
        test = ["CMD", f"{kind}-cli", "ping"]
        place = "/data"
    else:
        version = "" if store.version is None else f":{store.version}"
        made = {"image": store.image or f"postgres{version}"}
        if store.settings:
            made["command"] = ["postgres"]
            for key, value in store.settings.items():
                made["command"] += ["-c", f"{key}={_setting(value)}"]
        made["environment"] = {
            "POSTGRES_USER": USER, "POSTGRES_DB": DATABASE, "POSTGRES_PASSWORD": password,
        }  # fmt: skip
        test = ["CMD", "pg_isready", "-q", "-h", "localhost", "-U", USER, "-d", DATABASE]
        # From 18 on the image keeps a folder for each major version below this one.
        major = store.version or _tagged(store.image)
        old = major is not None and major < 18
        place = "/var/lib/postgresql/data" if old else "/var/lib/postgresql"
    made["volumes"] = [{"type": "volume", "source": volume, "target": place}]
    made["healthcheck"] = {"test": test, "interval": "5s", "timeout": "3s", "retries": 10}
    made["restart"] = "unless-stopped"
    return made


def _tagged(image: str | None) -> int | None:
    """The major version that a tag begins with: 16 of ``postgres:16.4``."""
    found = re.search(r":([0-9]+)[^:/]*$", (image or "").partition("@")[0])
    return None if found is None else int(found[1])


def _setting(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("$", "$$")


def _edge(stack: Stack) -> Tree:
    command = [
        "--providers.docker",
        "--providers.docker.exposedbydefault=false",
        "--entrypoints.web.address=:80",
        "--accesslog=true",
        "--accesslog.format=json",
    ]
    ports = [_published(stack.edge.listen, 80)]
    mounts: list[Tree] = [
        {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock",
         "read_only": True}
    ]  # fmt: skip
    if stack.tls is not None:
        ports.append(_published(stack.edge.tls_listen, 443))
        command += [
            "--entrypoints.web.http.redirections.entrypoint.to=websecure",
            "--entrypoints.web.http.redirections.entrypoint.scheme=https",
            "--entrypoints.websecure.address=:443",
            "--certificatesresolvers.acme.acme.storage=/certificates/acme.json",
            "--certificatesresolvers.acme.acme.httpchallenge.entrypoint=web",
        ]
        held = _held(stack, "certificates")
        mounts.append({"type": "volume", "source": held, "target": "/certificates"})
    return {
        "image": TRAEFIK,
        "command": command,
        "ports": ports,
        "volumes": mounts,
        "restart": "unless-stopped",
    }


def _published(listen: str, target: int) -> Tree:
    host, _, port = listen.rpartition(":")
    made: Tree = {"target": target, "published": port, "protocol": "tcp"}
    return made if host == "*" else {**made, "host_ip": host.strip("[]")}
