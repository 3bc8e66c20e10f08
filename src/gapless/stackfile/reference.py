"""The reference of the file's keys, for ``gapless docs``: generated from the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gapless import errors
from gapless.model import units
from gapless.stackfile import schema, shape, unknown

EXAMPLES: dict[str, str] = {
    "gapless": "1",
    "name": '"chat"',
    "domains": '["chat.example.com"]',
    "secrets": '["SESSION_KEY"]',
    "env": '{ DATABASE_URL = "${db.url}" }',
    "source": '"."',
    "include": '["web/dist/**"]',
    "setup": '["uv sync --frozen"]',
    "keep": "5",
    "registries": '{ "ghcr.io" = { user = "me", password = "GHCR_TOKEN" } }',
    "registries.NAME.user": '"me"',
    "registries.NAME.password": '"GHCR_TOKEN"',
    "service": '{ web = { run = "uvicorn app:app --uds ${socket}" } }',
    "service.NAME.run": '"uvicorn app:app --uds ${socket} --timeout-keep-alive 3600"',
    "service.NAME.image": '"ghcr.io/me/chat:1.4"',
    "service.NAME.build": '"backend"',
    "service.NAME.build.context": '"backend"',
    "service.NAME.build.dockerfile": '"Dockerfile"',
    "service.NAME.build.target": '"production"',
    "service.NAME.build.args": '{ VERSION = "1.4" }',
    "service.NAME.build.base": '"python:3.12-slim"',
    "service.NAME.entrypoint": '["/entry.sh"]',
    "service.NAME.user": '"1000:1000"',
    "service.NAME.aliases": '["my_app"]',
    "service.NAME.hosts": '{ "host.docker.internal" = "host-gateway" }',
    "service.NAME.volumes": '{ "/media" = "${media.path}" }',
    "service.NAME.volumes.NAME.source": '"${media.path}"',
    "service.NAME.volumes.NAME.read_only": "true",
    "service.NAME.replicas": "3",
    "service.NAME.singleton": "true",
    "service.NAME.cwd": '"backend"',
    "service.NAME.env": '{ LOG_LEVEL = "info" }',
    "service.NAME.secrets": '["SESSION_KEY"]',
    "service.NAME.port": "9000",
    "service.NAME.route": '"/api"',
    "service.NAME.route.path": '"/api"',
    "service.NAME.route.host": '"api.example.com"',
    "service.NAME.private": '{ allow = ["10.0.0.0/8"], login = "FLOWER_PASSWORD" }',
    "service.NAME.private.allow": '["10.0.0.0/8", "2001:db8::/32"]',
    "service.NAME.private.login": '{ ops = "OPS_PASSWORD" }',
    "service.NAME.sticky": '"cookie"',
    "service.NAME.ready": '"/health/ready"',
    "service.NAME.ready.path": '"/health/ready"',
    "service.NAME.ready.command": '"python -m chat.ping"',
    "service.NAME.ready.every": '"1s"',
    "service.NAME.ready.timeout": '"2s"',
    "service.NAME.ready.after": "3",
    "service.NAME.live": '"/health/live"',
    "service.NAME.live.path": '"/health/live"',
    "service.NAME.live.command": '"python -m chat.alive"',
    "service.NAME.live.every": '"5s"',
    "service.NAME.live.timeout": '"2s"',
    "service.NAME.live.after": "3",
    "service.NAME.start": '"60s"',
    "service.NAME.drain": '"60s"',
    "service.NAME.goodbye": '"100/s"',
    "service.NAME.grace": '"10s"',
    "service.NAME.signal": '"INT"',
    "service.NAME.watch": '"5s"',
    "service.NAME.surge": '"all"',
    "service.NAME.switch": '"atomic"',
    "service.NAME.timeout": '"60s"',
    "service.NAME.protocol": '"h2"',
    "service.NAME.tunnel": '"1h"',
    "service.NAME.body": '"50M"',
    "service.NAME.concurrency": "100",
    "service.NAME.queue": '"5s"',
    "service.NAME.queue_length": "500",
    "service.NAME.wait": '"20s"',
    "service.NAME.reserve": '{ cpu = 1, memory = "512M" }',
    "service.NAME.reserve.cpu": "1",
    "service.NAME.reserve.memory": '"512M"',
    "service.NAME.limits": '{ cpu = 1, memory = "512M" }',
    "service.NAME.limits.cpu": "1",
    "service.NAME.limits.memory": '"512M"',
    "service.NAME.recycle": '{ age = "1d", requests = 100000 }',
    "service.NAME.recycle.age": '"1d"',
    "service.NAME.recycle.requests": "100000",
    "service.NAME.scale": "{ max = 10, rps = 100 }",
    "service.NAME.scale.max": "10",
    "service.NAME.scale.min": "1",
    "service.NAME.scale.cpu": '"70%"',
    "service.NAME.scale.memory": '"80%"',
    "service.NAME.scale.rps": "100",
    "service.NAME.scale.connections": "200",
    "service.NAME.scale.latency": '"200ms"',
    "service.NAME.scale.queue": '"cache:default"',
    "service.NAME.scale.backlog": "100",
    "service.NAME.scale.up_after": '"0s"',
    "service.NAME.scale.down_after": '"5m"',
    "job": '{ migrate = { run = "alembic upgrade head", when = "release" } }',
    "job.NAME.run": '"alembic upgrade head"',
    "job.NAME.image": '"ghcr.io/me/chat:1.4"',
    "job.NAME.build": '"backend"',
    "job.NAME.build.context": '"backend"',
    "job.NAME.build.dockerfile": '"Dockerfile"',
    "job.NAME.build.target": '"production"',
    "job.NAME.build.args": '{ VERSION = "1.4" }',
    "job.NAME.build.base": '"python:3.12-slim"',
    "job.NAME.entrypoint": '["/entry.sh"]',
    "job.NAME.user": '"1000:1000"',
    "job.NAME.hosts": '{ "old.example.com" = "10.0.0.5" }',
    "job.NAME.volumes": '{ "/media" = "${media.path}" }',
    "job.NAME.volumes.NAME.source": '"${media.path}"',
    "job.NAME.volumes.NAME.read_only": "true",
    "job.NAME.when": '"release"',
    "job.NAME.zone": '"Europe/Berlin"',
    "job.NAME.catch_up": '"6h"',
    "job.NAME.timeout": '"10m"',
    "job.NAME.reversible": "false",
    "job.NAME.cwd": '"backend"',
    "job.NAME.env": '{ LOG_LEVEL = "info" }',
    "job.NAME.secrets": '["SESSION_KEY"]',
    "data": '{ db = { type = "postgres" } }',
    "data.NAME.type": '"postgres"',
    "data.NAME.version": "18",
    "data.NAME.image": '"postgres:18"',
    "data.NAME.port": "5433",
    "data.NAME.settings": "{ max_connections = 200 }",
    "data.NAME.url": '"${secret.DB_URL}"',
    "edge": '{ listen = "*:80" }',
    "edge.listen": '"127.0.0.1:8080"',
    "edge.shared": "true",
    "edge.tls_listen": '"127.0.0.1:8443"',
    "edge.tls": '"self-signed"',
    "edge.tls.cert": '"tls/fullchain.pem"',
    "edge.tls.key": '"tls/key.pem"',
    "edge.acme": '{ email = "ops@example.com" }',
    "edge.acme.directory": '"https://acme-staging-v02.api.letsencrypt.org/directory"',
    "edge.acme.email": '"ops@example.com"',
    "edge.acme.ca": '"tls/our-root.pem"',
    "edge.hsts": '"1y"',
    "edge.hsts.age": '"1y"',
    "edge.hsts.subdomains": "true",
    "edge.hsts.preload": "true",
    "edge.maintenance_page": '"pages/maintenance.html"',
    "edge.allow": '["10.0.0.0/8"]',
    "edge.max_connections": "10000",
    "edge.access_log": "true",
    "edge.rate_limit": '"100/s"',
    "edge.rate_limit.rate": '"5/m"',
    "edge.rate_limit.burst": "200",
    "edge.rate_limit.path": '"/login"',
    "edge.rate_limit.method": '"POST"',
    "edge.rate_limit.key": '"header:X-Api-Key"',
    "edge.rate_limit.allow": '["10.0.0.0/8"]',
    "edge.connections": "100",
    "edge.body": '"10M"',
    "edge.binary": '"/usr/sbin/haproxy"',
    "edge.image": '"haproxy:2.8"',
    "edge.trusted": '["10.0.0.0/8"]',
    "edge.proxy_protocol": "true",
    "edge.cors": '"https://app.example.com"',
    "edge.cors.origins": '["https://app.example.com", "https://admin.example.com:8443"]',
    "edge.cors.path": '"/api"',
    "edge.cors.methods": '["GET", "POST"]',
    "edge.cors.headers": '["Content-Type", "X-CSRF-Token"]',
    "edge.cors.expose": '["X-Request-ID"]',
    "edge.cors.credentials": "true",
    "edge.cors.max_age": '"1h"',
    "edge.private": '{ "/admin" = "ADMIN_PASSWORD", "/metrics" = ["10.0.0.0/8"] }',
    "edge.private.NAME.allow": '["10.0.0.0/8", "2001:db8::/32"]',
    "edge.private.NAME.login": '{ ops = "OPS_PASSWORD" }',
    "edge.static": '{ "/static" = "web/dist" }',
    "edge.static.NAME.dir": '"web/dist"',
    "edge.static.NAME.cache": '"1h"',
    "edge.static.NAME.index": '"index.html"',
    "edge.static.NAME.fallback": '"index.html"',
    "edge.redirects": '{ "/old/*" = "/new/*", "www.example.com" = "example.com" }',
    "edge.redirects.NAME.to": '"/new"',
    "edge.redirects.NAME.status": "301",
    "edge.headers": '{ "X-Frame-Options" = "DENY" }',
    "edge.compress": "false",
    "drill": '{ get = ["/"] }',
    "drill.get": '["/", "/health/ready"]',
    "drill.post": '["/echo"]',
    "drill.slow": '"/slow"',
    "drill.socketio": '"/socket.io"',
    "drill.websocket": '"/ws"',
    "drill.host": '"chat.example.com"',
    "drill.body": '"1K"',
    "drill.timeout": '"30s"',
    "for": "{ staging = { service = { web = { replicas = 1 } } } }",
    "for.NAME": '{ service = { web = { replicas = 1 } }, unset = ["service.web.sticky"] }',
    "for.NAME.unset": '["service.web.sticky"]',
}
"""What one writes to the right of the key. Tests hold every key to one that the loader accepts."""
_OVERLAY = {"for": "by name", "for.NAME": "", "for.NAME.unset": ""}
_FORMS = {
    units.DURATION_FORM: "duration",
    units.SIZE_FORM: "size",
    units.RATE_FORM: "rate",
    units.PATH_FORM: "path",
    units.PERCENT_FORM: "percentage",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the language. ``default`` None: absent, unless ``required``."""

    key: str
    """Full path, ``NAME`` for what the author names: ``service.NAME.run``."""
    table: str
    """``[service.NAME]``, or ``""`` at the root."""
    type: str
    default: str | None
    required: bool
    example: str
    description: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        last = self.key.rpartition(".")[2]
        facts = "required" if self.required else f"default {self.default or 'none'}"
        lines = [f"{self.key}  ({self.type}; {facts})", f"    {self.description}"]
        table = f"{self.table} " if self.table else ""
        if last != shape.ANY and self.example:
            lines.append(f"    {table}{last} = {self.example}")
        return "\n".join(lines)


def entries() -> tuple[Key, ...]:
    """Every key, in the order of the model."""
    return tuple(_keys())


def find(asked: str) -> tuple[Key, ...]:
    """The keys below a table, or those of that name; a service's own name may stand for NAME.

    Raises UsageError, with what was probably meant, when there is none.
    """
    known = entries()
    wanted = asked.strip("[]").split(".")
    by_path = [key for key in known if _matches(key.key.split("."), wanted)]
    by_name = [key for key in known if key.key.rpartition(".")[2] == asked]
    found = tuple(dict.fromkeys([*by_path, *by_name]))
    if found:
        return found
    if any(asked in names for names in unknown.LATER_KEYS.values()):
        raise errors.UsageError(f'"{asked}" {unknown.LATER}')
    words = [key.key.rpartition(".")[2] for key in known if not key.key.endswith(shape.ANY)]
    meant = unknown.closest(wanted[-1], dict.fromkeys(words))
    raise errors.UsageError(
        f'no key is named "{asked}"' + (f'; did you mean "{meant}"?' if meant else ""),
        hint="gapless docs lists them all",
    )


def _keys() -> Iterator[Key]:
    whole = schema.schema()
    for path, field in shape.walk():
        name = ".".join(path)
        node = _node(whole, path)
        default = node.get("default")
        yield Key(
            key=name,
            table=f"[{'.'.join(path[:-1])}]" if len(path) > 1 else "",
            type=_type(node, whole),
            default=None if default is None or default == [] else json.dumps(default),
            required=field.is_required(),
            example=EXAMPLES.get(name, ""),
            description=field.description or "",
        )
    for name in _OVERLAY:
        path = tuple(name.split("."))
        node = _node(whole, path)
        yield Key(
            key=name,
            table=f"[{'.'.join(path[:-1])}]" if len(path) > 1 else "",
            type=_type(node, whole),
            default=None,
            required=False,
            example=EXAMPLES[name],
            description=_resolved(node, whole).get("description", ""),
        )


def _matches(key: list[str], wanted: list[str]) -> bool:
    """Whether ``wanted`` is the key, or a table around it."""
    if len(wanted) > len(key):
        return False
    return all(have in (asked, shape.ANY) for have, asked in zip(key, wanted, strict=False))


def _node(whole: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The schema of a key. Raises KeyError: the schema and the model disagree."""
    node = whole
    for key in path:
        node = _table(node, whole)
        if key == shape.ANY:
            inner = node.get("patternProperties") or {"": node["additionalProperties"]}
            node = next(iter(inner.values()))
        else:
            node = node["properties"][key]
    return node


def _table(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, whole)
    for form in node.get("anyOf", ()):
        table = _resolved(form, whole)
        if "properties" in table:
            return table
    return node


def _resolved(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    return {**whole["$defs"][node["$ref"].rpartition("/")[2]], **node, "$ref": ""}


def _type(node: dict[str, Any], whole: dict[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(form, whole) for form in node["anyOf"]))
    if "$ref" in node or "properties" in node or "patternProperties" in node:
        return "table"
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return " or ".join(json.dumps(value) for value in node["enum"])
    if node.get("type") == "array":
        return f"list of {_type(node.get('items', {}), whole)}s"
    if form := _FORMS.get(node.get("pattern", "")):
        return form
    words = {"integer": "whole number", "boolean": "true or false"}
    kind = str(node.get("type", "value"))
    if kind == "object":
        return "table"
    return words.get(kind, kind) + _bounds(node)


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f", at least {low}"
    return f" above {node['exclusiveMinimum']}" if "exclusiveMinimum" in node else ""
